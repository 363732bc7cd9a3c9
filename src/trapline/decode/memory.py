"""What pointers point to, as text: strings, structs, arrays."""

from __future__ import annotations

from trapline.abi import structs
from trapline.decode.values import flags_text, mode_text, sigset_text, wait_status_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: Reads memory of the caller: ``read(address, size) -> bytes``; short or OSError where nothing is mapped.
    Reader = Callable[[int, int], bytes]

PAGE = 4096
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
#: Members that are flag words or values of a family.
_FAMILIES = {
    ("pollfd", "events"): "poll",
    ("pollfd", "revents"): "poll",
    ("epoll_event", "events"): "epoll",
    ("open_how", "flags"): "open",
    ("open_how", "resolve"): "resolve",
    ("clone_args", "flags"): "clone3",
    ("sigaction", "sa_flags"): "sa",
    ("old_sigaction", "sa_flags"): "sa",
    ("stack_t", "ss_flags"): "sigaltstack",
    ("flock", "l_type"): "lock_type",
    ("flock", "l_whence"): "seek",
    ("flock64", "l_type"): "lock_type",
    ("flock64", "l_whence"): "seek",
    ("msghdr", "msg_flags"): "msg",
    ("statx", "stx_mask"): "statx",
    ("statx", "stx_attributes"): "statx_attr",
    ("mount_attr", "attr_set"): "mount_attr",
    ("mount_attr", "attr_clr"): "mount_attr",
    ("sched_attr", "sched_policy"): "sched",
    ("siginfo", "si_signo"): "signal",
    ("clone_args", "exit_signal"): "signal",
    ("linux_dirent64", "d_type"): "dirent_type",
    ("inotify_event", "mask"): "inotify",
}
_MODES = {"st_mode", "stx_mode"}
_ADDRESSES = ("_base", "_handler", "_restorer", "_addr", "_sp", "_ptr", "msg_name", "msg_iov", "msg_control")
_SIGSETS = {("sigaction", "sa_mask"), ("sigset_t", "bits"), ("old_sigset_t", "bits")}


def quote(data: bytes, limit: int | None = None) -> str:
    """Write bytes as a C string: printable ASCII as it is, the rest escaped, ``...`` after *limit* bytes."""
    shown = data if limit is None else data[:limit]
    parts = ['"']
    for position, byte in enumerate(shown):
        if byte in _ESCAPES:
            parts.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            parts.append(chr(byte))
        else:
            # Three digits where a digit follows, or it would become a part of the escape.
            following = shown[position + 1 : position + 2]
            parts.append(f"\\{byte:03o}" if following.isdigit() else f"\\{byte:o}")
    return "".join(parts) + '"' + ("..." if len(shown) < len(data) else "")


def read_string(read: Reader, address: int, limit: int = PAGE) -> bytes | None:
    """Read a C string of at most *limit* bytes; None when its start cannot be read.

    Never reads over a page's end before it knows that the string goes on there.
    """
    found = b""
    while len(found) < limit:
        here = address + len(found)
        part = try_read(read, here, min(limit - len(found), PAGE - here % PAGE))
        if not part:
            return found or None
        text, zero, _ = part.partition(b"\0")
        found += text
        if zero:
            break
    return found


def try_read(read: Reader, address: int, size: int) -> bytes:
    """Read memory; empty where it cannot be read."""
    try:
        return bytes(read(address, size))
    except OSError:
        return b""


def address_text(address: int) -> str:
    """Write an address: ``NULL`` or hexadecimal."""
    return hex(address) if address else "NULL"


def struct_text(name: str, data: bytes, arch: str | None = None) -> str:
    """Write a struct: ``{tv_sec=1, tv_nsec=0}``, flag members by name, padding left out.

    :raises UsageError: *data* is too short, or there is no such struct.
    """
    if name == "wait_status":
        return f"[{{{wait_status_text(int.from_bytes(data[:4], 'little'))}}}]"
    record = structs.unpack(name, data, arch)
    if name in ("sigset_t", "old_sigset_t"):
        return sigset_text(record.bits)
    return record_text(record, arch)


def record_text(record: structs.Record, arch: str | None) -> str:
    """Write an unpacked struct."""
    name = structs.name_of(record)
    shown = []
    for member, value in structs.values(record).items():
        if not member.startswith("_"):
            shown.append(f"{member}={_member_text(name, member, value, arch)}")
    return "{" + ", ".join(shown) + "}"


def _member_text(name: str, member: str, value: Any, arch: str | None) -> str:
    if isinstance(value, structs.Record):
        return record_text(value, arch)
    if isinstance(value, bytes):
        return quote(value, 64)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    family = _FAMILIES.get((name, member))
    if family is not None:
        return flags_text(family, value & 0xFFFF if family == "poll" else value, arch)
    if member in _MODES:
        return mode_text(value)
    if (name, member) in _SIGSETS:
        return sigset_text(value)
    return address_text(value) if member.endswith(_ADDRESSES) else str(value)
