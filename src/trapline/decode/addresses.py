"""Socket addresses: bytes to records and text."""

from __future__ import annotations

from trapline.abi import flags, structs

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK = 1, 2, 10, 16, 17, 40


class Sockaddr:
    r"""A socket address, decoded.

    ``str()`` is what people write: ``127.0.0.1:80``, ``[::1]:80``, ``/run/x.sock``, ``@abstract``.

    :ivar family: ``AF_INET`` and so on, an ``IntEnum`` where the number is known.
    :ivar host: address in text for IP; the context id for VSOCK; None otherwise.
    :ivar port: for IP and VSOCK; the port id for NETLINK; the interface index for PACKET.
    :ivar path: for UNIX: a file's path, ``"\0name"`` if abstract, ``""`` for an unnamed socket.
    :ivar scope: interface index of a link-local IPv6 address.
    :ivar raw: the bytes it was decoded from.
    """

    __slots__ = ("family", "host", "path", "port", "raw", "scope")

    def __init__(self, family: int, raw: bytes) -> None:
        self.family = family
        self.raw = raw
        self.host: str | None = None
        self.port: int | None = None
        self.path: str | None = None
        self.scope = 0

    def __str__(self) -> str:
        if self.path is not None:
            return "@" + self.path[1:] if self.path.startswith("\0") else self.path or "(unnamed)"
        if self.host is None:
            return self.text() if self.port is None else f"{self.family_text}:{self.port}"
        scope = f"%{self.scope}" if self.scope else ""
        host = f"[{self.host}{scope}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def family_text(self) -> str:
        """``AF_INET`` and so on."""
        return _family_name(self.family)

    def text(self) -> str:
        """Write it as a C initialiser: ``{sa_family=AF_INET, sin_port=htons(80), ...}``."""
        inner = f"sa_family={self.family_text}"
        if self.family == AF_INET and self.host is not None:
            inner += f', sin_port=htons({self.port}), sin_addr=inet_addr("{self.host}")'
        elif self.family == AF_INET6 and self.host is not None:
            inner += f', sin6_port=htons({self.port}), sin6_addr="{self.host}"'
            inner += f", sin6_scope_id={self.scope}" if self.scope else ""
        elif self.family == AF_UNIX and self.path is not None:
            from trapline.decode.memory import quote

            shown = quote(self.path.lstrip("\0").encode(errors="surrogateescape"))
            inner += f", sun_path={'@' if self.path[:1] == chr(0) else ''}{shown}" if self.path else ""
        elif self.family == AF_NETLINK and self.port is not None:
            inner += f", nl_pid={self.port}"
        elif self.family == AF_VSOCK and self.host is not None:
            inner += f", svm_cid={self.host}, svm_port={self.port}"
        elif self.family == AF_PACKET and self.port is not None:
            inner += f", sll_ifindex={self.port}"
        elif len(self.raw) > 2:
            inner += f", sa_data={self.raw[2:].hex()}"
        return f"{{{inner}}}"

    def __repr__(self) -> str:
        return f"<Sockaddr {self.text()}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sockaddr):
            return NotImplemented
        mine = (self.family, self.host, self.port, self.path, self.scope)
        return mine == (other.family, other.host, other.port, other.path, other.scope)

    def __hash__(self) -> int:
        return hash((int(self.family), self.host, self.port, self.path, self.scope))


def _family_name(family: int) -> str:
    from trapline.decode.values import flags_text

    return flags_text("address_family", family)


def sockaddr(data: bytes) -> Sockaddr:
    """Decode a socket address; what is too short or unknown keeps its bytes in ``raw``.

    :param data: as many bytes as the call's address length says.
    """
    data = bytes(data)
    if len(data) < 2:
        return Sockaddr(0, data)
    family = int.from_bytes(data[:2], "little")
    found = Sockaddr(flags.value("address_family", family), data)
    if family == AF_INET and len(data) >= 8:
        found.port = int.from_bytes(data[2:4], "big")
        found.host = ".".join(map(str, data[4:8]))
    elif family == AF_INET6 and len(data) >= 24:
        import socket

        found.port = int.from_bytes(data[2:4], "big")
        found.host = socket.inet_ntop(socket.AF_INET6, data[8:24])
        found.scope = int.from_bytes(data[24:28], "little")
    elif family == AF_UNIX:
        # An abstract name is as long as the address says, zeros included; a path ends at its first zero.
        path = data[2:] if data[2:3] == b"\0" else data[2:].split(b"\0", 1)[0]
        found.path = path.decode(errors="surrogateescape")
    elif family == AF_NETLINK and len(data) >= 12:
        found.port = structs.unpack("sockaddr_nl", data).nl_pid
    elif family == AF_PACKET and len(data) >= 20:
        found.port = structs.unpack("sockaddr_ll", data).sll_ifindex
    elif family == AF_VSOCK and len(data) >= 16:
        record = structs.unpack("sockaddr_vm", data)
        found.host, found.port = str(record.svm_cid), record.svm_port
    return found
