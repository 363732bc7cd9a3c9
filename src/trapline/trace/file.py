"""Recorded files, see native/agent/capture.h: from bytes to events, also while the file still grows."""

from __future__ import annotations

import struct

from trapline import abi
from trapline.errors import TraplineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from typing import BinaryIO

    Stack = tuple[tuple[int, ...], int, bytes, str]

__all__ = ["Event", "TraceFile", "count_calls", "read"]

CALL, SIGNAL, BEGUN, GONE, DROPPED, STATUS = range(1, 7)
_MAGIC = b"tltrace\n"
_VERSION = 2
_FILE, _CHUNK, _CLOCK = struct.Struct("<8sIIII"), struct.Struct("<IIii"), struct.Struct("<Qq")
_RECORD, _BLOB = struct.Struct("<HBBiQQq"), struct.Struct("<BBH")
_HEAD = struct.Struct("<HBxi")
_CHUNK_RECORDS, _CHUNK_CLOCK, _CHUNK_GONE, _CHUNK_DROPPED, _CHUNK_BEGUN, _CHUNK_STATUS = range(1, 7)
_CHUNK_MAPS = 8
_OF_STACK, _OF_REGISTERS = 0xFE, 0xFF
_I386, _UNFINISHED, _SIGNAL = 1, 2, 8
_AFTER, _NESTED, _PATH = 1, 2, 4
_WORDS = [struct.Struct(f"<{count}Q") for count in range(7)]


class Event:
    """A call, or something else that befell a thread.

    :ivar kind: CALL, SIGNAL, BEGUN, GONE, DROPPED or STATUS.
    :ivar pid: its process, and *tid* the thread.
    :ivar start: when, in nanoseconds since 1970; *end* is when the call had returned.
    :ivar nr: the call's or signal's number.
    :ivar args: argument registers, as many as the call has.
    :ivar result: what it has returned, -1 to -4095 an error; of STATUS how the command ended, of DROPPED how many calls
        are missing. None: it has not returned.
    :ivar memory: what was at an address, before the call and after it.
    :ivar path: what a new descriptor stands for, or "".
    :ivar text: of BEGUN the thread's name.
    :ivar stack: the caller's registers, where its stack pointer is, what is there, and where code is; or None.
    """

    __slots__ = (
        "arch",
        "args",
        "end",
        "kind",
        "memory",
        "nr",
        "path",
        "pid",
        "result",
        "stack",
        "start",
        "text",
        "tid",
    )

    def __init__(self, kind: int, pid: int, tid: int, start: int) -> None:
        self.kind = kind
        self.pid = pid
        self.tid = tid
        self.start = self.end = start
        self.nr = -1
        self.arch = "x86_64"
        self.args: tuple[int, ...] = ()
        self.result: int | None = None
        self.memory: list[tuple[int, bytes, bool]] = []
        self.path = ""
        self.text = ""
        self.stack: Stack | None = None

    @property
    def name(self) -> str:
        """The call's name."""
        return abi.name(self.nr, self.arch)

    @property
    def error(self) -> int:
        """The errno that it failed with, or 0."""
        return -self.result if self.result is not None and -4095 <= self.result < 0 else 0

    def read(self, address: int, size: int) -> bytes:
        """Return what was kept of the caller's memory, as far as that reaches: the later of two."""
        for start, data, _ in reversed(self.memory):
            if start <= address < start + len(data):
                return data[address - start : address - start + size]
        raise OSError(14, "not recorded")

    def read_before(self, address: int, size: int) -> bytes:
        """Return what was there before the call."""
        for start, data, after in self.memory:
            if not after and start <= address < start + len(data):
                return data[address - start : address - start + size]
        raise OSError(14, "not recorded")

    def __repr__(self) -> str:
        return f"<Event {self.kind} of thread {self.tid}>"


