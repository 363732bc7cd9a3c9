"""Recording by the supervisor, for an engine that has no agent in the program: slow, but the same file."""

from __future__ import annotations

import _thread
import os
import struct
import time

from trapline import abi
from trapline.capture import operations, write_header
from trapline.errors import EngineStartError, MemoryAccessError
from trapline.hooks import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.call import Call
    from trapline.capture import Capture

__all__ = ["Recorder"]

# native/agent/capture.h
_CHUNK, _CLOCK = struct.Struct("<IIii"), struct.Struct("<Qq")
_RECORD, _BLOB = struct.Struct("<HBBiQQq"), struct.Struct("<BBH")
_RECORDS, _TIME, _GONE, _STATUS = 1, 2, 3, 6
_AFTER, _NESTED, _PATH = 1, 2, 4
_STRING, _BUFFER, _ARRAY, _FIXED, _COUNTED, _VECTOR, _MESSAGE, _STRINGS, _IOCTL, _DESCRIPTOR, _IF = range(
    1, 12
)
_BEHIND, _MESSAGES = 12, 13
_MOST_MESSAGES = 8
_WHEN_BEFORE, _WHEN_AFTER, _WHEN_FILLED = 1, 2, 4
_ITEMS, _VECTORS, _POINTERS, _LONGEST = 32, 16, 512, 4096
_I386, _UNFINISHED, _CUT, _SIGNAL, _UNSEEN = 1, 2, 4, 8, 16
#: tl_record_max without what is there besides memory.
_ROOM = 0x8000 - 128
_PERIOD_NS = 50_000_000
_ENDS = frozenset({"exit", "exit_group"})


class _Begun:
    """A call that has not returned."""

    __slots__ = ("arch", "blobs", "call", "flags", "name", "nr", "pid", "registers", "start")

    def __init__(self, call: Call) -> None:
        self.pid, self.nr, self.name = call.pid, call.nr, call.name
        self.arch = call.arch
        self.flags = _I386 if self.arch == "i386" else 0
        # Not what a multiplexer does: its number is what is written.
        signature = abi.signature(abi.name(call.nr, call.arch), call.arch)
        count = len(signature.params) if signature.known else 6
        self.registers = call.raw[:count]
        self.start = time.monotonic_ns()
        self.blobs = b""


