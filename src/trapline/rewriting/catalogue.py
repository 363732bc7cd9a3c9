"""Plans that have been made: the second process that asks for a site of the same file gets the same bytes.

So does the first one of a later session, from the :mod:`~trapline.rewriting.store`. What plans are made with is
imported when there is one to make.
"""

from __future__ import annotations

import os

from trapline.rewriting import mappings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.rewriting.blocks import Gate
    from trapline.rewriting.elf import CodeFile
    from trapline.rewriting.mappings import Mapping
    from trapline.rewriting.store import PlanStore, Stored
    from trapline.rewriting.windows import Plan, Refusal

__all__ = ["SiteCatalogue", "plan_in_file"]

# How much of a function is looked at: in front of the site, where its start has to be, and behind it.
_BEFORE_MAX = 1 << 14
_BEHIND_MAX = 1 << 12
# What is read of code that was made at run time: windows, votes, and whole instructions at the ends.
_AROUND = 96 + 48  # surroundings.VOTES_FROM and WINDOW_MAX, which are not imported here; a test compares
_FILES_MAX = 256
_ENTRIES_MAX = 1 << 16
_FORMAT, _REGULAR = 0o170000, 0o100000
# Kinds of answers in the store, the low bits of their names.
_NO_RETURN, _FAR = 1, 2


def plan_in_file(code: CodeFile, offset: int, *, returns: bool = True) -> Plan | Refusal:
    """Plan a site by the file that it is mapped from, which no process has written to.

    :param offset: of the ``syscall`` instruction in the file.
    :param returns: as for :func:`~trapline.rewriting.windows.plan`.
    """
    from trapline.rewriting.windows import plan

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


class _File:
    """A file that code is mapped from.

    :ivar path: where it was found last.
    :ivar stored: what the store has of it.
    """

    __slots__ = ("_code", "identity", "path", "stored")

    def __init__(self, identity: tuple[int, ...], path: str, stored: Stored | None) -> None:
        self.identity = identity
        self.path = path
        self.stored = stored
        self._code: CodeFile | None = None

    def open(self, moved: Callable[[int], int] | None) -> CodeFile | None:
        """Return the open file; None when it cannot be opened, or is another one by now."""
        if self._code is None:
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                return None
            if _identity(os.fstat(fd)) != self.identity:
                os.close(fd)
                return None
            from trapline.rewriting.elf import CodeFile

            self._code = CodeFile(fd if moved is None else moved(fd))
        return self._code

    def close(self) -> None:
        """Let go of the file; what is known of it stays."""
        self._code = None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _refuse(reason: str) -> bytes:
    from trapline.rewriting.windows import Refusal
    from trapline.rewriting.wire import pack

    return pack(Refusal(reason))


class _Entry:
    """The answers for one site: for an agent within reach, and for one out of it.

    :ivar near: the first one, or a refusal.
    :ivar far: the other one as soon as somebody needed it.
    :ivar found: the plan behind them, unless they come from the store.
    """

    __slots__ = ("far", "found", "near")

    def __init__(self, near: bytes, far: bytes = b"", found: Plan | Refusal | None = None) -> None:
        self.near = near
        self.far = far
        self.found = found

    def reaches(self, site: int, room: range) -> bool:
        """Tell whether the near answer will do."""
        # As trapline.rewriting.wire has it: the reason why not; start, trapping, lowest and highest.
        near = self.near
        if near[2]:
            return True
        lowest = int.from_bytes(near[24:28], "little", signed=True)
        highest = int.from_bytes(near[28:32], "little", signed=True)
        if not near[6]:
            return max(room.start, site + lowest) < min(room.stop, site + highest + 1)
        from trapline.rewriting.placement import Placement

        start = int.from_bytes(near[4:5], "little", signed=True)
        place = Placement(start, near[6], lowest, highest)
        return next(place.find(site, room.start, room.stop), None) is not None


