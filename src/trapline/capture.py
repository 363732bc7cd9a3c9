"""Recording of system calls: what is kept of each, and where it goes."""

from __future__ import annotations

import struct

from trapline import abi
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trapline.abi import Param, Signature

__all__ = ["Capture"]

# native/agent/capture.h
_OP, _OPS = struct.Struct("<BBBBHH"), 12
_PLAN = struct.Struct("<BBHHBB")
_CALLS = 1024
_STRING, _BUFFER, _ARRAY, _FIXED, _COUNTED, _VECTOR, _MESSAGE, _STRINGS, _IOCTL, _PATH, _IF = range(1, 12)
_BEHIND, _MESSAGES = 12, 13
_BEFORE, _AFTER, _FILLED = 1, 2, 4
_WHEN = {"in": _BEFORE, "out": _AFTER, "inout": _BEFORE | _AFTER}
_SOCKADDR = 128
#: Enough to count the entries of a folder.
_ENTRIES = 24576
_IOCTL_UNKNOWN = 64
_PATH_MAX = 4096
#: What an argument points to if another has a value: argument, when, the other, its value, bytes.
_CONDITIONAL = {
    "prctl": ((1, 1, 0, 15, 16), (1, 2, 0, 16, 16), (1, 2, 0, 2, 4), (1, 2, 0, 37, 4)),
    "arch_prctl": ((1, 2, 0, 0x1003, 8), (1, 2, 0, 0x1004, 8)),
    "seccomp": ((2, 1, 0, 1, 16), (2, 1, 0, 2, 4)),
    # FUTEX_WAIT and FUTEX_WAIT_BITSET, with FUTEX_PRIVATE_FLAG, with FUTEX_CLOCK_REALTIME, with both.
    "futex": tuple([(3, 1, 1, word, 16) for word in (0, 128, 9, 137, 265, 393)]),
    "fcntl": ((2, 2, 1, 5, 32), *[(2, 1, 1, command, 32) for command in (6, 7, 37, 38)], (2, 2, 1, 36, 32)),
}
#: More of what arguments point to: kind, argument, when, the other argument, size and value.
_MORE = {
    "capget": ((_FIXED, 1, _AFTER, 0, 24, 0),),
    "capset": ((_FIXED, 1, _BEFORE, 0, 24, 0),),
    "clone3": ((_BEHIND, 0, _AFTER, 0, 4, 8),),
    "mincore": ((_FIXED, 2, _AFTER, 0, 32, 0),),
    "msgsnd": ((_FIXED, 1, _BEFORE, 0, 41, 0),),
    "msgrcv": ((_FIXED, 1, _AFTER, 0, 41, 0),),
    "process_vm_readv": ((_ARRAY, 3, _BEFORE, 4, 16, 0),),
    "process_vm_writev": ((_ARRAY, 3, _BEFORE, 4, 16, 0),),
    "pselect6": ((_FIXED, 5, _BEFORE, 0, 16, 0), (_BEHIND, 5, _BEFORE, 0, 8, 0)),
    "recvmmsg": ((_MESSAGES, 1, _AFTER | _FILLED, 2, 0, 0),),
    "sendmmsg": ((_MESSAGES, 1, _BEFORE, 2, 0, 0),),
}
#: Pointers to numbers: how long these are.
_NUMBERS = {"uid_t *": 4, "gid_t *": 4, "int *": 4, "unsigned *": 4, "unsigned int *": 4, "timer_t *": 4, "loff_t *": 8,
            "off_t *": 8, "size_t *": 8, "struct robust_list_head * *": 8}  # fmt: skip
#: They may bring code to other places, which an unwinder has to know.
_PLACES = frozenset({"mmap", "mprotect", "pkey_mprotect", "mremap"})
#: Nobody wants to see what these point to.
_OPAQUE = frozenset({"set_robust_list", "rseq", "futex", "set_tid_address"})

