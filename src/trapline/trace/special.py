"""Calls whose arguments strace writes in a way of their own."""

from __future__ import annotations

from trapline.abi import structs
from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import flags_text, signal_text
from trapline.trace.kernel import KERNEL, bits_text
from trapline.trace.objects import OBJECTS
from trapline.trace.processes import PROCESSES
from trapline.trace.records import epoll_event
from trapline.trace.requests import ioctl
from trapline.trace.sockets import accepted, create, messages, option, several_messages
from trapline.trace.values import (
    clone_flags,
    descriptors,
    file_mode,
    makedev,
    poll_text,
    sigset_text,
    stat_mask,
    timespec_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.strace import StraceLine

    #: Writes the arguments of one call, and what follows its result.
    Special = Callable[[StraceLine], tuple[list[str], str]]

__all__ = ["I386", "SPECIAL"]

_DIRENT_LENGTH = 16
_LOCKS = (5, 6, 7, 12, 13, 14, 36, 37, 38)
_EPOLL_CTL_DEL = 2
_DEVICES = (0o020000, 0o060000)
_NEEDS_MODE = 0o100 | 0o20000000
_HINTS = ("NOT_SET", "NONE", "SHORT", "MEDIUM", "LONG", "EXTREME")
_NOTIFIED = (
    "DN_ACCESS",
    "DN_MODIFY",
    "DN_CREATE",
    "DN_DELETE",
    "DN_RENAME",
    "DN_ATTRIB",
    *[""] * 25,
    "DN_MULTISHOT",
)
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
    word = line.word
    data = try_read(line.event.read, address, word * 513) if address else b""
    count = sum(1 for at in range(0, len(data) - word + 1, word) if any(data[at : at + word]))
    if data:
        place = 2 if line.signature.name == "execve" else 3
        shown[place] = f"{address:#x} /* {count} var{'s' if count != 1 else ''} */"
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
    if not line.unwritten:
        pidfd = try_read(line.event.read, found["pidfd"], 4) if bits & 0x1000 else b""
        written = [f"pidfd=[{line.fd(int.from_bytes(pidfd, 'little'))}]"] if pidfd else []
        written += [f"parent_tid=[{line.event.result}]"] if bits & 0x100000 else []
        after = f" => {{{', '.join(written)}}}" if written else ""
    return [f"{{{', '.join(shown)}}}{after}", str(size)], ""


def _fcntl(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    command, result = line.at("cmd"), line.event.result
    if command in _LOCKS:
        # 64-bit positions, also where words are shorter.
        layout = "flock" if command in (5, 6, 7) or line.word == 8 else "flock64"
        size = structs.sizeof(layout, line.arch)
        data = try_read(line.event.read, line.at("arg"), size)
        if len(data) == size:
            found = structs.unpack(layout, data, line.arch)
            pid = f", l_pid={found.l_pid}" if command in (5, 12, 36) and not line.unwritten else ""
            shown[2] = (
                f"{{l_type={flags_text('lock_type', found.l_type)}, l_whence={flags_text('seek', found.l_whence)}, "
                f"l_start={found.l_start}, l_len={found.l_len}{pid}}}"
            )
    elif command in (15, 16):
        data = b"" if command == 16 and line.unwritten else try_read(line.event.read, line.at("arg"), 8)
        if len(data) == 8:
            kind, owner = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (0, 4))
            names = ("F_OWNER_TID", "F_OWNER_PID", "F_OWNER_PGRP")
            shown[2] = f"{{type={names[kind] if 0 <= kind < 3 else hex(kind)}, pid={owner}}}"
    elif command in (1035, 1036):
        data = b"" if command == 1035 and line.unwritten else try_read(line.event.read, line.at("arg"), 8)
        number = int.from_bytes(data, "little")
        if data and number < len(_HINTS):
            shown[2] = f"[RWH_WRITE_LIFE_{_HINTS[number]}]"
    elif command == 1026:
        shown[2] = bits_text(line.at("arg") & 0xFFFFFFFF, _NOTIFIED)
    elif command == 10:
        shown[2] = signal_text(line.at("arg") & 0xFFFFFFFF)
    elif command == 1024:
        shown[2] = flags_text("lock_type", line.at("arg") & 0xFFFFFFFF)
    elif command in (8, 1031):
        shown[2] = str(line.at("arg") & 0xFFFFFFFF)
    if result is None or line.failed:
        return shown, ""
    if command == 11 and result:
        return shown, f" ({signal_text(result)})"
    if command == 1025:
        return shown, f" ({flags_text('lock_type', result)})"
    if command == 1034 and result:
        return shown, f" (seals {flags_text('seal', result)})"
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
    shown[3] = stat_mask(line.at("mask"))
    return shown, ""


def _openat2(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    data = try_read(line.event.read, line.at("how"), min(line.at("usize"), 24))
    if len(data) == 24:
        bits, mode, resolve = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16))
        middle = f"mode=0{mode:03o}, " if bits & _NEEDS_MODE or mode else ""
        shown[2] = f"{{flags={flags_text('open', bits)}, {middle}resolve={flags_text('resolve', resolve)}}}"
    return shown, ""


