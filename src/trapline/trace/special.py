"""Calls whose arguments strace writes in a way of their own."""

from __future__ import annotations

from trapline.abi import structs
from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import flags_text, signal_text
from trapline.trace.records import epoll_event
from trapline.trace.values import (
    clone_flags,
    descriptors,
    message,
    option_value,
    poll_text,
    sigset_text,
    termios_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.strace import StraceLine

    #: Writes the arguments of one call, and what follows its result.
    Special = Callable[[StraceLine], tuple[list[str], str]]

__all__ = ["SPECIAL"]

_DIRENT_LENGTH = 16
_AF_INET, _AF_NETLINK = (2, 10), 16
_NETLINK = {0: "NETLINK_ROUTE", 4: "NETLINK_SOCK_DIAG", 9: "NETLINK_AUDIT", 12: "NETLINK_NETFILTER",
            15: "NETLINK_KOBJECT_UEVENT", 16: "NETLINK_GENERIC"}  # fmt: skip


_FUTEX_NAMES = {
    0: "FUTEX_WAIT", 1: "FUTEX_WAKE", 3: "FUTEX_REQUEUE", 4: "FUTEX_CMP_REQUEUE", 5: "FUTEX_WAKE_OP",
    6: "FUTEX_LOCK_PI", 7: "FUTEX_UNLOCK_PI", 8: "FUTEX_TRYLOCK_PI", 9: "FUTEX_WAIT_BITSET", 10: "FUTEX_WAKE_BITSET",
    11: "FUTEX_WAIT_REQUEUE_PI", 12: "FUTEX_CMP_REQUEUE_PI", 13: "FUTEX_LOCK_PI2",
}  # fmt: skip


def _plain(line: StraceLine) -> list[str]:
    return line.arguments()


def _execve(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    address = line.at("envp")
    data = try_read(line.event.read, address, 8 * 513) if address else b""
    count = sum(1 for at in range(0, len(data) - 7, 8) if data[at : at + 8] != bytes(8))
    if data:
        shown[-1] = f"{address:#x} /* {count} var{'s' if count != 1 else ''} */"
    return shown, ""


def _clone(line: StraceLine) -> tuple[list[str], str]:
    bits = line.at("clone_flags")
    shown = [f"child_stack={address_text(line.at('newsp'))}", f"flags={clone_flags(bits)}"]
    # CLONE_PARENT_SETTID or CLONE_PIDFD, CLONE_SETTLS, CLONE_CHILD_SETTID or CLONE_CHILD_CLEARTID
    if bits & 0x101000:
        data = b"" if line.unwritten else try_read(line.event.read, line.at("parent_tidptr"), 4)
        shown.append(
            f"parent_tid=[{int.from_bytes(data, 'little')}]"
            if data
            else f"parent_tid={address_text(line.at('parent_tidptr'))}"
        )
    if bits & 0x80000:
        shown.append(f"tls={address_text(line.at('tls'))}")
    if bits & 0x1200000:
        shown.append(f"child_tidptr={address_text(line.at('child_tidptr'))}")
    return shown, ""


def _clone3(line: StraceLine) -> tuple[list[str], str]:
    size = line.at("size")
    data = try_read(line.event.read_before, line.at("uargs"), min(size, structs.sizeof("clone_args")))
    if len(data) < 64:
        return _plain(line), ""
    found = structs.values(structs.unpack("clone_args", data))
    bits = found["flags"]
    shown = [f"flags={clone_flags(bits, low=False)}"]
    if bits & 0x1000:
        shown.append(f"pidfd={address_text(found['pidfd'])}")
    if bits & 0x1200000:
        shown.append(f"child_tid={address_text(found['child_tid'])}")
    if bits & 0x100000:
        shown.append(f"parent_tid={address_text(found['parent_tid'])}")
    number = found["exit_signal"]
    shown.append(f"exit_signal={signal_text(number)}")
    shown.append(
        f"stack={address_text(found['stack'])}, stack_size={found['stack_size']:#x}"
        if found["stack_size"]
        else f"stack={address_text(found['stack'])}, stack_size=0"
    )
    if bits & 0x80000:
        shown.append(f"tls={address_text(found['tls'])}")
    after = ""
    if not line.unwritten and bits & 0x100000:
        after = f" => {{parent_tid=[{line.event.result}]}}"
    return [f"{{{', '.join(shown)}}}{after}", str(size)], ""


def _fcntl(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    command, result = line.at("cmd"), line.event.result
    if command in (5, 6, 7, 36, 37, 38):
        data = try_read(line.event.read, line.at("arg"), structs.sizeof("flock"))
        if len(data) == structs.sizeof("flock"):
            found = structs.unpack("flock", data)
            pid = f", l_pid={found.l_pid}" if command in (5, 36) and not line.unwritten else ""
            shown[2] = (
                f"{{l_type={flags_text('lock_type', found.l_type)}, l_whence={flags_text('seek', found.l_whence)}, "
                f"l_start={found.l_start}, l_len={found.l_len}{pid}}}"
            )
    if result is None or line.failed:
        return shown, ""
    if command == 1 and result:
        return shown, " (flags FD_CLOEXEC)"
    if command == 3:
        access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "0x3")[result & 3]
        rest = flags_text("open", result & ~3) if result & ~3 else ""
        rest = rest.removeprefix("O_RDONLY|").removeprefix("O_RDONLY")
        return shown, f" (flags {access}{'|' if rest else ''}{rest})"
    return shown, ""


def _getdents(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    count, at, result = 0, 0, line.event.result or 0
    data = try_read(line.event.read, line.at("dirent"), 1 << 20)
    while at + _DIRENT_LENGTH + 2 <= len(data):
        count += 1
        at += int.from_bytes(data[at + 16 : at + 18], "little") or len(data)
    if line.at("dirent") and not line.unwritten and (data or not result):
        shown[1] = f"{address_text(line.at('dirent'))} /* {count} entr{'y' if count == 1 else 'ies'} */"
    return shown, ""


def _getcwd(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    if not line.unwritten:
        data = try_read(line.event.read, line.at("buf"), line.event.result or 0)
        shown[0] = quote(data.removesuffix(b"\0"))
    return shown, ""


def _statx(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    bits = line.at("flags")
    if not bits & 0x6000:
        shown[2] = "AT_STATX_SYNC_AS_STAT" + (f"|{shown[2]}" if bits else "")
    return shown, ""


def _socket(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    protocol = line.at("protocol")
    if line.at("family") == _AF_NETLINK:
        shown[2] = _NETLINK.get(protocol, str(protocol))
    elif line.at("family") not in _AF_INET:
        shown[2] = str(protocol)
    return shown, ""


def _getrandom(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    if not line.unwritten:
        size = line.event.result or 0
        data = try_read(line.event.read, line.at("ubuf"), size)[: line.limit]
        shown[0] = (
            '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"' + ("..." if size > line.limit else "")
        )
    return shown, ""


def _futex(line: StraceLine) -> tuple[list[str], str]:
    word = line.at("op")
    operation = word & 0x7F
    values = line.event.args
    name = _FUTEX_NAMES.get(operation, hex(operation)) + ("_PRIVATE" if word & 0x80 else "")
    name += "|FUTEX_CLOCK_REALTIME" if word & 0x100 else ""
    shown = [address_text(values[0]), name]
    timeout = _plain(line)[3]
    number = str(values[2] & 0xFFFFFFFF)
    bits = "FUTEX_BITSET_MATCH_ANY" if values[5] & 0xFFFFFFFF == 0xFFFFFFFF else hex(values[5] & 0xFFFFFFFF)
    if operation in (0, 9):
        shown += [number, timeout] + ([bits] if operation else [])
    elif operation == 1:
        shown += [number]
    elif operation == 10:
        shown += [number, bits]
    elif operation in (3, 4, 12):
        shown += [number, str(values[3] & 0xFFFFFFFF), address_text(values[4])]
        shown += [str(values[5] & 0xFFFFFFFF)] if operation != 3 else []
    elif operation in (6, 13):
        shown += [timeout]
    elif operation not in (7, 8):
        shown += [number, hex(values[3]), address_text(values[4]), hex(values[5] & 0xFFFFFFFF)]
    return shown, ""


def _poll(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    count = line.at("nfds")
    before = try_read(line.event.read_before, line.at("ufds"), 8 * count)
    if before or not count:
        shown[0] = poll_text(before, count, line.fd) if line.at("ufds") else "NULL"
    if line.unwritten:
        return shown, ""
    if not line.event.result:
        return shown, " (Timeout)"
    after = try_read(line.event.read, line.at("ufds"), 8 * count)
    extra = poll_text(after, count, line.fd, returned=True)
    if line.signature.name == "ppoll" and line.at("tsp"):
        left = try_read(line.event.read, line.at("tsp"), 16)
        first = try_read(line.event.read_before, line.at("tsp"), 16)
        shown[2] = _timespec(first)
        extra += f", left {_timespec(left)}"
    return shown, f" ({extra})"


def _timespec(data: bytes, name: str = "tv_nsec") -> str:
    seconds, rest = (
        int.from_bytes(data[:8], "little", signed=True),
        int.from_bytes(data[8:], "little", signed=True),
    )
    return f"{{tv_sec={seconds}, {name}={rest}}}"


def _select(line: StraceLine) -> tuple[list[str], str]:
    count = line.at("n")
    names = ("inp", "outp", "exp")
    shown = [str(count)]
    changed = []
    for name, word in zip(names, ("in", "out", "except"), strict=True):
        address = line.at(name)
        size = (max(count, 0) + 63) // 64 * 8
        before = try_read(line.event.read_before, address, size) if address else b""
        shown.append(descriptors(before, count) if before else address_text(address))
        if address and not line.unwritten:
            after = descriptors(try_read(line.event.read, address, size), count)
            if after != "[]":
                changed.append(f"{word} {after}")
    rest = _plain(line)[4:]
    address = line.values.get("tvp", line.values.get("tsp", 0))
    unit = "tv_usec" if "tvp" in line.values else "tv_nsec"
    first = try_read(line.event.read_before, address, 16) if address else b""
    if first:
        rest[0] = _timespec(first, unit)
    shown += rest
    if line.unwritten:
        return shown, ""
    if not line.event.result:
        return shown, " (Timeout)"
    if first:
        changed.append(f"left {_timespec(try_read(line.event.read, address, 16), unit)}")
    return shown, f" ({', '.join(changed)})" if changed else ""


def _address_and_length(line: StraceLine) -> tuple[list[str], str]:
    """Write calls that fill in a socket's address: ``[128 => 16]``."""
    shown = _plain(line)
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


def _option(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    size = line.at("optlen")
    name = line.signature.name
    if name == "getsockopt":
        first = int.from_bytes(try_read(line.event.read_before, size, 4), "little") if size else 0
        size = int.from_bytes(try_read(line.event.read, size, 4), "little") if size else 0
        shown[4] = f"[{first}]" if line.unwritten or first == size else f"[{first} => {size}]"
        if line.unwritten:
            shown[3] = address_text(line.at("optval"))
            return shown, ""
    data = try_read(line.event.read, line.at("optval"), size)
    if data:
        shown[3] = option_value(line.at("level"), line.at("optname"), data)
    return shown, ""


def _ioctl(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    command, address = line.at("cmd"), line.event.args[2]
    shown[2] = hex(address) if address else "0"
    data = try_read(line.event.read, address, 64)
    wrote = not line.unwritten
    if (command == 0x5401 and wrote and len(data) >= 36) or (
        command in (0x5402, 0x5403, 0x5404) and len(data) >= 36
    ):
        shown[2] = termios_text(data)
    elif command == 0x5413 and wrote and len(data) >= 8:
        parts = [int.from_bytes(data[at : at + 2], "little") for at in range(0, 8, 2)]
        names = ("ws_row", "ws_col", "ws_xpixel", "ws_ypixel")
        shown[2] = "{" + ", ".join(f"{name}={part}" for name, part in zip(names, parts, strict=True)) + "}"
    elif len(data) >= 4 and (
        (wrote and command in (0x540F, 0x541B, 0x5429)) or command in (0x5410, 0x5421, 0x5452)
    ):
        shown[2] = f"[{int.from_bytes(data[:4], 'little', signed=True)}]"
    elif command in (0x5451, 0x5450, 0x540E):
        shown = shown[:2]
    return shown, ""


def _epoll(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    if not line.unwritten:
        data = try_read(line.event.read, line.at("events"), 12 * (line.event.result or 0))
        shown[1] = (
            "[" + ", ".join(epoll_event(record) for record in structs.unpack_all("epoll_event", data)) + "]"
        )
    return shown, ""


def _message(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    if line.signature.name == "sendmsg" or not line.unwritten:
        written = line.signature.name == "recvmsg"
        text = message(line.event, line.at("msg"), line.limit, line.event.result if written else None)
        shown[1] = text or shown[1]
    return shown, ""


def _affinity(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    data = try_read(line.event.read, line.at("user_mask_ptr"), line.at("len"))
    if line.signature.name == "sched_getaffinity" and line.unwritten:
        return shown, ""
    bits = int.from_bytes(data, "little")
    shown[2] = "[" + " ".join(str(cpu) for cpu in range(bits.bit_length()) if bits >> cpu & 1) + "]"
    return shown, ""


def _prctl(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    option = line.at("option")
    data = try_read(line.event.read, line.at("arg2"), 16)
    if option == 15 or (option == 16 and not line.unwritten):
        return [shown[0], quote(data.split(b"\0")[0], line.limit)] if data else shown[:2], ""
    if option in (2, 37) and not line.unwritten and data:
        number = int.from_bytes(data[:4], "little")
        return [shown[0], f"[{signal_text(number) if option == 2 and number else number}]"], ""
    counts = {15: 2, 16: 2, 3: 1, 4: 2, 1: 2, 2: 2, 38: 5, 39: 5, 21: 1, 22: 2, 23: 2, 24: 2, 36: 2, 37: 2}
    shown = shown[: counts.get(option, 5)]
    if option == 1 and len(shown) > 1:
        shown[1] = signal_text(line.at("arg2"))
    elif option in (4, 38, 23, 24, 36) and len(shown) > 1:
        shown[1:] = [str(line.at(f"arg{index}")) for index in range(2, len(shown) + 1)]
        if option == 4:
            shown[1] = {0: "SUID_DUMP_DISABLE", 1: "SUID_DUMP_USER", 2: "SUID_DUMP_ROOT"}.get(
                line.at("arg2"), shown[1]
            )
    return shown, ""


def _numbers(*hexadecimal: str) -> Special:
    """Some arguments are written in base 16."""

    def write(line: StraceLine) -> tuple[list[str], str]:
        shown = _plain(line)
        for param in line.signature.params:
            if param.name in hexadecimal:
                value = line.values[param.name]
                shown[param.index] = hex(value) if value else "0"
        return shown, ""

    return write


def _sigreturn(line: StraceLine) -> tuple[list[str], str]:
    if not line.event.memory:
        return [], ""
    return [f"{{mask={sigset_text(int.from_bytes(line.event.memory[0][1][:8], 'little'))}}}"], ""


SPECIAL: dict[str, Special] = {
    "execve": _execve,
    "execveat": _execve,
    "clone": _clone,
    "clone3": _clone3,
    "fcntl": _fcntl,
    "getdents64": _getdents,
    "getrandom": _getrandom,
    "getcwd": _getcwd,
    "statx": _statx,
    "socket": _socket,
    "socketpair": _socket,
    "futex": _futex,
    "poll": _poll,
    "ppoll": _poll,
    "select": _select,
    "pselect6": _select,
    "accept": _address_and_length,
    "accept4": _address_and_length,
    "getsockname": _address_and_length,
    "getpeername": _address_and_length,
    "recvfrom": _address_and_length,
    "setsockopt": _option,
    "getsockopt": _option,
    "ioctl": _ioctl,
    "epoll_wait": _epoll,
    "epoll_pwait": _epoll,
    "sendmsg": _message,
    "recvmsg": _message,
    "sched_getaffinity": _affinity,
    "sched_setaffinity": _affinity,
    "prctl": _prctl,
    "rt_sigreturn": _sigreturn,
    "rseq": _numbers("rseq_len", "sig"),
}