#: What programs hardly ever do. To stop for such a call takes longer than to catch it inside the program, but a filter
#: costs all others less than an agent does: starts of programs nothing, and most calls some 20 ns where they are short.
_RARE = frozenset((
    "acct", "add_key", "adjtimex", "bpf", "capset", "chroot", "clock_adjtime", "clock_settime", "delete_module",
    "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "ioperm", "iopl", "kexec_file_load",
    "kexec_load", "keyctl", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "mknod",
    "mknodat", "mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open", "pivot_root", "quotactl",
    "quotactl_fd", "reboot", "request_key", "setdomainname", "setfsgid", "setfsuid", "setgid", "setgroups",
    "sethostname", "setns", "setregid", "setresgid", "setresuid", "setreuid", "settimeofday", "setuid", "swapoff",
    "swapon", "sync", "syslog", "umount2", "unshare", "userfaultfd", "ustat", "vhangup",
))  # fmt: skip


class Capture:
    """What a session records.

    :param fd: an open file, to which the records are appended; it stays the caller's.
    :param names: of the calls to record, or ``"*"``.
    :param limit: how many bytes of a buffer are kept.
    :param drop: do not hold up a thread whose ring is full; count what is lost.
    :param signals: record that a handler is entered.
    :param paths: record what new descriptors stand for.
    :param stack: record so many KB of each caller's stack, and its registers.
    """

    __slots__ = ("drop", "fd", "limit", "names", "paths", "signals", "stack")

    def __init__(
        self,
        fd: int,
        names: Iterable[str] = ("*",),
        *,
        limit: int = 32,
        drop: bool = False,
        signals: bool = True,
        paths: bool = False,
        stack: int = 0,
    ) -> None:
        if not 0 <= limit <= 16384:
            raise UsageError(f"of a buffer 0 to 16384 bytes can be kept, not {limit}")
        self.fd = fd
        self.names = frozenset(names)
        self.limit = limit
        self.drop = drop
        self.signals = signals
        self.paths = paths
        self.stack = stack

    @property
    def is_rare(self) -> bool:
        """Programs hardly ever make the calls that are to be recorded."""
        return self.names <= _RARE

    def plans(self) -> bytes:
        """Return ``struct tl_capture_plan`` for each number, and one for all others."""
        every = "*" in self.names
        plans = [_plan(every, 6, [], self.stack)] * (_CALLS + 1)
        for name in abi.names("x86_64"):
            nr = abi.number(name, "x86_64")
            wanted = every or name in self.names
            places = bool(self.stack) and name in _PLACES
            if nr < _CALLS and (wanted or places):
                signature = abi.signature(name, "x86_64")
                args = len(signature.params) if signature.known else 6
                stack = self.stack if wanted else 0
                plans[nr] = _plan(True, args, _operations(signature, self.paths), stack, places)
        return b"".join(plans)


def operations(name: str, paths: bool) -> list[tuple[int, ...]]:
    """Return what is kept of a call: kind, argument, when, the other argument, size and value of each."""
    if not abi.exists(name, "x86_64"):
        return []
    return [_OP.unpack(one) for one in _operations(abi.signature(name, "x86_64"), paths)[:_OPS]]


def first_call(executable: bytes, argv: Sequence[bytes], environment: Sequence[bytes], ticks: int) -> bytes:
    """Return the record of the execve that starts a program, which no agent has seen."""
    path, array, variables = 0x7FFF_0000_0000, 0x7FFF_0001_0000, 0x7FFF_0002_0000
    blobs, at = [(0, 0, 0, executable + b"\0")], 0x7FFF_0003_0000
    pointers = b""
    for word in argv[:32]:
        blobs.append((1, 2, at, word + b"\0"))
        pointers += at.to_bytes(8, "little")
        at += len(word) + 1
    blobs.insert(1, (1, 0, 0, pointers + bytes(8)))
    blobs.append((2, 0, 0, b"\1" * 8 * min(len(environment), 512) + bytes(8)))
    body = struct.pack("<3Q", path, array, variables)
    for arg, flags, address, data in blobs:
        blob = struct.pack("<BBH", arg, flags, len(data))
        blob += (address.to_bytes(8, "little") if flags else b"") + data
        body += blob + bytes(-len(blob) % 8)
    return struct.pack("<HBBiQQq", 32 + len(body), 0, 3, 59, ticks, ticks, 0) + body


