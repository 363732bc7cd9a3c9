"""Plans that have been made: the second process that asks for a site of the same file gets the same bytes."""

from __future__ import annotations

import os

from trapline.rewriting import mappings
from trapline.rewriting.blocks import Gate, encode
from trapline.rewriting.elf import CodeFile
from trapline.rewriting.placement import placements
from trapline.rewriting.surroundings import VOTES_FROM, WINDOW_MAX
from trapline.rewriting.windows import Plan, Refusal, plan
from trapline.rewriting.wire import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.rewriting.mappings import Mapping
    from trapline.rewriting.placement import Placement

__all__ = ["SiteCatalogue", "plan_in_file"]

# How much of a function is looked at: in front of the site, where its start has to be, and behind it.
_BEFORE_MAX = 1 << 14
_BEHIND_MAX = 1 << 12
# What is read of code that was made at run time: windows, votes, and whole instructions at the ends.
_AROUND = VOTES_FROM + WINDOW_MAX
_FILES_MAX = 256
_ENTRIES_MAX = 1 << 16


def plan_in_file(code: CodeFile, offset: int, *, returns: bool = True) -> Plan | Refusal:
    """Plan a site by the file that it is mapped from, which no process has written to.

    :param offset: of the ``syscall`` instruction in the file.
    :param returns: as for :func:`~trapline.rewriting.windows.plan`.
    """
    segment = code.segment_of(offset)
    if segment is None:
        low = max(0, offset - _AROUND)
        return plan(code.read(low, offset + _AROUND - low), low, offset, starts=(), returns=returns)
    # Everything is done where the file was linked to run: plans do not depend on it.
    low, address, size = segment
    at = address + offset - low
    high = min(low + size, offset + _BEHIND_MAX)
    function = code.function(at)
    begin = offset - _AROUND
    if function.start is not None and at - function.start <= _BEFORE_MAX:
        begin = offset - (at - function.start)
    low = max(low, begin)
    return plan(code.read(low, high - low), at - (offset - low), at, starts=function.starts, returns=returns)


class _Entry:
    """A plan with its answers for an agent within reach and for one out of it."""

    __slots__ = ("far", "found", "near", "place")

    def __init__(self, found: Plan | Refusal, gate: Gate) -> None:
        self.found = found
        self.place: Placement | None = None
        self.far = b""
        if isinstance(found, Refusal):
            self.near = pack(found)
        else:
            block = encode(found, gate)
            self.near = pack(found, block)
            self.place = placements(found, block)

    def for_room(self, site: int, room: range, gate: Gate) -> bytes:
        if self.place is None or next(self.place.find(site, room.start, room.stop), None) is not None:
            return self.near
        if not self.far:
            assert isinstance(self.found, Plan)
            self.far = pack(self.found, encode(self.found, gate, in_two=True))
        return self.far


class SiteCatalogue:
    """Answers the agents' question how a site is patched. One thread at a time may ask.

    :param gate: the agent's template.
    :param read: reads memory of a process: ``read(pid, address, size)``.
    """

    def __init__(self, gate: Gate, read: Callable[[int, int, int], bytes] = mappings.read_memory) -> None:
        self._gate = gate
        self._read = read
        self._files: dict[tuple[int, ...], CodeFile] = {}
        self._entries: dict[tuple[object, ...], _Entry] = {}

    def answer(self, pid: int, site: int, room: range, *, returns: bool = True) -> bytes:
        """Return the answer for a site, as :mod:`trapline.rewriting.wire` describes it.

        :param pid: a process that runs the code; it may end meanwhile.
        :param site: address of the ``syscall`` instruction.
        :param room: where the agent has room for blocks. A block that cannot be there is laid out in two pieces.
        :param returns: whether a call at this site has been seen to come back behind it.
        """
        try:
            entry = self._entry(pid, site, returns)
        except OSError:
            return pack(Refusal("unreadable"))
        return entry.for_room(site, room, self._gate)

    def plan(self, pid: int, site: int, *, returns: bool = True) -> Plan | Refusal:
        """Return the plan for a site.

        :raises OSError: the process is gone, or its memory cannot be read.
        """
        return self._entry(pid, site, returns).found

    def _entry(self, pid: int, site: int, returns: bool) -> _Entry:
        mapping = mappings.find(pid, site)
        if mapping is None:
            return _Entry(Refusal("unreadable"), self._gate)
        if mapping.is_writable or mapping.is_shared:
            return _Entry(Refusal("writable" if mapping.is_writable else "shared"), self._gate)
        file = self._file_of(pid, mapping, site)
        if file is not None:
            identity, code = file
            offset = site - mapping.start + mapping.offset
            key: tuple[object, ...] = (identity, offset, returns)
            entry = self._entries.get(key)
            if entry is None:
                entry = self._remember(key, plan_in_file(code, offset, returns=returns))
            return entry
        low = max(mapping.start, site - _AROUND)
        data = self._read(pid, low, min(mapping.end, site + _AROUND) - low)
        key = (data, site - low, returns)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._remember(key, plan(data, low, site, returns=returns))
        return entry

    def _remember(self, key: tuple[object, ...], found: Plan | Refusal) -> _Entry:
        if len(self._entries) >= _ENTRIES_MAX:
            self._entries.clear()
        entry = self._entries[key] = _Entry(found, self._gate)
        return entry

    def _file_of(self, pid: int, mapping: Mapping, site: int) -> tuple[tuple[int, ...], CodeFile] | None:
        """Open the file that is mapped, or find it open; None when it cannot be told for sure."""
        if not mapping.inode or not mapping.path.startswith("/"):
            return None
        for path in (
            mapping.path,
            f"/proc/{pid}/root{mapping.path}",
            f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}",
        ):
            try:
                status = os.stat(path)
            except OSError:
                continue
            if status.st_ino != mapping.inode:
                continue
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            code = self._files.get(identity)
            if code is not None:
                return identity, code
            if not os.path.isfile(path):
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            code = CodeFile(fd)
            # Some file systems tell another device to stat than to maps: let the bytes decide.
            if status.st_dev != mapping.device and not self._same(pid, mapping, site, code):
                continue
            if len(self._files) >= _FILES_MAX:
                self._files.clear()
            self._files[identity] = code
            return identity, code
        return None

    def _same(self, pid: int, mapping: Mapping, site: int, code: CodeFile) -> bool:
        low = max(mapping.start, site - _AROUND)
        data = self._read(pid, low, _AROUND)
        return code.read(low - mapping.start + mapping.offset, len(data)) == data