class Clock:
    """Turns the time stamp counter into nanoseconds, by two moments when both were known."""

    def __init__(self) -> None:
        self.first: tuple[int, int] | None = None
        self.last: tuple[int, int] | None = None
        self.rate = 0.0

    def tell(self, ticks: int, nanoseconds: int) -> None:
        """Learn one more moment."""
        if self.first is None:
            self.first = ticks, nanoseconds
        elif ticks > self.first[0]:
            self.last = ticks, nanoseconds
            self.rate = (nanoseconds - self.first[1]) / (ticks - self.first[0])

    def time(self, ticks: int) -> int:
        """Return the nanoseconds since 1970."""
        if self.last is None:
            return self.first[1] if self.first is not None else 0
        return self.last[1] + round((ticks - self.last[0]) * self.rate)


class TraceFile:
    """Reads a recorded file piece by piece.

    :param file: binary, at its start.
    :param name: for messages.
    :raises UsageError: it is no such file.
    """

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        self._file = file
        self._rest = b""
        header = file.read(_FILE.size)
        if len(header) < _FILE.size or header[:8] != _MAGIC:
            raise UsageError(f"{name!r} was not recorded by `trapline trace`")
        _, version, size, _, self.limit = _FILE.unpack(header)
        if version != _VERSION:
            raise TraplineError(
                f"{name!r} has version {version} of the format; this trapline reads {_VERSION}"
            )
        file.read(size - _FILE.size)
        self.clock = Clock()
        self._sure = 0
        self._maps: dict[int, str] = {}
        self._newest: dict[int, int] = {}  # when each thread has ended its last call
        self._held: list[tuple[int, int, Event]] = []
        self._count = 0

    def events(self, *, final: bool, pieces: int = 0) -> Iterator[Event]:
        """Return, by the time of their end, events that nothing earlier can come before any more.

        :param final: the file is complete: return all there are.
        :param pieces: look at no more than so many pieces of the file; 0: at all.
        """
        # Pieces keep the memory small: a file may be larger than that.
        while part := self._file.read(1 << 22):
            self._take(self._rest + part)
            yield from self._ready(self._sure)
            pieces -= 1
            if not pieces:
                break
        if final:
            yield from self._ready(1 << 64)

    def skip(self, size: int) -> int:
        """Pass over calls, at least so many bytes of them if there are, and return how many bytes these were."""
        self._file.seek(-len(self._rest), 1)
        self._rest = b""
        passed = 0
        while passed < size:
            head = self._file.read(_CHUNK.size)
            kind, length, pid, tid = _CHUNK.unpack(head) if len(head) == _CHUNK.size else (0, 0, 0, 0)
            if kind == _CHUNK_RECORDS:
                self._file.seek(length, 1)
                passed += length
                continue
            data = self._file.read(length)
            if not kind or len(data) < length:
                self._file.seek(-len(head) - len(data), 1)
                break
            self._chunk(kind, pid, tid, data, 0, length)
        return passed

    def _ready(self, until: int) -> Iterator[Event]:
        self._held.sort(key=lambda held: held[:2])
        count = 0
        for ticks, _, event in self._held:
            if ticks >= until:
                break
            count += 1
            clock = self.clock
            if event.end != event.start:
                event.end = clock.time(event.end)
            else:
                event.end = clock.time(event.start)
            event.start = clock.time(event.start)
            yield event
        del self._held[:count]

    def _hold(self, ticks: int, event: Event) -> None:
        self._count += 1
        self._held.append((ticks, self._count, event))

    def _take(self, data: bytes) -> None:
        at = 0
        while len(data) - at >= _CHUNK.size:
            kind, size, pid, tid = _CHUNK.unpack_from(data, at)
            if len(data) - at - _CHUNK.size < size:
                break
            at += _CHUNK.size
            self._chunk(kind, pid, tid, data, at, size)
            at += size
        self._rest = data[at:]

    def _chunk(self, kind: int, pid: int, tid: int, data: bytes, at: int, size: int) -> None:
        last = self.clock.last[0] if self.clock.last else 0
        if kind == _CHUNK_RECORDS:
            self._records(pid, tid, data, at, at + size)
        elif kind == _CHUNK_CLOCK:
            # What had ended when the supervisor looked before is all there; this time it has only begun to look.
            self._sure = last
            self.clock.tell(*_CLOCK.unpack_from(data, at))
        elif kind == _CHUNK_MAPS:
            self._maps[pid] = data[at : at + size].decode(errors="surrogateescape")
        elif kind == _CHUNK_BEGUN:
            event = Event(BEGUN, pid, tid, 0)
            event.text = data[at : at + size].decode(errors="replace")
            # Before the thread's first record, which comes next.
            here = at + size + _CHUNK.size
            event.start = _RECORD.unpack_from(data, here)[4] if len(data) >= here + _RECORD.size else last
            event.end = event.start
            self._hold(event.start, event)
        elif kind in (_CHUNK_GONE, _CHUNK_DROPPED, _CHUNK_STATUS):
            what = {_CHUNK_GONE: GONE, _CHUNK_DROPPED: DROPPED, _CHUNK_STATUS: STATUS}[kind]
            # Behind all that the thread has done, and the end of the command behind everything.
            last = max(
                last, max(self._newest.values(), default=0) if what == STATUS else self._newest.get(tid, 0)
            )
            event = Event(what, pid, tid, last)
            if size:
                event.result = int.from_bytes(data[at : at + size], "little", signed=True)
            self._hold(last, event)

    def _records(self, pid: int, tid: int, data: bytes, at: int, end: int) -> None:
        while at + _RECORD.size <= end:
            size, flags, count, nr, start, stop, result = _RECORD.unpack_from(data, at)
            if size < _RECORD.size or at + size > end or count > 6:
                return  # the program has written over its ring
            event = Event(SIGNAL if flags & _SIGNAL else CALL, pid, tid, start)
            event.nr = nr
            event.args = _WORDS[count].unpack_from(data, at + _RECORD.size)
            if flags & _I386:
                event.arch = "i386"
            if flags & _UNFINISHED:
                # It stands where the thread had come to, behind all that it has done.
                stop = start
            elif not flags & _SIGNAL:
                event.result = result
            event.end = stop
            self._memory(event, data, at + _RECORD.size + 8 * count, at + size)
            at += size
            self._newest[tid] = stop
            self._hold(stop, event)

    def _memory(self, event: Event, data: bytes, at: int, end: int) -> None:
        registers: tuple[int, ...] = ()
        while at + _BLOB.size <= end:
            arg, flags, size = _BLOB.unpack_from(data, at)
            following = at + ((_BLOB.size + (8 if flags & _NESTED else 0) + size + 7) & ~7)
            at += _BLOB.size
            if flags & _NESTED:
                address = int.from_bytes(data[at : at + 8], "little")
                at += 8
            else:
                address = event.args[arg] if arg < len(event.args) else 0
            if at + size > end:
                return
            kept = data[at : at + size]
            if flags & _PATH:
                event.path = kept.decode(errors="surrogateescape")
            elif arg == _OF_REGISTERS:
                registers = struct.unpack(f"<{size // 8}Q", kept)
            elif arg == _OF_STACK:
                event.stack = (registers, address, kept, self._maps.get(event.pid, ""))
            else:
                event.memory.append((address, kept, bool(flags & _AFTER)))
            at = following


def read(path: str) -> Iterator[Event]:
    """Return the events of a recorded file.

    :raises UsageError: it cannot be read, or is no such file.
    """
    with _opened(path) as file:
        yield from TraceFile(file, path).events(final=True)


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None


def count_calls(path: str) -> Counter[str]:
    """Return how often each call is in a recorded file, many times faster than by its events.

    :raises UsageError: it cannot be read, or is no such file.
    """
    from collections import Counter

    found: Counter[tuple[int, int]] = Counter()
    with _opened(path) as file:
        TraceFile(file, path)
        while len(head := file.read(_CHUNK.size)) == _CHUNK.size:
            kind, size, _, _ = _CHUNK.unpack(head)
            data, at = file.read(size), 0
            if len(data) < size:
                break
            while kind == _CHUNK_RECORDS and at + _RECORD.size <= size:
                length, flags, nr = _HEAD.unpack_from(data, at)
                if length < _RECORD.size:
                    break  # the program has written over its ring
                found[flags & (_I386 | _SIGNAL), nr] += 1
                at += length
    named: Counter[str] = Counter()
    for (flags, nr), count in found.items():
        if not flags & _SIGNAL:
            named[abi.name(nr, "i386" if flags & _I386 else "x86_64")] += count
    return named