class Recorder:
    """Writes what two hooks see, before each call and after it. Several may write to one file.

    :param capture: what is wanted.
    :param sees_results: there is a hook after each call; otherwise the record says that nobody saw how it returned.
    :ivar hooks: to be asked last.
    """

    def __init__(self, capture: Capture, *, sees_results: bool = True) -> None:
        names = tuple(sorted(capture.names))
        self.hooks: tuple[Hook, ...] = (Hook(names, self._only, None),)
        if sees_results:
            self.hooks = (Hook(names, self._before, None), Hook(names, self._after, None, on_return=True))
        self._capture = capture
        self._begun: dict[int, _Begun] = {}
        self._operations: dict[tuple[str, int], list[tuple[int, ...]]] = {}
        self._lock = _thread.allocate_lock()
        self._told = 0
        self._error = 0
        self._ended: dict[int, int] = {}

    def begin(self) -> None:
        """Write the beginning of the file.

        :raises EngineStartError: that cannot be done.
        """
        try:
            if not self._capture.part:
                write_header(self._capture.fd, self._capture.limit)
            os.write(self._capture.fd, self._clock(-1_000_000) + self._clock())
        except OSError as error:
            raise EngineStartError(error.errno or 0, f"cannot record calls: {error.strerror}") from None

    def end(self, pid: int, status: int | None) -> int:
        """Write what has not returned, and how the command ended, if it has; return 0 or an errno."""
        for tid, begun in list(self._begun.items()):
            self._write(tid, begun, begun.start, 0, _UNFINISHED)
        for tid in list(self._ended):
            self._gone(tid)
        ended = b""
        if status is not None:
            ended = _CHUNK.pack(_STATUS, 4, pid, pid) + status.to_bytes(4, "little", signed=True)
        self._put(self._clock() + ended)
        return self._error

    def signal(self, tid: int, number: int, info: bytes) -> None:
        """Write that a thread enters a handler."""
        now = time.monotonic_ns()
        blob = _BLOB.pack(0, 0, len(info)) + info
        blob += bytes(-len(blob) % 8)
        size = _RECORD.size + len(blob)
        head = _RECORD.pack(size, _SIGNAL, 0, number, now, now, 0)
        self._put(_CHUNK.pack(_RECORDS, size, _process_of(tid), tid) + head + blob)

    def _clock(self, shift: int = 0) -> bytes:
        now, real = time.monotonic_ns() + shift, time.time_ns() + shift
        return _CHUNK.pack(_TIME, _CLOCK.size, 0, 0) + _CLOCK.pack(now, real)

    def _put(self, data: bytes) -> None:
        with self._lock:
            now = time.monotonic_ns()
            if now - self._told > _PERIOD_NS:
                self._told = now
                data = self._clock() + data
            try:
                while data and not self._error:
                    data = data[os.write(self._capture.fd, data) :]
            except OSError as error:
                self._error = error.errno or 0

    def _write(self, tid: int, begun: _Begun, end: int, result: int, flags: int = 0) -> None:
        registers = struct.pack(f"<{len(begun.registers)}Q", *begun.registers)
        size = _RECORD.size + len(registers) + len(begun.blobs)
        head = _RECORD.pack(
            size, begun.flags | flags, len(begun.registers), begun.nr, begun.start, end, result
        )
        self._put(_CHUNK.pack(_RECORDS, size, begun.pid, tid) + head + registers + begun.blobs)

    def _gone(self, tid: int) -> None:
        self._put(_CHUNK.pack(_GONE, 0, self._ended.pop(tid), tid))

    def _begin(self, call: Call) -> _Begun:
        begun = _Begun(call)
        if call.tid in self._ended:
            self._gone(call.tid)  # and its number is another thread's now
        if begun.name in _ENDS:
            self._ended[call.tid] = call.pid
        self._keep(call, begun, after=False, result=0)
        return begun

    def _only(self, call: Call) -> None:
        begun = self._begin(call)
        self._write(call.tid, begun, begun.start, 0, _UNFINISHED if begun.name in _ENDS else _UNSEEN)

    def _before(self, call: Call) -> None:
        old = self._begun.pop(call.tid, None)
        if old is not None and old.name in ("execve", "execveat"):
            self._write(call.tid, old, old.start, 0)
        self._begun[call.tid] = self._begin(call)

    def _after(self, call: Call) -> None:
        end = time.monotonic_ns()
        begun = self._begun.pop(call.tid, None)
        if begun is None or begun.nr != call.nr:
            return
        result = call.result
        if not -4095 <= result < 0:
            self._keep(call, begun, after=True, result=result)
        self._write(call.tid, begun, end, result)

    def _keep(self, call: Call, begun: _Begun, *, after: bool, result: int) -> None:
        known = self._operations.get((begun.arch, begun.nr))
        if known is None:
            known = operations(begun.nr, begun.arch, self._capture.paths)
            self._operations[begun.arch, begun.nr] = known
        for kind, arg, when, of, size, value in known:
            if when & (_WHEN_AFTER if after else _WHEN_BEFORE) and arg < len(begun.registers):
                keeper = _Keeper(call, begun, arg, after, self._capture.limit)
                filled = result if after and when & _WHEN_FILLED else 1 << 62
                keeper.keep(kind, of, size, value, filled, result)


def _process_of(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))
    except (OSError, StopIteration):
        return tid


class _Layout:
    """How long words are, and what structs of them are like.

    :ivar word: bytes of one.
    :ivar iovec: address and size.
    :ivar message: msghdr.
    :ivar messages: bytes of mmsghdr, which begins with one.
    """

    def __init__(self, word: int, code: str) -> None:
        self.word = word
        self.iovec, self.message = struct.Struct(f"<2{code}"), struct.Struct(f"<7{code}")
        self.messages = self.message.size + word


_LAYOUTS = {"x86_64": _Layout(8, "Q"), "i386": _Layout(4, "I")}


