"""Recorded files, see native/agent/capture.h: from bytes to events, also while the file still grows."""

from __future__ import annotations

import struct

from trapline import _native, abi
from trapline.errors import TraplineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from trapline.trace.text import TextWriter

    Stack = tuple[tuple[int, ...], int, bytes, str]

__all__ = ["Event", "TraceFile", "count_calls", "opened", "read"]

CALL, SIGNAL, BEGUN, GONE, DROPPED, STATUS = range(1, 7)
#: enum tl_trace_outcome: of calls whose results nobody saw.
UNSEEN = 2
_MAGIC = b"tltrace\n"
_VERSION = 2
_FILE, _CHUNK = struct.Struct("<8sIIII"), struct.Struct("<II8x")
_CHUNK_RECORDS = 1
_I386, _UNFINISHED, _UNSEEN = 1, 2, 16  # enum tl_record_flag
_PIECE = 1 << 22


class Event:
    """A call, or something else that befell a thread.

    :ivar kind: CALL, SIGNAL, BEGUN, GONE, DROPPED or STATUS.
    :ivar pid: its process, and *tid* the thread.
    :ivar start: when, in nanoseconds since 1970; *end* is when the call had returned.
    :ivar nr: the call's or signal's number.
    :ivar args: argument registers, as many as the call has.
    :ivar result: what it has returned, -1 to -4095 an error; of STATUS how the command ended, of DROPPED how many calls
        are missing. None: it has not returned.
    :ivar unseen: of a call that was recorded where nobody saw results: *result* is None, and it may have returned.
    :ivar memory: what was at an address, before the call and after it.
    :ivar path: what a new descriptor stands for, or "".
    :ivar stack: registers, the address of a piece of its stack, that piece, and where code was; or None.
    :ivar text: of BEGUN the thread's name.
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
        "unseen",
    )

    def __init__(
        self,
        kind: int,
        pid: int,
        tid: int,
        start: int,
        end: int,
        nr: int,
        flags: int,
        args: tuple[int, ...],
        result: int | None,
        memory: list[tuple[int, bytes, bool]],
        path: str,
        text: str,
        stack: Stack | None,
    ) -> None:
        self.kind = kind
        self.pid = pid
        self.tid = tid
        self.start = start
        self.end = end
        self.nr = nr
        self.arch = "i386" if flags & _I386 else "x86_64"
        self.unseen = flags & (_UNSEEN | _UNFINISHED) == _UNSEEN
        self.args = args
        self.result = result
        self.memory = memory
        self.path = path
        self.text = text
        self.stack = stack

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


class TraceFile:
    """Reads a recorded file piece by piece.

    :param file: binary, at its start.
    :param name: for messages.
    :raises UsageError: it is no such file.
    """

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        self._file = file
        header = file.read(_FILE.size)
        if len(header) < _FILE.size or header[:8] != _MAGIC:
            raise UsageError(f"{name!r} was not recorded by `trapline trace`")
        _, version, size, _, self.limit = _FILE.unpack(header)
        if version != _VERSION:
            raise TraplineError(
                f"{name!r} has version {version} of the format; this trapline reads {_VERSION}"
            )
        file.read(size - _FILE.size)
        self._reader = _native.TraceReader(Event)

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def events(self, *, final: bool) -> Iterator[Event]:
        """Return, by the time of their end, events that nothing earlier can come before any more.

        :param final: the file is complete: return all there are.
        """
        for everything in self._pieces(final):
            while (event := self._reader.next(everything)) is not None:
                yield event

    def write(
        self,
        text: TextWriter | None,
        also: Callable[[Event], object] | None = None,
        *,
        final: bool,
        most: int = 0,
    ) -> None:
        """Write such events as lines.

        :param text: None: they are only counted.
        :param also: is called with each of them too.
        :param most: look at no more than so many bytes of a file that is not complete; 0: at all.
        """
        for everything in self._pieces(final, most):
            self._reader.write(everything, None if text is None else text.native, also)

    def counts(self) -> Iterable[tuple[int, int, int, int, int, Sequence[int]]]:
        """Return how often calls were made so far: see :meth:`trapline.trace.summary.Summary.add`.

        :returns: number, whether of i386, outcome (0; 1: failed; 2: not seen), calls, nanoseconds, calls by how long
            they took.
        """
        return self._reader.counts()

    def skip(self, size: int) -> int:
        """Pass over calls, at least so many bytes of them if there are, and return how many bytes these were."""
        self._file.seek(-self._reader.give_back(), 1)
        passed = 0
        while passed < size:
            head = self._file.read(_CHUNK.size)
            kind, length = _CHUNK.unpack(head) if len(head) == _CHUNK.size else (0, 0)
            if kind == _CHUNK_RECORDS:
                self._file.seek(length, 1)
                passed += length
                continue
            data = self._file.read(length)
            if not kind or len(data) < length:
                self._file.seek(-len(head) - len(data), 1)
                break
            self._reader.feed(head + data)
        return passed

    def _pieces(self, final: bool, most: int = 0) -> Iterator[bool]:
        # Pieces keep the memory small: a file may be larger than that.
        while part := self._file.read(most or _PIECE):
            self._reader.feed(part)
            yield False
            if most and not final:
                break
        if final:
            yield True


def opened(path: str) -> TraceFile:
    """Open a recorded file; the result is a context manager.

    :raises UsageError: it cannot be read, or is no such file.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None
    return TraceFile(file, path)


def read(path: str) -> Iterator[Event]:
    """Return the events of a recorded file.

    :raises UsageError: it cannot be read, or is no such file.
    """
    with opened(path) as trace:
        yield from trace.events(final=True)


def count_calls(path: str) -> Counter[str]:
    """Return how often each call has returned in a recorded file, many times faster than by its events.

    :raises UsageError: it cannot be read, or is no such file.
    """
    from collections import Counter

    found: Counter[str] = Counter()
    with opened(path) as trace:
        trace.write(None, final=True)
        for nr, is_i386, _, calls, _, _ in trace.counts():
            found[abi.name(nr, "i386" if is_i386 else "x86_64")] += calls
    return found
