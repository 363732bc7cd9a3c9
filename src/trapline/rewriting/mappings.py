"""What is mapped at an address of a process."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from array import array

__all__ = ["Mapping", "find", "read_memory"]

# struct procmap_query: sizes, query and answer, all 64 bits, then numbers of 32 bits and two buffers.
_QUERY = struct.Struct("<9Q4I2Q")
_PROCMAP_QUERY = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17
_NAME_SIZE = 4096


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
    fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            return _ask(fd, address)
        except OSError as error:
            # Kernels before the query have only the text.
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise
        return _look_up(fd, address)
    finally:
        os.close(fd)


def _ask(fd: int, address: int) -> Mapping | None:
    name = array("B", bytes(_NAME_SIZE))
    query = bytearray(
        _QUERY.pack(_QUERY.size, 0, address, 0, 0, 0, 0, 0, 0, 0, 0, _NAME_SIZE, 0, name.buffer_info()[0], 0)
    )
    try:
        fcntl.ioctl(fd, _PROCMAP_QUERY, query, True)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    _, _, _, start, end, flags, _, offset, inode, major, minor, length, _, _, _ = _QUERY.unpack(query)
    path = os.fsdecode(name[: max(0, length - 1)].tobytes())
    return Mapping(
        start,
        end,
        offset,
        os.makedev(major, minor),
        inode,
        path,
        writable=bool(flags & 2),
        shared=bool(flags & 8),
    )


def _look_up(fd: int, address: int) -> Mapping | None:
    text = b""
    while part := os.read(fd, 1 << 16):
        text += part
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
