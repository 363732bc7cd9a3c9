"""What a system call takes and returns."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class Param:
    """One parameter of a system call.

    :ivar name: the kernel's own name, as in ``events/syscalls/*/format``.
    :ivar index: its position, 0 to 5.
    :ivar ctype: the kernel's type, without ``__user``.
    :ivar kind: what it means. Numbers: ``fd int flags size offset signal mode pid uid gid dev key timer addr
        arg``; pointers: ``path str strv buf iovec array sockaddr fds ptr``; half a 64-bit value: ``u64``.
    :ivar bits: how much of the register counts, 32 or 64; the rest may be garbage.
    :ivar width: like *bits*, but 16 for the few types of which the kernel drops even more.
    :ivar signed: whether the value is signed.
    :ivar pointer: ``"in"``, ``"out"`` or ``"inout"``: who writes behind the pointer; None for numbers.
    :ivar family: for kind ``flags``, the family of :mod:`trapline.abi.flags`.
    :ivar struct: the layout in :mod:`trapline.abi.structs` of what it points to, where it has one.
    :ivar size_of: the parameter that holds the pointed-to size in bytes (or points to it: ``getsockname``).
    :ivar count_of: the parameter that holds the number of elements.
    :ivar filled: the call's result says how much was written.
    :ivar dirfd: for kind ``path``, the parameter it is relative to; None for the working directory.
    :ivar follow: for kind ``path``, whether a symbolic link in the last component is followed.
    :ivar follow_flag: parameter and bit that turn *follow* round.
    :ivar empty_flag: parameter and bit under which ``""`` means *dirfd* itself.
    :ivar empty: ``""`` means *dirfd* itself without any flag.
    :ivar nullable: a null pointer is legal here.
    :ivar half: ``"lo"`` or ``"hi"`` for one register of a 64-bit value.
    """

    __slots__ = (
        "bits",
        "count_of",
        "ctype",
        "dirfd",
        "empty",
        "empty_flag",
        "family",
        "filled",
        "follow",
        "follow_flag",
        "half",
        "index",
        "kind",
        "name",
        "nullable",
        "pointer",
        "signed",
        "size_of",
        "struct",
        "width",
    )

    def __init__(self, index: int, encoded: str) -> None:
        self.ctype, self.name, self.kind, width, *rest = encoded.split(",")
        self.index: Final = index
        self.width = int(width[:-1])
        self.bits = max(self.width, 32)
        self.signed = width[-1] == "s"
        words = {key: value for key, _, value in (word.partition("=") for word in rest)}
        self.pointer = words.get("pointer")
        self.family = words.get("family")
        self.struct = words.get("struct")
        self.size_of = words.get("size_of")
        self.count_of = words.get("count_of")
        self.filled = "filled" in words
        self.dirfd = words.get("dirfd")
        self.follow = words.get("follow") == "1"
        self.follow_flag = _flag(words.get("follow_flag"))
        self.empty_flag = _flag(words.get("empty_flag"))
        self.empty = "empty" in words
        self.nullable = "nullable" in words
        self.half = words.get("half")

    def narrow(self, register: int) -> int:
        """Return the value that the kernel sees in a register: upper bits dropped, sign applied."""
        value = register & ((1 << self.width) - 1)
        if self.signed and value >> (self.width - 1):
            value -= 1 << self.width
        return value

    def __repr__(self) -> str:
        space = "" if self.ctype.endswith("*") else " "
        return f"<Param {self.ctype}{space}{self.name} kind={self.kind}>"


class Signature:
    """Parameters and result of one system call on one architecture.

    :ivar known: False when no prototype is known; *params* is empty then.
    :ivar params: the parameters, one per register.
    :ivar returns: what the result is: ``fd size offset addr pid uid gid mode int none``.
    :ivar cloexec: parameter and bit that ask for close-on-exec on the new fds. None where nothing asks:
        ``dup`` never sets it, ``pidfd_open`` and ``io_uring_setup`` always do, ``openat2`` has it in *how*.
    :ivar paths: the parameters of kind ``path``.
    """

    __slots__ = ("_index", "arch", "cloexec", "known", "name", "params", "paths", "returns")

    def __init__(self, name: str, arch: str, encoded: str | None) -> None:
        head, *rest = (encoded or "int").split(";")
        returns, _, cloexec = head.partition(",cloexec=")
        self.name = name
        self.arch = arch
        self.known = encoded is not None
        self.params: tuple[Param, ...] = tuple([Param(index, text) for index, text in enumerate(rest)])
        self.returns = returns
        self.cloexec = _flag(cloexec or None)
        self.paths: tuple[Param, ...] = tuple([param for param in self.params if param.kind == "path"])
        self._index = {param.name: param for param in self.params}

    def param(self, name: str) -> Param | None:
        """Return the parameter of that name, or None."""
        return self._index.get(name)

    @property
    def buffer_size(self) -> Param | None:
        """The parameter that says how long a buffer is, as of read and write; None where there is none."""
        for param in self.params:
            holder = self._index.get(param.size_of or "")
            if param.kind == "buf" and holder is not None and holder.pointer is None:
                return holder
        return None

    def __repr__(self) -> str:
        inside = ", ".join(f"{param.ctype} {param.name}" for param in self.params).replace("* ", "*")
        return f"<Signature {self.name}({inside if self.known else '?'}) on {self.arch}>"


def _flag(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    name, _, value = text.partition(":")
    return name, int(value, 0)


def parse(name: str, arch: str, encoded: str | None) -> Signature:
    """Read the generated form of a signature; None stands for an unknown prototype."""
    return Signature(name, arch, encoded)
