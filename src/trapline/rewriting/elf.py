"""Where functions begin in an ELF file, read as far as one site needs it.

pyelftools reads all of it, but takes 100 ms to import and a second for the symbols of a large program; a plan must
not cost that while the program runs. The tests compare the two.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CodeFile", "Function"]

_EHDR = struct.Struct("<16xHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")

_PT_LOAD, _PT_GNU_EH_FRAME, _PF_X = 1, 0x6474E550, 1
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_EM_X86_64 = 62

# Encodings of .eh_frame_hdr that every linker writes: a relative pointer, a count, a table relative to itself.
_EH_FRAME_HDR = b"\x01\x1b\x03\x3b"

_FUNCTION_MAX = 1 << 32
#: Tables larger than this are left alone: unwind tables are only searched, symbols are all looked at (0.3 s).
_TABLE_MAX = 1 << 27
_SYMBOLS_MAX = 1 << 24


class Function:
    """What is known of the function around an address.

    :ivar start: where it begins, or None when no function is known to hold the address.
    :ivar next: where the next known one begins, or None.
    """

    __slots__ = ("next", "start")

    def __init__(self, start: int | None, next_: int | None) -> None:
        self.start = start
        self.next = next_

    @property
    def starts(self) -> list[int]:
        """The two of them as far as they are known, ascending."""
        return [at for at in (self.start, self.next) if at is not None]


class CodeFile:
    """An open file that code is mapped from. Positions are the ELF file's own virtual addresses.

    Read with ``pread``, not mapped: a file that shrinks must not kill the reader.

    :ivar segments: executable segments as ``(offset in the file, virtual address, size)``; a file that is no
        ELF file for x86-64 has none.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.segments: list[tuple[int, int, int]] = []
        self._sections: list[tuple[int, int, int]] = []  # symbol tables: offset, size, entry size
        self._unwind_at: tuple[int, int, int] | None = None  # offset, address, size
        self._unwind: bytes | None = None
        self._loads: list[tuple[int, int, int]] = []
        self._symbols: tuple[array[int], array[int]] | None = None
        try:
            self._read_headers()
        except struct.error:
            self.segments = []

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # At the interpreter's end modules may be gone by now: `close` is not looked up.
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1

    def read(self, offset: int, size: int) -> bytes:
        """Return what is in the file at an offset; less than *size* at its end."""
        try:
            return os.pread(self._fd, size, offset)
        except (OSError, OverflowError):
            return b""

    def _read_headers(self) -> None:
        head = self.read(0, 4096)
        if head[:7] != b"\x7fELF\x02\x01\x01":
            return
        _, machine, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, _ = _EHDR.unpack_from(head)
        if machine != _EM_X86_64 or phentsize != _PHDR.size:
            return
        for fields in _PHDR.iter_unpack(self._table(phoff, phnum * phentsize, phentsize)):
            kind, flags, offset, address, _, size = fields[:6]
            if max(offset, address, size) >> 62:
                continue
            if kind == _PT_LOAD:
                self._loads.append((offset, address, size))
                if flags & _PF_X:
                    self.segments.append((offset, address, size))
            elif kind == _PT_GNU_EH_FRAME:
                self._unwind_at = (offset, address, size)
        if shentsize != _SHDR.size:
            return
        for section in _SHDR.iter_unpack(self._table(shoff, shnum * shentsize, shentsize)):
            if section[1] in (_SHT_SYMTAB, _SHT_DYNSYM) and section[9] == _SYM.size:
                self._sections.append((section[4], section[5], section[9]))

    def _table(self, offset: int, size: int, entry: int) -> bytes:
        if size > _TABLE_MAX:
            return b""
        data = self.read(offset, size)
        return data[: len(data) // entry * entry]

    def segment_of(self, offset: int) -> tuple[int, int, int] | None:
        """Return the executable segment that an offset in the file belongs to, or None."""
        for segment in self.segments:
            if segment[0] <= offset < segment[0] + segment[2]:
                return segment
        return None

    def _is_code(self, address: int) -> bool:
        return any(begin <= address < begin + size for _, begin, size in self.segments)

    def offset_of(self, address: int) -> int | None:
        """Return the offset in the file of a virtual address, or None."""
        for start, begin, size in self._loads:
            if begin <= address < begin + size:
                return start + address - begin
        return None

    def function(self, address: int) -> Function:
        """Tell what function holds a virtual address: by unwind tables, and by symbols where those have none."""
        found = self._by_unwind(address)
        if found.start is not None:
            return found
        named = self._by_symbols(address)
        nexts = [at for at in (found.next, named.next) if at is not None]
        return Function(named.start, min(nexts, default=None))

    def _by_unwind(self, address: int) -> Function:
        if self._unwind_at is None:
            return Function(None, None)
        _, base, _ = self._unwind_at
        table = self._unwind_table()
        count = len(table) // 8
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if base + struct.unpack_from("<i", table, middle * 8)[0] <= address:
                low = middle + 1
            else:
                high = middle
        following = base + struct.unpack_from("<i", table, low * 8)[0] if low < count else None
        if low == 0:
            return Function(None, following)
        start, description = (base + each for each in struct.unpack_from("<ii", table, (low - 1) * 8))
        # Of the frame description: length, where its common part is, where the code begins, how long it is.
        offset = self.offset_of(description)
        data = self.read(offset, 16) if offset is not None else b""
        if len(data) == 16:
            length, back, begin, size = struct.unpack("<IIiI", data)
            # That `begin` says the same as the table proves how both are encoded.
            if length != 0xFFFFFFFF and description + 8 + begin == start and address < start + size:
                assert offset is not None
                # A signal frame's description begins a byte in front of its code, for unwinders.
                augmentation = self.read(offset + 4 - back + 9, 8).partition(b"\0")[0]
                return Function(None if b"S" in augmentation else start, following)
        return Function(None, following)

    def _unwind_table(self) -> bytes:
        if self._unwind is None:
            assert self._unwind_at is not None
            offset, _, size = self._unwind_at
            data = self.read(offset, size) if size <= _TABLE_MAX else b""
            table = b""
            if data[:4] == _EH_FRAME_HDR and len(data) >= 12:
                count = struct.unpack_from("<I", data, 8)[0]
                table = data[12 : 12 + 8 * count]
            self._unwind = table[: len(table) // 8 * 8]
        return self._unwind

    def _by_symbols(self, address: int) -> Function:
        starts, ends = self._symbol_ranges()
        place = bisect_right(starts, address)
        following = starts[place] if place < len(starts) else None
        if place and address < ends[place - 1]:
            return Function(starts[place - 1], following)
        return Function(None, following)

    def _symbol_ranges(self) -> tuple[array[int], array[int]]:
        if self._symbols is None:
            ranges = dict(self._function_symbols())
            starts = array("Q", sorted(ranges))
            self._symbols = starts, array("Q", (ranges[at] for at in starts))
        return self._symbols

    def _function_symbols(self) -> Iterator[tuple[int, int]]:
        for offset, size, entry in self._sections:
            if size > _SYMBOLS_MAX:
                continue
            for _, info, _, section, value, length in _SYM.iter_unpack(self._table(offset, size, entry)):
                if info & 15 in (_STT_FUNC, _STT_GNU_IFUNC) and section and self._is_code(value):
                    yield value, value + min(length, _FUNCTION_MAX)