def _mknod(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    mode = line.at("mode")
    shown[-2] = file_mode(mode)
    if mode & 0o170000 not in _DEVICES:
        return shown[:-1], ""
    return [*shown[:-1], makedev(line.at("dev"))], ""


def _positioned(line: StraceLine) -> tuple[list[str], str]:
    """Of preadv and its like: on 64-bit machines the position is in one argument."""
    shown = _plain(line)
    del shown[4]
    return shown, ""


def _offsets(line: StraceLine) -> tuple[list[str], str]:
    """Write positions that are in memory, ``[4]``, and of sendfile what has become of it."""
    shown = _plain(line)
    for param in line.signature.params:
        if param.name not in ("offset", "off_in", "off_out"):
            continue
        address = line.at(param.name)
        before = try_read(line.event.read_before, address, 8) if address else b""
        if not before:
            continue
        first = int.from_bytes(before, "little", signed=True)
        after = first
        if param.name == "offset" and not line.unwritten:
            after = int.from_bytes(try_read(line.event.read, address, 8), "little", signed=True)
        shown[param.index] = f"[{first}] => [{after}]" if after != first else f"[{first}]"
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


def _futex_operation(word: int) -> str:
    operation, comparison = word >> 28 & 0xF, word >> 24 & 0xF
    names = [f"FUTEX_OP_{name}" for name in ("SET", "ADD", "OR", "ANDN", "XOR")]
    first = "FUTEX_OP_OPARG_SHIFT<<28|" if operation & 8 else ""
    first += f"{names[operation & 7]}<<28" if operation & 7 < len(names) else f"{operation & 7:#x}<<28"
    others = [f"FUTEX_OP_CMP_{name}" for name in ("EQ", "NE", "LT", "LE", "GT", "GE")]
    then = others[comparison] if comparison < len(others) else hex(comparison)
    given, compared = word >> 12 & 0xFFF, word & 0xFFF
    shown = [hex(value) if value else "0" for value in (given, compared)]
    return f"{first}|{shown[0]}<<12|{then}<<24|{shown[1]}"


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
        second = str(values[3] & 0xFFFFFFFF)
        shown += [number, second, address_text(values[4]), _futex_operation(values[5])]
    return shown, ""


def _poll(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    count = line.at("nfds")
    before = try_read(line.event.read_before, line.at("ufds"), 8 * count)
    if before or not count:
        shown[0] = poll_text(before, count, line.fd) if line.at("ufds") else "NULL"
    first = b""
    if line.signature.name in ("ppoll", "ppoll_time64") and line.at("tsp"):
        first = try_read(line.event.read_before, line.at("tsp"), 16)
        shown[2] = timespec_text(first) if first else shown[2]
    if line.unwritten:
        return shown, ""
    if not line.event.result:
        return shown, " (Timeout)"
    after = try_read(line.event.read, line.at("ufds"), 8 * count)
    extra = poll_text(after, count, line.fd, returned=True)
    if first:
        left = try_read(line.event.read, line.at("tsp"), 16)
        extra += f", left {timespec_text(left)}"
    return shown, f" ({extra})"


def _mask_and_size(line: StraceLine, address: int) -> str:
    pair = try_read(line.event.read_before, address, 16)
    if len(pair) < 16:
        return address_text(address)
    pointer, size = (int.from_bytes(pair[at : at + 8], "little") for at in (0, 8))
    bits = try_read(line.event.read_before, pointer, min(size, 8)) if pointer else b""
    mask = sigset_text(int.from_bytes(bits, "little")) if bits else address_text(pointer)
    return f"{{sigmask={mask}, sigsetsize={size}}}"


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
    if line.at("sig") if "sig" in line.values else 0:
        rest[1] = _mask_and_size(line, line.at("sig"))
    address = line.values.get("tvp", line.values.get("tsp", 0))
    unit = "tv_usec" if "tvp" in line.values else "tv_nsec"
    first = try_read(line.event.read_before, address, 16) if address else b""
    if first:
        rest[0] = timespec_text(first, unit)
    shown += rest
    if line.unwritten:
        return shown, ""
    if not line.event.result:
        return shown, " (Timeout)"
    if first:
        changed.append(f"left {timespec_text(try_read(line.event.read, address, 16), unit)}")
    return shown, f" ({', '.join(changed)})" if changed else ""


def _epoll(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    if not line.unwritten:
        data = try_read(line.event.read, line.at("events"), 12 * (line.event.result or 0))
        shown[1] = (
            "[" + ", ".join(epoll_event(record) for record in structs.unpack_all("epoll_event", data)) + "]"
        )
    return shown, ""


def _epoll_ctl(line: StraceLine) -> tuple[list[str], str]:
    shown = _plain(line)
    if line.at("op") == _EPOLL_CTL_DEL:
        shown[3] = address_text(line.at("event"))
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
    **PROCESSES,
    **OBJECTS,
    **KERNEL,
    "execve": _execve,
    "execveat": _execve,
    "clone": _clone,
    "clone3": _clone3,
    "fcntl": _fcntl,
    "getdents": _getdents,
    "getdents64": _getdents,
    "openat2": _openat2,
    "mknod": _mknod,
    "mknodat": _mknod,
    "preadv": _positioned,
    "preadv2": _positioned,
    "pwritev": _positioned,
    "pwritev2": _positioned,
    "sendfile": _offsets,
    "splice": _offsets,
    "copy_file_range": _offsets,
    "epoll_ctl": _epoll_ctl,
    "getrandom": _getrandom,
    "getcwd": _getcwd,
    "statx": _statx,
    "socket": create,
    "socketpair": create,
    "futex": _futex,
    "poll": _poll,
    "ppoll": _poll,
    "select": _select,
    "pselect6": _select,
    "accept": accepted,
    "accept4": accepted,
    "getsockname": accepted,
    "getpeername": accepted,
    "recvfrom": accepted,
    "setsockopt": option,
    "getsockopt": option,
    "ioctl": ioctl,
    "epoll_wait": _epoll,
    "epoll_pwait": _epoll,
    "sendmsg": messages,
    "recvmsg": messages,
    "sendmmsg": several_messages,
    "recvmmsg": several_messages,
    "rt_sigreturn": _sigreturn,
    "rseq": _numbers("rseq_len", "sig"),
    "ioperm": _numbers("from", "num"),
    "landlock_restrict_self": _numbers("flags"),
    "memfd_secret": _numbers("flags"),
}

#: Those that are the same where words are shorter; of the others the common text is good enough.
I386: dict[str, Special] = {
    name: SPECIAL[name] for name in (
        "accept4", "capget", "capset", "clone", "clone3", "copy_file_range", "epoll_ctl", "epoll_pwait", "epoll_wait",
        "execve", "execveat", "fcntl", "futex", "getcwd", "getdents64", "getpeername", "getrandom", "getsockname",
        "getsockopt", "ioctl", "ioprio_get", "ioprio_set", "membarrier", "mincore", "mknod", "mknodat", "mremap",
        "msgget", "openat2", "personality", "poll", "prctl", "recvfrom", "recvmmsg", "recvmsg", "rseq",
        "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_setaffinity",
        "sched_setattr", "sched_setparam", "sched_setscheduler", "seccomp", "semget", "sendmmsg", "sendmsg",
        "setsockopt", "shmget", "socket", "socketpair", "splice", "statx", "syslog", "wait4",
    )
} | {
    "fcntl64": _fcntl,
    "futex_time64": _futex,
    "getgroups32": SPECIAL["getgroups"],
    "getresgid32": SPECIAL["getresgid"],
    "getresuid32": SPECIAL["getresuid"],
    "ppoll_time64": _poll,
    "recvmmsg_time64": several_messages,
    "setgroups32": SPECIAL["setgroups"],
}  # fmt: skip