def _plan(wanted: bool, args: int, operations: list[bytes], stack: int = 0, maps: bool = False) -> bytes:
    kept = operations[:_OPS]
    before = after = 0
    for place, one in enumerate(kept):
        when = one[2]
        before |= (when & _BEFORE) << place
        after |= (when & _AFTER) // _AFTER << place
    return _PLAN.pack(wanted, args, before, after, stack, maps) + b"".join(kept).ljust(_OP.size * _OPS, b"\0")


def _operations(signature: Signature, paths: bool) -> list[bytes]:
    sizes = {param.size_of for param in signature.params if param.size_of}
    found = []
    for param in signature.params:
        one = None if signature.name in _OPAQUE else _operation(signature, param, param.name in sizes)
        if one is not None:
            kind, when, of, size = one
            found.append(_OP.pack(kind, param.index, when, of, size, 0))
    if paths and signature.returns == "fd":
        found.insert(0, _OP.pack(_PATH, 0, _AFTER, 0, 0, 0))
    for arg, when, of, value, size in _CONDITIONAL.get(signature.name, ()):
        found.append(_OP.pack(_IF, arg, when, of, size, value))
    for kind, arg, when, of, size, value in _MORE.get(signature.name, ()):
        found.append(_OP.pack(kind, arg, when, of, size, value))
    return found


def _operation(signature: Signature, param: Param, is_size: bool) -> tuple[int, int, int, int] | None:
    """Return kind, when, the other argument, and the size."""
    from trapline.abi import structs

    if param.kind == "arg" and signature.name == "ioctl":
        return _IOCTL, _BEFORE | _AFTER, 1, _IOCTL_UNKNOWN
    if param.pointer is None:
        return None
    when = _WHEN[param.pointer]
    shape = (
        structs.layout(param.struct, "x86_64")
        if param.struct and structs.exists(param.struct, "x86_64")
        else None
    )
    size_of = signature.param(param.size_of) if param.size_of else None
    count_of = signature.param(param.count_of) if param.count_of else None
    if param.filled:
        when |= _FILLED
    if param.kind in ("path", "str"):
        return _STRING, when, 0, 0
    if param.kind == "strv":
        return _STRINGS, when, 0, 0 if param.name == "envp" else 32
    if param.kind == "fds":
        return _FIXED, when, 0, 8
    if param.name == "rvec":
        return None  # another process's
    if param.kind == "iovec" and count_of is not None:
        return _VECTOR, when, count_of.index, 0
    if param.struct == "msghdr":
        return _MESSAGE, when | (_FILLED if when & _AFTER else 0), 0, 0
    if param.kind in ("buf", "sockaddr") and size_of is not None:
        most = _SOCKADDR if param.kind == "sockaddr" else _ENTRIES if param.struct else 0
        most = _PATH_MAX if signature.name == "getcwd" else most
        if size_of.pointer is not None:
            return _COUNTED, when, size_of.index, most or _SOCKADDR
        return _BUFFER, when, size_of.index, most
    if is_size:
        return _FIXED, when, 0, 4
    if shape is None:
        width = _NUMBERS.get(param.ctype)
        if width is None:
            return None
        return (_ARRAY, when, count_of.index, width) if count_of is not None else (_FIXED, when, 0, width)
    if param.kind == "array":
        return (_ARRAY, when, count_of.index, shape.size) if count_of else (_FIXED, when, 0, 2 * shape.size)
    if shape.extensible and size_of is not None:
        return _BUFFER, when, size_of.index, shape.size
    return _FIXED, when, 0, shape.size
