"""Recording of system calls: what is kept of each, and where it goes."""

from __future__ import annotations

import os
import struct

from trapline import abi
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Capture", "write_header"]

# native/agent/capture.h
_FILE, _VERSION = struct.Struct("<8sIIII"), 2
_OP, _OPS = struct.Struct("<BBBBHH"), 12
_PLAN = struct.Struct("<BBHHBB")
_CALLS = 1024
#: Of the first execve: how many arguments, and bytes of them, so that its record is no longer than others.
_WORDS, _WORDS_MAX = 32, 0x5000
_BEFORE, _AFTER = 1, 2
#: The path of a descriptor that is returned.
_PATH = _OP.pack(10, 0, _AFTER, 0, 0, 0)
#: They may bring code to other places, which an unwinder has to know.
_PLACES = frozenset({"mmap", "mprotect", "pkey_mprotect", "mremap"})
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
    :param part: the number of this session's part of a file that others append to, which has a header
        (:func:`write_header`); 0: nobody else writes to it.
    :param results: what makes no sense without the results of calls, so that an engine is used that sees them; or "".
    """

    __slots__ = ("drop", "fd", "limit", "names", "part", "paths", "results", "signals", "stack")

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
        results: str = "",
        part: int = 0,
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
        self.results = results
        self.part = part

    @property
    def is_rare(self) -> bool:
        """Programs hardly ever make the calls that are to be recorded."""
        return self.names <= _RARE

    def plans(self) -> bytes:
        """Return ``struct tl_capture_plan`` for each number, and one for all others."""
        from trapline.abi.kept_x86_64 import KEPT

        every = "*" in self.names
        plans = [_plan(every, 6, b"", self.stack)] * (_CALLS + 1)
        # Most calls are like some other one, and a program waits for this.
        made: dict[tuple[int, bytes, int, bool], bytes] = {}
        for nr, (name, args, returns_fd, kept) in KEPT.items():
            wanted = every or name in self.names
            places = bool(self.stack) and name in _PLACES
            if wanted or places:
                key = (
                    args, _PATH + kept if returns_fd and self.paths else kept,
                    self.stack if wanted else 0, places,
                )  # fmt: skip
                plan = made.get(key)
                if plan is None:
                    plan = made[key] = _plan(True, *key)
                plans[nr] = plan
        return b"".join(plans)


def write_header(fd: int, limit: int) -> None:
    """Begin a file.

    :param limit: how many bytes of a buffer are kept.
    :raises UsageError: that cannot be done.
    """
    header = _FILE.pack(b"tltrace\n", _VERSION, _FILE.size, abi.AUDIT_ARCH["x86_64"], limit)
    try:
        os.write(fd, header)
    except OSError as error:
        raise UsageError(f"cannot record calls: {error.strerror}") from None


def operations(nr: int, arch: str, paths: bool) -> list[tuple[int, ...]]:
    """Return what is kept of a call: kind, argument, when, the other argument, size and value of each."""
    if arch == "i386":
        from trapline.abi.kept_i386 import KEPT
    else:
        from trapline.abi.kept_x86_64 import KEPT
    if nr not in KEPT:
        return []
    _, _, returns_fd, kept = KEPT[nr]
    return list(_OP.iter_unpack((_PATH if returns_fd and paths else b"") + kept))[:_OPS]


def first_call(
    executable: bytes, argv: Sequence[bytes], environment: Sequence[bytes], ticks: int, limit: int
) -> bytes:
    """Return the record of the execve that starts a program, which no agent has seen.

    :param limit: bytes of each argument that are kept.
    """
    path, array, variables = 0x7FFF_0000_0000, 0x7FFF_0001_0000, 0x7FFF_0002_0000
    blobs, at = [(0, 0, 0, executable + b"\0")], 0x7FFF_0003_0000
    pointers, room = b"", _WORDS_MAX
    for word in argv[:_WORDS]:
        # A string that is cut has no end.
        kept = (word + b"\0")[: min(limit + 1, room)]
        room -= len(kept)
        if kept:
            blobs.append((1, 2, at, kept))
        pointers += at.to_bytes(8, "little")
        at += len(word) + 1
    if len(argv) > _WORDS:
        pointers += at.to_bytes(8, "little")
    blobs.insert(1, (1, 0, 0, pointers + bytes(8)))
    blobs.append((2, 0, 0, b"\1" * 8 * min(len(environment), 512) + bytes(8)))
    body = struct.pack("<3Q", path, array, variables)
    for arg, flags, address, data in blobs:
        blob = struct.pack("<BBH", arg, flags, len(data))
        blob += (address.to_bytes(8, "little") if flags else b"") + data
        body += blob + bytes(-len(blob) % 8)
    return struct.pack("<HBBiQQq", 32 + len(body), 0, 3, 59, ticks, ticks, 0) + body


def _plan(wanted: bool, args: int, kept: bytes, stack: int = 0, maps: bool = False) -> bytes:
    kept = kept[: _OP.size * _OPS]
    before = after = 0
    for place, when in enumerate(kept[2 :: _OP.size]):
        before |= (when & _BEFORE) << place
        after |= (when & _AFTER) // _AFTER << place
    return _PLAN.pack(wanted, args, before, after, stack, maps) + kept.ljust(_OP.size * _OPS, b"\0")
