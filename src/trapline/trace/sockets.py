"""Socket addresses, options and messages as strace writes them."""

from __future__ import annotations

from trapline.decode.addresses import AF_INET6, AF_NETLINK, sockaddr
from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import flags_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.trace.strace import StraceLine

__all__ = [
    "accepted",
    "address",
    "create",
    "message",
    "messages",
    "option",
    "option_value",
    "several_messages",
]

_AF_INET, _AF_PACKET = (2, 10), 17
_SOL_NETLINK = 270
_NETLINK_OPTIONS = ("", "ADD_MEMBERSHIP", "DROP_MEMBERSHIP", "PKTINFO", "BROADCAST_ERROR", "NO_ENOBUFS", "RX_RING",
                    "TX_RING", "LISTEN_ALL_NSID", "LIST_MEMBERSHIPS", "CAP_ACK", "EXT_ACK",
                    "GET_STRICT_CHK")  # fmt: skip
_NETLINK = {0: "NETLINK_ROUTE", 4: "NETLINK_SOCK_DIAG", 9: "NETLINK_AUDIT", 12: "NETLINK_NETFILTER",
            15: "NETLINK_KOBJECT_UEVENT", 16: "NETLINK_GENERIC"}  # fmt: skip
_ETHERNET = {3: "ETH_P_ALL", 0x800: "ETH_P_IP", 0x806: "ETH_P_ARP", 0x86DD: "ETH_P_IPV6"}


def address(data: bytes) -> str:
    """Write a socket address."""
    family = int.from_bytes(data[:2], "little")
    if family == AF_INET6 and len(data) >= 28:
        found = sockaddr(data)
        flow = int.from_bytes(data[4:8], "big")
        return (
            f"{{sa_family=AF_INET6, sin6_port=htons({found.port}), sin6_flowinfo=htonl({flow}), "
            f'inet_pton(AF_INET6, "{found.host}", &sin6_addr), sin6_scope_id={found.scope}}}'
        )
    if family == AF_NETLINK and len(data) >= 12:
        pid, groups = int.from_bytes(data[4:8], "little", signed=True), int.from_bytes(data[8:12], "little")
        return (
            f"{{sa_family=AF_NETLINK, nl_pid={pid}, nl_groups={f'{groups:#010x}' if groups else '00000000'}}}"
        )
    found = sockaddr(data)
    if family in _AF_INET and found.host is None and len(data) > 2:
        return f"{{sa_family={found.family_text}, sa_data={quote(data[2:])}}}"
    return found.text()


def create(line: StraceLine) -> tuple[list[str], str]:
    """Write socket and socketpair, whose protocol depends on the family."""
    shown = line.arguments()
    protocol, family = line.at("protocol"), line.at("family")
    if family == AF_NETLINK:
        shown[2] = _NETLINK.get(protocol, str(protocol))
    elif family == _AF_PACKET:
        number = (protocol & 0xFF) << 8 | protocol >> 8 & 0xFF
        shown[2] = f"htons({_ETHERNET[number]})" if number in _ETHERNET else f"htons({number:#x})"
    elif family not in _AF_INET:
        shown[2] = str(protocol)
    return shown, ""


def accepted(line: StraceLine) -> tuple[list[str], str]:
    """Write calls that fill in a socket's address: ``[128 => 16]``."""
    shown = line.arguments()
    for param in line.signature.params:
        if param.kind != "sockaddr" or param.size_of is None:
            continue
        holder = line.signature.param(param.size_of)
        if holder is None or holder.pointer is None or not line.values[param.size_of]:
            continue
        before = int.from_bytes(try_read(line.event.read_before, line.values[param.size_of], 4), "little")
        after = int.from_bytes(try_read(line.event.read, line.values[param.size_of], 4), "little")
        changed = not line.unwritten and before != after
        shown[holder.index] = f"[{before} => {after}]" if changed else f"[{before}]"
    return shown, ""


def option(line: StraceLine) -> tuple[list[str], str]:
    """Write getsockopt and setsockopt."""
    shown = line.arguments()
    size = line.at("optlen")
    name = line.signature.name
    if name == "getsockopt":
        first = int.from_bytes(try_read(line.event.read_before, size, 4), "little") if size else 0
        size = int.from_bytes(try_read(line.event.read, size, 4), "little") if size else 0
        shown[4] = f"[{first}]" if line.unwritten or first == size else f"[{first} => {size}]"
        if line.unwritten:
            shown[3] = address_text(line.at("optval"))
            return shown, ""
    number = line.at("optname")
    if line.at("level") == _SOL_NETLINK and 0 < number < len(_NETLINK_OPTIONS):
        shown[2] = f"NETLINK_{_NETLINK_OPTIONS[number]}"
    data = try_read(line.event.read, line.at("optval"), size)
    if data:
        shown[3] = option_value(line.at("level"), line.at("optname"), data)
    return shown, ""


