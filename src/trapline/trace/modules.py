"""Files with code: their functions, and how to leave them."""

from __future__ import annotations

import struct
from bisect import bisect_right

from trapline.trace.cfi import Row, functions, row_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Module", "load"]

_SYMBOL = struct.Struct("<IBBHQQ")
_FUNCTION, _INDIRECT_FUNCTION = 2, 10
#: Of the sorted table behind the header of .eh_frame: two signed numbers of 4 bytes, relative to the header.
_TABLE_ENCODING, _HEADER = 0x3B, 12


class Module:
    """An ELF file.

    :param data: its bytes.
    :ivar says_nothing: of how to leave its functions; they may have frame pointers.
    :raises ELFError: it is none.
    """

    def __init__(self, data: bytes) -> None:
        import io

        from elftools.elf.elffile import ELFFile

        self._data = data
        file = ELFFile(io.BytesIO(data))
        self._segments = [
            (part["p_offset"], part["p_filesz"], part["p_vaddr"])
            for part in file.iter_segments()
            if part["p_type"] == "PT_LOAD"
        ]
        header = next((part for part in file.iter_segments() if part["p_type"] == "PT_GNU_EH_FRAME"), None)
        self._starts: list[int] = []
        self._entries: list[int] = []
        if header is not None:
            self._read_table(header["p_offset"], header["p_vaddr"])
        section: Any = file.get_section_by_name(".eh_frame")
        if not self._starts and section is not None:
            base = section["sh_addr"]
            found = functions(section.data(), base)
            self._starts, self._entries = [start for start, _ in found], [base + at for _, at in found]
        self.says_nothing = not self._starts
        self._functions: list[tuple[int, int, str]] | None = None
        self._file = file
        self._rows: dict[int, Row | None] = {}

    def _read_table(self, at: int, address: int) -> None:
        version, frame, count, table = struct.unpack_from("<4B", self._data, at)
        if version != 1 or table != _TABLE_ENCODING or frame & 0x0F != 0x0B or count != 0x03:
            return
        size = struct.unpack_from("<I", self._data, at + 8)[0]
        words = struct.unpack_from(f"<{2 * size}i", self._data, at + _HEADER)
        self._starts = [address + word for word in words[::2]]
        self._entries = [address + word for word in words[1::2]]

    def address(self, offset: int) -> int | None:
        """Return the address of what is at an offset of the file, as the file has it."""
        for start, size, address in self._segments:
            if start <= offset < start + size:
                return int(offset - start + address)
        return None

    def _offset(self, address: int) -> int:
        for start, size, first in self._segments:
            if first <= address < first + size:
                return int(address - first + start)
        raise LookupError(address)

    def row(self, address: int) -> Row | None:
        """Return how to find the caller of an instruction, or None: the file does not say."""
        if address not in self._rows:
            self._rows[address] = self._find_row(address)
        return self._rows[address]

    def _find_row(self, address: int) -> Row | None:
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        try:
            offset = self._offset(self._entries[place])
            return row_at(self._data, offset, self._entries[place] - offset, address)
        except (LookupError, ValueError, struct.error):
            return None

    def function(self, address: int) -> tuple[str, int] | None:
        """Return the function around an address, and how far in it that is; None where no symbol covers it."""
        if self._functions is None:
            self._functions = self._read_symbols()
        place = bisect_right(self._functions, address, key=lambda function: function[0]) - 1
        if place < 0:
            return None
        start, size, name = self._functions[place]
        return (name, address - start) if address < start + size else None

    def _read_symbols(self) -> list[tuple[int, int, str]]:
        found: dict[int, tuple[int, str]] = {}
        for section_name in (".dynsym", ".symtab"):
            section: Any = self._file.get_section_by_name(section_name)
            if section is None:
                continue
            names = self._file.get_section(section["sh_link"]).data()
            for name_at, info, _, place, value, size in _SYMBOL.iter_unpack(section.data()):
                if info & 0xF in (_FUNCTION, _INDIRECT_FUNCTION) and place and size:
                    name = names[name_at : names.index(b"\0", name_at)].decode(errors="replace")
                    # Of several names the one that programs use: no leading underscore, then the shortest.
                    old = found.get(value)
                    if old is None or _plainness(name) < _plainness(old[1]):
                        found[value] = (size, name)
        return sorted([(start, size, name) for start, (size, name) in found.items()])


def _plainness(name: str) -> tuple[int, int, str]:
    return len(name) - len(name.lstrip("_")), len(name), name


def load(path: str) -> Module | None:
    """Return a file that is mapped somewhere, or None: it cannot be read, or is no such file."""
    from elftools.common.exceptions import ELFError

    try:
        return Module(_vdso() if path == "[vdso]" else _whole(path))
    except (OSError, ELFError, struct.error):
        return None


def _whole(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _vdso() -> bytes:
    """Return the kernel's own library, which is the same in every process."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        line = next((line for line in maps if line.endswith("[vdso]\n")), None)
    if line is None:
        raise OSError("there is no vDSO")
    start, end = (int(word, 16) for word in line.split(" ")[0].split("-"))
    with open("/proc/self/mem", "rb") as memory:
        memory.seek(start)
        return memory.read(end - start)
