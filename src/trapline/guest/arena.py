"""The arena: one reservation of addresses in this process that a guest lives in.

::

    reserved, PROT_NONE: costs nothing                           everything of the guest is mapped inside
    +--------------------------------------------------------------------------------------------+
    |  program  |  brk ...        |                        |  mmap  | libraries  |  stack  |        |
    +--------------------------------------------------------------------------------------------+
    start                                                                                       end

One comparison of addresses tells the guest's code from this process's own.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right

from trapline import _native
from trapline.errors import TraplineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PAGE", "Arena", "ArenaError", "Area", "Code"]

PAGE = 4096
#: As far as the kernel keeps other mappings from a stack.
GUARD_SIZE = 256 * PAGE
#: 1 TiB, and what is tried where a limit refuses that.
DEFAULT_SIZE = 1 << 40
SMALLEST_SIZE = 1 << 28

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x02, 0x10, 0x20, 0x4000
MAP_FIXED_NOREPLACE = 0x100000
_PROTECTIONS = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC}


class ArenaError(TraplineError, OSError):
    """An arena cannot be reserved, or something does not fit into it."""


def protection(text: str) -> int:
    """Return ``PROT_*`` bits of a text such as ``"rx"``; ``""`` is none."""
    try:
        return sum({_PROTECTIONS[letter] for letter in text})
    except KeyError:
        raise UsageError(f"protection {text!r} is not made of r, w and x") from None


def pages(size: int) -> int:
    """Return *size* rounded up to whole pages."""
    return (size + PAGE - 1) & -PAGE


class Area:
    """A piece of an arena that is mapped.

    :ivar start: its first address.
    :ivar end: the address behind it.
    :ivar protection: ``PROT_*`` bits.
    :ivar name: what is there, for people.
    """

    __slots__ = ("end", "name", "protection", "start")

    def __init__(self, start: int, end: int, protection: int, name: str) -> None:
        self.start = start
        self.end = end
        self.protection = protection
        self.name = name

    def __repr__(self) -> str:
        bits = "".join(letter if self.protection & bit else "-" for letter, bit in _PROTECTIONS.items())
        return f"<Area {self.start:#x}-{self.end:#x} {bits} {self.name}>"


class Code:
    """Machine code in an arena, to be called by :meth:`trapline.guest.Guest.call`.

    :ivar address: where it begins.
    :ivar size: its bytes.
    """

    __slots__ = ("address", "arena", "size")

    def __init__(self, arena: Arena, address: int, size: int) -> None:
        self.arena = arena
        self.address = address
        self.size = size

    def __index__(self) -> int:
        return self.address

    def __repr__(self) -> str:
        return f"<Code of {self.size} bytes at {self.address:#x}>"


class Arena:
    """Addresses of this process that belong to guests.

    An arena is no sandbox: code in it can read, write and jump to all of this process.

    :param size: bytes, a multiple of the page size; None is 1 TiB, or as much less as a limit on address space allows.
    :param base: where it has to begin; None is anywhere.
    :ivar start: its first address.
    :ivar end: the address behind it.
    :raises ArenaError: the addresses cannot be reserved.
    """

    def __init__(self, size: int | None = None, *, base: int | None = None) -> None:
        if size is not None and (size <= 0 or size % PAGE):
            raise UsageError(f"an arena of {size} bytes is not made of whole pages of {PAGE}")
        sizes = [size] if size is not None else list(_halves(DEFAULT_SIZE, SMALLEST_SIZE))
        for wanted in sizes:
            try:
                self.start = self._reserve(wanted, base)
                self.end = self.start + wanted
                break
            except OSError as error:
                last = error
        else:
            where = f" at {base:#x}" if base is not None else ""
            raise ArenaError(
                last.errno,
                f"cannot reserve {sizes[-1] >> 20} MB of addresses{where}: {last.strerror}. "
                + ("Something of this process is there" if base is not None else "See `ulimit -v`"),
            )
        self._starts: list[int] = []
        self._areas: list[Area] = []
        #: Held by whoever looks for room and then uses it; may be taken again by its holder.
        self.lock = threading.RLock()
        self._closed = False
        self._watchers: list[Callable[[int, int, bool], None]] = []

    @staticmethod
    def _reserve(size: int, base: int | None) -> int:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (MAP_FIXED_NOREPLACE if base is not None else 0)
        got = _native.memory_map(base or 0, size, 0, flags, -1, 0)
        if base is not None and got != base:  # before 4.17
            _native.memory_unmap(got, size)
            raise OSError(17, os.strerror(17))
        return got

    @property
    def size(self) -> int:
        """Its bytes, mapped or not."""
        return self.end - self.start

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end

    def __repr__(self) -> str:
        return f"<Arena {self.start:#x}-{self.end:#x}, {len(self._areas)} areas>"

    # -- what is mapped ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Area]:
        return iter(self._areas)

    def find(self, address: int) -> Area | None:
        """Return the area that *address* is in, or None."""
        at = bisect_right(self._starts, address) - 1
        return self._areas[at] if at >= 0 and address < self._areas[at].end else None

    def overlapping(self, start: int, end: int) -> list[Area]:
        """Return the areas that have some of ``[start, end)``, ascending."""
        at = max(bisect_right(self._starts, start) - 1, 0)
        found = []
        while at < len(self._areas) and self._areas[at].start < end:
            if self._areas[at].end > start:
                found.append(self._areas[at])
            at += 1
        return found

    def gap(self, size: int, hint: int | None = None, *, low: int = 0, high: int = 0) -> int:
        """Return an address where *size* bytes are free: at *hint* if possible, or else as high as possible.

        :param low: no lower than this.
        :param high: it ends no higher than this; 0 is the arena's end.
        :raises ArenaError: there is no room.
        """
        size = pages(size)
        if (
            hint is not None
            and self.start <= hint
            and hint + size <= self.end
            and not self.overlapping(hint, hint + size)
        ):
            return hint
        top = high or self.end
        for area in reversed(self._areas):
            if area.start >= top:
                continue
            if area.end + size <= top:
                break
            top = min(top, area.start)
        if top - size < max(self.start, low):
            raise ArenaError(12, f"an arena of {self.size >> 20} MB has no room left for {size} bytes")
        return top - size

    def on_change(self, function: Callable[[int, int, bool], None]) -> None:
        """Have *function* called with a range that is about to be unmapped or replaced, or made writable (True)."""
        self._watchers.append(function)

    def _tell(self, start: int, end: int, writable: bool = False) -> None:
        for function in self._watchers:
            function(start, end, writable)

    def _check(self, start: int, size: int) -> int:
        if self._closed:
            raise UsageError("this arena is closed")
        if start % PAGE or size <= 0 or start < self.start or start + pages(size) > self.end:
            raise ArenaError(22, f"{size} bytes at {start:#x} are not whole pages of the arena")
        return start + pages(size)

    def _forget(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out of the list."""
        for area in self.overlapping(start, end):
            at = bisect_right(self._starts, area.start) - 1
            pieces = [
                Area(low, high, area.protection, area.name)
                for low, high in ((area.start, start), (end, area.end))
                if low < high
            ]
            self._areas[at : at + 1] = pieces
            self._starts[at : at + 1] = [piece.start for piece in pieces]

    def _add(self, area: Area) -> None:
        """Put an area into the list, as one with its neighbours that are like it."""
        at = bisect_right(self._starts, area.start)
        kind = (area.protection, area.name)
        if at:
            before = self._areas[at - 1]
            if before.end == area.start and (before.protection, before.name) == kind:
                at -= 1
                area.start = before.start
                del self._areas[at], self._starts[at]
        if at < len(self._areas):
            after = self._areas[at]
            if after.start == area.end and (after.protection, after.name) == kind:
                area.end = after.end
                del self._areas[at], self._starts[at]
        self._areas.insert(at, area)
        self._starts.insert(at, area.start)

    # -- changing it ---------------------------------------------------------------------------------------------------

    def map(
        self,
        size: int,
        protect: str | int = "rw",
        *,
        at: int | None = None,
        fd: int = -1,
        offset: int = 0,
        flags: int = 0,
        name: str = "",
    ) -> int:
        """Map memory and return its address; what was there is replaced.

        :param protect: text such as ``"rx"``, or ``PROT_*`` bits.
        :param at: its address; None is where there is room.
        :param fd: a file to map, or -1.
        :param flags: ``MAP_*`` bits other than ``MAP_FIXED``; 0 is private, and anonymous without a file.
        """
        with self.lock:
            bits = protection(protect) if isinstance(protect, str) else protect
            start = self.gap(size) if at is None else at
            end = self._check(start, size)
            if not flags:
                flags = MAP_PRIVATE | (MAP_ANONYMOUS if fd < 0 else 0)
            self._tell(start, end)
            _native.memory_map(
                start, end - start, bits, (flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED, fd, offset
            )
            self._forget(start, end)
            self._add(Area(start, end, bits, name))
            return start

    def map_stack(self, size: int) -> int:
        """Map a stack, with what cannot be accessed below it, and return its lowest address."""
        with self.lock:
            guard = self.map(size + GUARD_SIZE, 0, name="guard")
            return self.map(size, "rw", at=guard + GUARD_SIZE, name="stack")

    def protect(self, address: int, size: int, protect: str | int) -> None:
        """Change the protection of memory that is mapped.

        :raises ArenaError: not all of it is mapped.
        """
        with self.lock:
            bits = protection(protect) if isinstance(protect, str) else protect
            end = self._check(address, size)
            areas = self.overlapping(address, end)
            if sum(min(area.end, end) - max(area.start, address) for area in areas) != end - address:
                raise ArenaError(12, f"not all of {address:#x} to {end:#x} is mapped")
            if bits & PROT_WRITE:
                self._tell(address, end, True)
            _native.memory_protect(address, end - address, bits)
            for area in areas:
                low, high, name = max(area.start, address), min(area.end, end), area.name
                self._forget(low, high)
                self._add(Area(low, high, bits, name))

    def free(self, address: int, size: int) -> None:
        """Give memory back; the addresses stay reserved."""
        with self.lock:
            end = self._check(address, size)
            self._tell(address, end)
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
            _native.memory_map(address, end - address, 0, flags, -1, 0)
            self._forget(address, end)

    def leave(self, start: int, size: int) -> None:
        """Take notice that what is mapped there is about to be replaced by other means."""
        with self.lock:
            self._tell(start, self._check(start, size))

    def note(self, address: int, size: int, bits: int, name: str) -> None:
        """Take down what was mapped by other means."""
        with self.lock:
            end = self._check(address, size)
            self._forget(address, end)
            self._add(Area(address, end, bits, name))

    # -- its contents --------------------------------------------------------------------------------------------------

    def memory(self, address: int, size: int) -> memoryview:
        """Return a view of memory that is mapped; it must not be used once that is unmapped or protected.

        :raises ArenaError: not all of it is mapped and readable.
        """
        areas = self.overlapping(address, address + size)
        have = sum(min(area.end, address + size) - max(area.start, address) for area in areas)
        if have != size or not all(area.protection & PROT_READ for area in areas):
            raise ArenaError(14, f"not all of the {size} bytes at {address:#x} can be read")
        return _native.memory_view(address, size, all(area.protection & PROT_WRITE for area in areas))

    def read(self, address: int, size: int) -> bytes:
        """Read up to *size* bytes, whatever their protection: fewer where something is not mapped."""
        data = b""
        with open("/proc/self/mem", "rb", 0) as file:
            for area in self.overlapping(address, address + size):
                if area.start > address + len(data):
                    break
                low, high = address + len(data), min(area.end, address + size)
                try:
                    data += os.pread(file.fileno(), high - low, low)
                except OSError:
                    break
        return data

    def load_code(self, code: bytes | bytearray | memoryview, *, at: int | None = None) -> Code:
        """Put position-independent machine code into memory of its own that can be executed and not written."""
        address = self.map(len(code), "rw", at=at, name="code")
        self.memory(address, len(code))[:] = bytes(code)
        self.protect(address, len(code), "rx")
        return Code(self, address, len(code))

    def close(self) -> None:
        """Give all addresses back."""
        if not self._closed:
            self._closed = True
            _native.memory_unmap(self.start, self.size)
            self._areas, self._starts = [], []
            self._watchers = []

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _halves(size: int, smallest: int) -> Iterator[int]:
    while size >= smallest:
        yield size
        size >>= 1
