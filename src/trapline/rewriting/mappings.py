"""What is mapped at an address of a process."""

from __future__ import annotations

import errno
import os

from trapline import _native

__all__ = ["Mapping", "find", "read_memory"]


class Mapping:
    """One line of ``/proc/PID/maps``.

    :ivar start: its first address.
    :ivar end: behind its last one.
    :ivar offset: what of the file is at *start*.
    :ivar device: the file's, as ``os.stat`` gives it for most file systems.
    :ivar inode: the file's, 0 without one.
    :ivar is_writable: the program may write there.
    :ivar is_shared: what is written there is written to the file, or to other processes.
    :ivar path: the file's as this process sees it; a name in brackets or nothing without one.
    """

    __slots__ = ("device", "end", "inode", "is_shared", "is_writable", "offset", "path", "start")

    def __init__(
        self,
        start: int,
        end: int,
        offset: int,
        device: int,
        inode: int,
        path: str,
        *,
        writable: bool,
        shared: bool,
    ) -> None:
        self.start = start
        self.end = end
        self.offset = offset
        self.device = device
        self.inode = inode
        self.path = path
        self.is_writable = writable
        self.is_shared = shared


def find(pid: int, address: int) -> Mapping | None:
    """Return what is mapped at *address*, or None.

    :raises OSError: the process is gone or may not be looked at.
    """
    try:
        start, end, flags, offset, inode, major, minor, path = _native.find_mapping(pid, address)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        # Kernels before the query have only the text.
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return _look_up(pid, address)
    return Mapping(
        start, end, offset, os.makedev(major, minor), inode, path,
        writable=bool(flags & 2), shared=bool(flags & 8),
    )  # fmt: skip


def _look_up(pid: int, address: int) -> Mapping | None:
    with open(f"/proc/{pid}/maps", "rb") as file:
        text = file.read()
    for line in text.splitlines():
        fields = line.split(None, 5)
        low, high = (int(each, 16) for each in fields[0].split(b"-"))
        if low <= address < high:
            major, minor = (int(each, 16) for each in fields[3].split(b":"))
            path = os.fsdecode(fields[5]) if len(fields) > 5 else ""
            return Mapping(
                low, high, int(fields[2], 16), os.makedev(major, minor), int(fields[4]), path,
                writable=fields[1][1:2] == b"w", shared=fields[1][3:4] == b"s",
            )  # fmt: skip
    return None


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Return memory of a process, less than *size* at the end of what is mapped.

    :raises OSError: the process is gone or may not be looked at, or nothing is mapped there.
    """
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)
