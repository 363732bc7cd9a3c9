"""Structs as strace writes them, the rare members left out."""

from __future__ import annotations

from trapline.abi import structs
from trapline.decode.memory import quote
from trapline.decode.values import flags_text
from trapline.trace.values import file_mode, limit_text, makedev, sigaction_text, statx_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STRUCTS", "epoll_event"]


def _stat(record: structs.Record) -> str:
    kind = record.st_mode & 0o170000
    if kind in (0o020000, 0o060000):
        return f"{{st_mode={file_mode(record.st_mode)}, st_rdev={makedev(record.st_rdev)}, ...}}"
    return f"{{st_mode={file_mode(record.st_mode)}, st_size={record.st_size}, ...}}"


def _named(*names: str) -> Callable[[structs.Record], str]:
    def write(record: structs.Record) -> str:
        found = structs.values(record)
        shown = [
            f"{name}={quote(found[name]) if isinstance(found[name], bytes) else found[name]}"
            for name in names
        ]
        return f"{{{', '.join(shown)}, ...}}"

    return write


def _rusage(record: structs.Record) -> str:
    times = [
        f"{name}={{tv_sec={time.tv_sec}, tv_usec={time.tv_usec}}}"
        for name, time in (("ru_utime", record.ru_utime), ("ru_stime", record.ru_stime))
    ]
    return f"{{{', '.join(times)}, ...}}"


def _rlimit(record: structs.Record) -> str:
    return f"{{rlim_cur={limit_text(record.rlim_cur)}, rlim_max={limit_text(record.rlim_max)}}}"


def epoll_event(record: structs.Record) -> str:
    """Write a struct epoll_event."""
    data = structs.values(record)["data"]
    return f"{{events={flags_text('epoll', record.events)}, data={{u32={data & 0xFFFFFFFF}, u64={data}}}}}"


def _sysinfo(record: structs.Record) -> str:
    found = structs.values(record)
    shown = [
        f"{name}={list(value) if isinstance(value, tuple) else value}"
        for name, value in found.items()
        if not name.startswith("_") and name != "pad"
    ]
    return f"{{{', '.join(shown)}}}"


def _statfs(record: structs.Record) -> str:
    found = structs.values(record)
    magic = _MAGICS.get(record.f_type, hex(record.f_type))
    shown = [f"f_type={magic}"]
    plain = ("f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")
    shown += [f"{name}={found[name]}" for name in plain]
    words = [value & 0xFFFFFFFF for value in found["f_fsid"]]
    shown.append(f"f_fsid={{val=[{', '.join(hex(word) if word else '0' for word in words)}]}}")
    shown.append(f"f_namelen={found['f_namelen']}, f_frsize={found['f_frsize']}")
    bits = found["f_flags"]
    names = [name for bit, name in _MOUNTED if bits & bit]
    rest = bits & ~sum(bit for bit, _ in _MOUNTED)
    shown.append(f"f_flags={'|'.join([*names, *([hex(rest)] if rest else [])]) or '0'}")
    return f"{{{', '.join(shown)}}}"


_MAGICS = {
    0xEF53: "EXT2_SUPER_MAGIC", 0x01021994: "TMPFS_MAGIC", 0x9FA0: "PROC_SUPER_MAGIC", 0x62656572: "SYSFS_MAGIC",
    0x58465342: "XFS_SUPER_MAGIC", 0x9123683E: "BTRFS_SUPER_MAGIC", 0x794C7630: "OVERLAYFS_SUPER_MAGIC",
    0x6969: "NFS_SUPER_MAGIC", 0x1CD1: "DEVPTS_SUPER_MAGIC", 0x63677270: "CGROUP2_SUPER_MAGIC",
}  # fmt: skip
_MOUNTED = (
    (0x20, "ST_VALID"), (0x1, "ST_RDONLY"), (0x2, "ST_NOSUID"), (0x4, "ST_NODEV"), (0x8, "ST_NOEXEC"),
    (0x10, "ST_SYNCHRONOUS"), (0x40, "ST_MANDLOCK"), (0x400, "ST_NOATIME"), (0x800, "ST_NODIRATIME"),
    (0x1000, "ST_RELATIME"),
)  # fmt: skip
STRUCTS: dict[str, Callable[[structs.Record], str]] = {
    "stat": _stat,
    "stat64": _stat,
    "statx": statx_text,
    "sysinfo": _sysinfo,
    "statfs": _statfs,
    "utsname": _named("sysname", "nodename"),
    "rusage": _rusage,
    "rlimit64": _rlimit,
    "rlimit": _rlimit,
    "epoll_event": epoll_event,
    "sigaction": sigaction_text,
}