def option_value(level: int, name: int, data: bytes) -> str:
    """Write the value of a socket option."""
    if level == 1 and name == 13 and len(data) >= 8:
        on, seconds = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (0, 4))
        return f"{{l_onoff={on}, l_linger={seconds}}}"
    if level == 1 and name in (20, 21, 66, 67) and len(data) >= 16:
        parts = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8)]
        return f"{{tv_sec={parts[0]}, tv_usec={parts[1]}}}"
    if level == 1 and name == 17 and len(data) >= 12:
        pid, uid, gid = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8))
        return f"{{pid={pid}, uid={uid}, gid={gid}}}"
    if len(data) == 4:
        return f"[{int.from_bytes(data, 'little', signed=True)}]"
    return quote(data, 32)


def messages(line: StraceLine) -> tuple[list[str], str]:
    """Write sendmsg and recvmsg."""
    shown = line.arguments()
    sends = line.signature.name == "sendmsg"
    if sends or not line.unwritten:
        text = message(line, line.at("msg"), None if sends else line.event.result)
        shown[1] = text or shown[1]
    elif line.failed:
        data = try_read(line.event.read, line.at("msg"), 7 * line.word)
        size = int.from_bytes(data[line.word : line.word + 4], "little")
        shown[1] = f"{{msg_namelen={size}}}" if data else shown[1]
    return shown, ""


def several_messages(line: StraceLine) -> tuple[list[str], str]:
    """Write sendmmsg and recvmmsg."""
    shown = line.arguments()
    sends = line.signature.name == "sendmmsg"
    if not sends and line.unwritten:
        return shown, ""
    start, count = line.at("mmsg"), line.at("vlen") if line.unwritten else line.event.result or 0
    found = []
    for at in range(start, start + 8 * line.word * count, 8 * line.word):
        size = int.from_bytes(try_read(line.event.read, at + 7 * line.word, 4), "little")
        text = message(line, at, None if sends else size)
        if not text:
            return shown, ""
        after = "" if line.unwritten else f", msg_len={size}"
        found.append(f"{{msg_hdr={text}{after}}}")
    shown[1] = f"[{', '.join(found)}]"
    return shown, ""


def message(line: StraceLine, start: int, left: int | None) -> str:
    """Write a struct msghdr with what it points to."""
    read, limit, long = line.event.read, line.limit, line.word
    data = try_read(read, start, 7 * long)
    if len(data) < 7 * long:
        return ""
    word = _words(data, long)
    name = try_read(read, word[0], word[1] & 0xFFFFFFFF) if word[0] else b""
    shown = [f"msg_name={address(name) if len(name) >= 2 else address_text(word[0])}"]
    shown.append(f"msg_namelen={word[1] & 0xFFFFFFFF}")
    pieces = []
    vector = _words(try_read(read, word[2], 2 * long * word[3]) if word[2] else b"", long)
    rest = (1 << 62) if left is None else left
    for base, size in zip(vector[::2], vector[1::2], strict=False):
        taken = min(size, rest)
        rest -= taken
        inside = try_read(read, base, min(taken, limit + 1)) if taken else b""
        text = quote(inside, limit) if inside or not taken else address_text(base)
        pieces.append(f"{{iov_base={text}, iov_len={size}}}")
    shown.append(f"msg_iov=[{', '.join(pieces)}]" if word[2] else "msg_iov=NULL")
    shown.append(f"msg_iovlen={word[3]}")
    control = try_read(read, word[4], word[5]) if word[4] and word[5] else b""
    if control:
        shown.append(f"msg_control={_control(control, long)}")
    shown.append(f"msg_controllen={word[5]}")
    shown.append(f"msg_flags={flags_text('msg', word[6] & 0xFFFFFFFF)}")
    return f"{{{', '.join(shown)}}}"


def _words(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data) - size + 1, size)]


def _control(data: bytes, word: int) -> str:
    shown, at, head = [], 0, word + 8
    while at + head <= len(data):
        size = int.from_bytes(data[at : at + word], "little")
        level, kind = _words(data[at + word : at + head], 4)
        body = data[at + head : at + size]
        where = flags_text("sockopt_level", level)
        if level == 1 and kind == 1:
            numbers = [
                int.from_bytes(body[i : i + 4], "little", signed=True) for i in range(0, len(body) - 3, 4)
            ]
            shown.append(
                f"{{cmsg_len={size}, cmsg_level={where}, cmsg_type=SCM_RIGHTS, cmsg_data={numbers}}}"
            )
        elif level == 1 and kind == 2 and len(body) >= 12:
            pid, uid, gid = (int.from_bytes(body[i : i + 4], "little") for i in (0, 4, 8))
            shown.append(
                f"{{cmsg_len={size}, cmsg_level={where}, cmsg_type=SCM_CREDENTIALS, "
                f"cmsg_data={{pid={pid}, uid={uid}, gid={gid}}}}}"
            )
        else:
            shown.append(f"{{cmsg_len={size}, cmsg_level={where}, cmsg_type={kind:#x}}}")
        if size < head:
            break
        at += (size + word - 1) & -word
    return f"[{', '.join(shown)}]"