class SiteCatalogue:
    """Answers the agents' question how a site is patched. One thread at a time may ask.

    :param gate: the agent's template, or what returns it when the first plan is made.
    :param read: reads memory of a process: ``read(pid, address, size)``.
    :param store: where answers outlive this catalogue.
    :param moved: returns a descriptor that takes the place of one that was opened. Files stay open for the next
        question without it, and only until the answer with it: the next one may come from a thread with other
        descriptors.
    """

    def __init__(
        self,
        gate: Gate | Callable[[], Gate],
        read: Callable[[int, int, int], bytes] = mappings.read_memory,
        store: PlanStore | None = None,
        moved: Callable[[int], int] | None = None,
    ) -> None:
        self._moved = moved
        self._given = gate
        self._read = read
        self._store = store
        self._files: dict[tuple[int, ...], _File] = {}
        self._entries: dict[tuple[object, ...], _Entry] = {}

    def answer(self, pid: int, site: int, room: range, *, returns: bool = True) -> bytes:
        """Return the answer for a site, as :mod:`trapline.rewriting.wire` describes it.

        :param pid: a process that runs the code; it may end meanwhile.
        :param site: address of the ``syscall`` instruction.
        :param room: where the agent has room for blocks. A block that cannot be there is laid out in two pieces.
        :param returns: whether a call at this site has been seen to come back behind it.
        """
        try:
            mapping = mappings.find(pid, site)
            refusal = _objection(mapping)
            if refusal or mapping is None:
                return _refuse(refusal)
            file = self._file_of(pid, mapping, site)
            if file is None:
                entry = self._in_memory(pid, mapping, site, returns)
                return entry.near if entry.reaches(site, room) else self._far(entry)
            return self._from_file(pid, mapping, site, room, file, returns)
        except OSError:
            return _refuse("unreadable")
        finally:
            if self._moved is not None:
                for each in self._files.values():
                    each.close()

    def plan(self, pid: int, site: int, *, returns: bool = True) -> Plan | Refusal:
        """Return the plan for a site, made here.

        :raises OSError: the process is gone, or its memory cannot be read.
        """
        from trapline.rewriting.windows import Refusal

        mapping = mappings.find(pid, site)
        refusal = _objection(mapping)
        if refusal or mapping is None:
            return Refusal(refusal)
        file = self._file_of(pid, mapping, site)
        entry = self._in_file(file, mapping, site, returns) if file is not None else None
        if entry is None:
            entry = self._in_memory(pid, mapping, site, returns)
        assert entry.found is not None
        return entry.found

    def save(self) -> None:
        """Write what was planned to the store."""
        if self._store is not None:
            self._store.save()

    @property
    def is_changed(self) -> bool:
        """Whether there is something to save."""
        return self._store is not None and self._store.is_changed

    @property
    def _gate(self) -> Gate:
        if callable(self._given):
            self._given = self._given()
        return self._given

    def _from_file(
        self, pid: int, mapping: Mapping, site: int, room: range, file: _File, returns: bool
    ) -> bytes:
        offset = site - mapping.start + mapping.offset
        name = offset << 2 | (0 if returns else _NO_RETURN)
        key = (file.identity, offset, returns)
        stored = file.stored
        entry = self._entries.get(key)
        if entry is None and stored is not None:
            near = stored.get(name)
            if near is not None:
                entry = self._remember(key, _Entry(near, stored.get(name | _FAR) or b""))
        if entry is None or not (entry.reaches(site, room) or entry.far or entry.found is not None):
            entry = self._in_file(file, mapping, site, returns)
            if entry is None:
                entry = self._in_memory(pid, mapping, site, returns)
                stored = None
            elif stored is not None and self._store is not None:
                self._store.add(stored, name, entry.near)
        if entry.reaches(site, room):
            return entry.near
        if not entry.far:
            self._far(entry)
            if stored is not None and self._store is not None:
                self._store.add(stored, name | _FAR, entry.far)
        return entry.far

    def _far(self, entry: _Entry) -> bytes:
        from trapline.rewriting.blocks import encode
        from trapline.rewriting.windows import Plan
        from trapline.rewriting.wire import pack

        if not entry.far:
            assert isinstance(entry.found, Plan)
            entry.far = pack(entry.found, encode(entry.found, self._gate, in_two=True))
        return entry.far

    def _in_file(self, file: _File, mapping: Mapping, site: int, returns: bool) -> _Entry | None:
        """Return a site's entry with its plan, by the file; None when that cannot be read."""
        offset = site - mapping.start + mapping.offset
        key = (file.identity, offset, returns)
        entry = self._entries.get(key)
        if entry is None or entry.found is None:
            code = file.open(self._moved)
            if code is None:
                return None
            entry = self._remember(key, self._planned(plan_in_file(code, offset, returns=returns)))
        return entry

    def _in_memory(self, pid: int, mapping: Mapping, site: int, returns: bool) -> _Entry:
        low = max(mapping.start, site - _AROUND)
        data = self._read(pid, low, min(mapping.end, site + _AROUND) - low)
        key = (data, site - low, returns)
        entry = self._entries.get(key)
        if entry is None:
            from trapline.rewriting.windows import plan

            entry = self._remember(key, self._planned(plan(data, low, site, returns=returns)))
        return entry

    def _planned(self, found: Plan | Refusal) -> _Entry:
        from trapline.rewriting.blocks import encode
        from trapline.rewriting.windows import Refusal
        from trapline.rewriting.wire import pack

        if isinstance(found, Refusal):
            return _Entry(pack(found), found=found)
        return _Entry(pack(found, encode(found, self._gate)), found=found)

    def _remember(self, key: tuple[object, ...], entry: _Entry) -> _Entry:
        if len(self._entries) >= _ENTRIES_MAX:
            self._entries.clear()
        self._entries[key] = entry
        return entry

    def _file_of(self, pid: int, mapping: Mapping, site: int) -> _File | None:
        """Find the file that is mapped; None when it cannot be told for sure."""
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
            identity = _identity(status)
            file = self._files.get(identity)
            if file is not None:
                file.path = path
                return file
            if status.st_mode & _FORMAT != _REGULAR:
                continue
            file = _File(identity, path, self._store.load(identity) if self._store is not None else None)
            # Some file systems tell another device to stat than to maps: let the bytes decide.
            if status.st_dev != mapping.device and not self._same(pid, mapping, site, file):
                continue
            # What nothing is kept of has to be read anyway: now, while it can be found.
            if not file.stored and file.open(self._moved) is None:
                continue
            if len(self._files) >= _FILES_MAX:
                self._files.clear()
            self._files[identity] = file
            return file
        return None

    def _same(self, pid: int, mapping: Mapping, site: int, file: _File) -> bool:
        code = file.open(self._moved)
        if code is None:
            return False
        low = max(mapping.start, site - _AROUND)
        data = self._read(pid, low, _AROUND)
        return code.read(low - mapping.start + mapping.offset, len(data)) == data


def _objection(mapping: Mapping | None) -> str:
    """Tell why what is mapped there is left alone whatever it is, or nothing."""
    if mapping is None:
        return "unreadable"
    if mapping.is_writable:
        return "writable"
    return "shared" if mapping.is_shared else ""