class _Keeper:
    """Copies the memory behind one argument."""

    def __init__(self, call: Call, begun: _Begun, arg: int, after: bool, limit: int) -> None:
        self.call, self.begun, self.arg, self.limit = call, begun, arg, limit
        self.flags = _AFTER if after else 0
        self.after = after
        self.layout = _LAYOUTS[begun.arch]

    def add(self, data: bytes, address: int | None = None, flags: int = 0) -> bytes:
        """Append a blob."""
        flags |= self.flags | (_NESTED if address is not None else 0)
        place = address.to_bytes(8, "little") if address is not None else b""
        left = _ROOM - len(self.begun.blobs) - len(place)
        if left <= 0:
            self.begun.flags |= _CUT
            return data
        if len(data) > left:
            self.begun.flags |= _CUT
            data = data[:left]
        blob = _BLOB.pack(self.arg, flags, len(data)) + place + data
        self.begun.blobs += blob + bytes(-len(blob) % 8)
        return data

    def copy(self, address: int, size: int, *, nested: bool = False) -> bytes:
        """Append what is at an address, if it can be read."""
        if not address or size <= 0:
            return b""
        try:
            return self.add(self.call.read(address, size), address if nested else None)
        except MemoryAccessError:
            return b""

    def string(self, address: int, most: int, *, nested: bool = False) -> None:
        """Append a string with its NUL."""
        found = b""
        while address and b"\0" not in found and len(found) < most:
            here = address + len(found)
            try:
                found += self.call.read(here, min(256 - here % 256, most - len(found)))
            except MemoryAccessError:
                break
        if found:
            text, zero, _ = found.partition(b"\0")
            self.add(text + zero, address if nested else None)

    def number(self, address: int, size: int) -> int:
        """Return a number from memory, or 0."""
        try:
            return int.from_bytes(self.call.read(address, size), "little") if address else 0
        except MemoryAccessError:
            return 0

    def vector(self, address: int, count: int, left: int, *, nested: bool = False) -> None:
        """Append an array of iovec and what they point to."""
        one = self.layout.iovec
        data = self.copy(address, one.size * min(count, _VECTORS), nested=nested)
        for at in range(0, len(data), one.size):
            base, size = one.unpack_from(data, at)
            taken = min(size, left)
            left -= taken
            self.copy(base, min(taken, self.limit + 1), nested=True)

    def keep(self, kind: int, of: int, size: int, value: int, filled: int, result: int) -> None:
        """Do what ``enum tl_capture_kind`` says."""
        registers = self.begun.registers
        address, other = registers[self.arg], registers[of] if of < len(registers) else 0
        if kind == _STRING:
            self.string(address, _LONGEST)
        elif kind == _BUFFER:
            self.copy(address, min(other, filled, size or self.limit + 1))
        elif kind == _ARRAY:
            self.copy(address, min(other & 0xFFFFFFFF, filled, _ITEMS) * size)
        elif kind == _FIXED or (kind == _IF and other & 0xFFFFFFFF == value):
            self.copy(address, size)
        elif kind == _COUNTED:
            self.copy(address, min(self.number(other, 4), size))
        elif kind == _VECTOR:
            self.vector(address, other, filled)
        elif kind == _MESSAGE:
            self._message(address, filled)
        elif kind == _STRINGS:
            self._strings(address, size)
        elif kind == _IOCTL:
            direction, wanted = other >> 30 & 3, other >> 16 & 0x3FFF
            if not direction or direction & (2 if self.after else 1):
                self.copy(address, min(wanted if direction else size, self.limit + 256))
        elif kind == _DESCRIPTOR:
            self._path(result)
        elif kind == _BEHIND:
            # Also on i386 the struct that is meant has such pointers.
            self.copy(self.number(address + value, 8) if address else 0, size, nested=True)
        elif kind == _MESSAGES:
            step = self.layout.messages
            for at in range(address, address + step * min(other, filled, _MOST_MESSAGES), step):
                left = self.number(at + self.layout.message.size, 4) if self.after else 1 << 62
                self._message(at, left, nested=True)

    def _message(self, address: int, left: int, *, nested: bool = False) -> None:
        one = self.layout.message
        data = self.copy(address, one.size, nested=nested)
        if len(data) == one.size:
            name, name_size, vector, count, control, control_size, _ = one.unpack(data)
            self.copy(name, min(name_size & 0xFFFFFFFF, 128), nested=True)
            self.vector(vector, count, left, nested=True)
            self.copy(control, min(control_size, 1024), nested=True)

    def _strings(self, address: int, most: int) -> None:
        pointers: list[int] = []
        word = self.layout.word
        while address and len(pointers) < _POINTERS:
            pointer = self.number(address + word * len(pointers), word)
            if not pointer:
                break
            pointers.append(pointer)
        self.copy(address, word * len(pointers) + word)
        for pointer in pointers[:most]:
            self.string(pointer, self.limit + 1, nested=True)

    def _path(self, fd: int) -> None:
        try:
            found = os.readlink(f"/proc/{self.begun.pid}/fd/{fd}")
        except OSError:
            return
        self.add(os.fsencode(found), flags=_PATH)
