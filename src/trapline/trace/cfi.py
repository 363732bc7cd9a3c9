"""How to find a caller's registers: the tables that compilers put into ``.eh_frame``, one entry at a time."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    #: Reads 8 bytes of memory as a number. Raises LookupError where they are not known.
    Reader = Callable[[int], int]
    Rule = tuple[str, int, bytes]

__all__ = ["Row", "evaluate", "functions", "row_at"]

_PCREL, _INDIRECT, _OMITTED = 0x10, 0x80, 0xFF
_FORMATS = {0x00: "<Q", 0x02: "<H", 0x03: "<I", 0x04: "<Q", 0x0A: "<h", 0x0B: "<i", 0x0C: "<q"}
_WORD = (1 << 64) - 1
#: Instructions without operands that matter here: DW_CFA_nop, and DW_CFA_GNU_args_size which has one.
_NOP, _ARGS_SIZE = 0x00, 0x2E
_MOST_STATES = 64
_LONG = 0xFFFFFFFF


class Row:
    """What holds at one instruction.

    :ivar cfa: how to find the frame's canonical address: ``("register", number and offset)`` or an expression.
    :ivar rules: for each register's number of DWARF how to find the caller's value.
    :ivar return_register: which of them holds the return address.
    :ivar is_signal: a signal handler returns here, so the instruction has not been carried out yet.
    """

    __slots__ = ("cfa", "is_signal", "return_register", "rules")

    def __init__(self, return_register: int, is_signal: bool) -> None:
        self.cfa: tuple[int, int, bytes] = (0, 0, b"")
        self.rules: dict[int, Rule] = {}
        self.return_register = return_register
        self.is_signal = is_signal


class _Bytes:
    """Reads numbers one after the other."""

    def __init__(self, data: bytes, at: int, end: int, base: int) -> None:
        self.data, self.at, self.end, self.base = data, at, end, base

    def one(self, code: str) -> int:
        found: int = struct.unpack_from(code, self.data, self.at)[0]
        self.at += struct.calcsize(code)
        return found

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def signed(self) -> int:
        start = self.at
        value = self.unsigned()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def encoded(self, encoding: int) -> int:
        if encoding == _OMITTED:
            return 0
        here = self.base + self.at
        value = self.one(_FORMATS[encoding & 0x0F])
        return value + here if encoding & 0x70 == _PCREL else value

    def block(self) -> bytes:
        size = self.unsigned()
        self.at += size
        return self.data[self.at - size : self.at]

    def string(self) -> bytes:
        end = self.data.index(0, self.at)
        found = self.data[self.at : end]
        self.at = end + 1
        return found


class _Common:
    """A common information entry: what several functions share."""

    def __init__(self, data: bytes, at: int, base: int) -> None:
        size = struct.unpack_from("<I", data, at)[0]
        reader = _Bytes(data, at + 8, at + 4 + size, base)
        version = reader.one("<B")
        self.augmentation = reader.string()
        self.code_factor, self.data_factor = reader.unsigned(), reader.signed()
        self.return_register = reader.one("<B") if version == 1 else reader.unsigned()
        self.encoding = 0
        if self.augmentation[:1] == b"z":
            end = reader.unsigned() + reader.at
            for letter in self.augmentation[1:].decode():
                if letter == "R":
                    self.encoding = reader.one("<B")
                elif letter == "L":
                    reader.one("<B")
                elif letter == "P":
                    reader.encoded(reader.one("<B") & ~_INDIRECT)
            reader.at = end
        self.start, self.end = reader.at, reader.end


def row_at(data: bytes, at: int, base: int, address: int) -> Row | None:
    """Return what holds at an instruction, or None: it is not of this function.

    :param data: the bytes of a file.
    :param at: where in it the function's entry (FDE) is.
    :param base: what makes an address of a place near there.
    :param address: of the instruction, as the file has it.
    :raises ValueError: the entry has something that is not known here.
    """
    size, back = struct.unpack_from("<II", data, at)
    common = _Common(data, at + 4 - back, base)
    reader = _Bytes(data, at + 8, at + 4 + size, base)
    start = reader.encoded(common.encoding)
    length = reader.encoded(common.encoding & 0x0F)
    if not start <= address < start + length:
        return None
    if common.augmentation[:1] == b"z":
        reader.block()
    row = Row(common.return_register, b"S" in common.augmentation)
    _carry_out(row, common, _Bytes(data, common.start, common.end, base), 0, 1 << 64, {})
    _carry_out(row, common, reader, start, address, dict(row.rules))
    return row


def functions(data: bytes, base: int) -> list[tuple[int, int]]:
    """Return where functions begin, and where in a section their entries are; for files without a sorted table.

    :param data: the bytes of the section.
    :param base: its address.
    """
    found: list[tuple[int, int]] = []
    encodings: dict[int, int] = {}
    at = 0
    while at + 8 <= len(data):
        size, back = struct.unpack_from("<II", data, at)
        if size in (0, _LONG):
            break
        if back:
            start = at + 4 - back
            if start not in encodings:
                encodings[start] = _Common(data, start, base).encoding
            found.append((_Bytes(data, at + 8, at + 4 + size, base).encoded(encodings[start]), at))
        at += 4 + size
    return sorted(found)


def _carry_out(
    row: Row, common: _Common, code: _Bytes, here: int, until: int, initial: dict[int, Rule]
) -> None:
    """Carry out the instructions up to those that hold behind an address."""
    saved: list[tuple[dict[int, Rule], tuple[int, int, bytes]]] = []
    factor = common.data_factor
    while code.at < code.end:
        word = code.one("<B")
        high, low = word & 0xC0, word & 0x3F
        if high == 0x40 or word in (0x01, 0x02, 0x03, 0x04):  # advance
            if high == 0x40:
                here += low * common.code_factor
            elif word == 0x01:
                here = code.encoded(common.encoding)
            else:
                here += code.one({2: "<B", 3: "<H", 4: "<I"}[word]) * common.code_factor
            if here > until:
                return
        elif high == 0x80:
            row.rules[low] = ("at", code.unsigned() * factor, b"")
        elif high == 0xC0:
            _restore(row, low, initial)
        elif word == 0x0A:
            if len(saved) >= _MOST_STATES:
                raise ValueError("too many states")
            saved.append((dict(row.rules), row.cfa))
        elif word == 0x0B:
            row.rules, row.cfa = saved.pop()
        elif word in (0x0C, 0x12):  # the frame's address is a register and an offset
            register = code.unsigned()
            row.cfa = (register, code.unsigned() if word == 0x0C else code.signed() * factor, b"")
        elif word == 0x0D:
            row.cfa = (code.unsigned(), row.cfa[1], b"")
        elif word in (0x0E, 0x13):
            row.cfa = (row.cfa[0], code.unsigned() if word == 0x0E else code.signed() * factor, b"")
        elif word == 0x0F:
            row.cfa = (-1, 0, code.block())
        elif word == _ARGS_SIZE:
            code.unsigned()
        elif word != _NOP:
            _change(row, word, code, factor, initial)


def _restore(row: Row, register: int, initial: dict[int, Rule]) -> None:
    if register in initial:
        row.rules[register] = initial[register]
    else:
        row.rules.pop(register, None)


def _change(row: Row, word: int, code: _Bytes, factor: int, initial: dict[int, Rule]) -> None:
    """Carry out an instruction that changes the rule of a register it names."""
    register = code.unsigned()
    if word in (0x05, 0x11):
        row.rules[register] = ("at", (code.unsigned() if word == 0x05 else code.signed()) * factor, b"")
    elif word == 0x06:
        _restore(row, register, initial)
    elif word == 0x07:
        row.rules[register] = ("undefined", 0, b"")
    elif word == 0x08:
        row.rules.pop(register, None)
    elif word == 0x09:
        row.rules[register] = ("register", code.unsigned(), b"")
    elif word in (0x10, 0x16):
        row.rules[register] = ("at expression" if word == 0x10 else "expression", 0, code.block())
    elif word in (0x14, 0x15):
        row.rules[register] = ("offset", (code.unsigned() if word == 0x14 else code.signed()) * factor, b"")
    else:
        raise ValueError(f"unknown instruction {word:#x}")


def evaluate(expression: bytes, registers: dict[int, int], read: Reader, first: int | None = None) -> int:
    """Return the value of an expression.

    :param first: what lies on the stack to begin with.
    :raises ValueError: it does something that is not known here.
    :raises LookupError: it needs memory or a register that is not known.
    """
    stack = [] if first is None else [first]
    code = _Bytes(expression, 0, len(expression), 0)
    while code.at < code.end:
        word = code.one("<B")
        if 0x30 <= word < 0x50:
            stack.append(word - 0x30)
        elif 0x70 <= word < 0x90:
            stack.append(registers[word - 0x70] + code.signed() & _WORD)
        elif word == 0x06:
            stack.append(read(stack.pop()))
        elif word in _CONSTANTS:
            stack.append(code.one(_CONSTANTS[word]) & _WORD)
        elif word in (0x10, 0x11):
            stack.append((code.unsigned() if word == 0x10 else code.signed()) & _WORD)
        elif word == 0x12:
            stack.append(stack[-1])
        elif word == 0x23:
            stack.append(stack.pop() + code.unsigned() & _WORD)
        elif word in _OPERATIONS:
            second, one = stack.pop(), stack.pop()
            stack.append(_OPERATIONS[word](one, second) & _WORD)
        else:
            raise ValueError(f"unknown operation {word:#x}")
    return stack[-1]


_CONSTANTS = {0x08: "<B", 0x09: "<b", 0x0A: "<H", 0x0B: "<h", 0x0C: "<I", 0x0D: "<i", 0x0E: "<Q", 0x0F: "<q"}
_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda one, other: one & other,
    0x1C: lambda one, other: one - other,
    0x1E: lambda one, other: one * other,
    0x21: lambda one, other: one | other,
    0x22: lambda one, other: one + other,
    0x24: lambda one, other: one << (other & 63),
    0x25: lambda one, other: one >> (other & 63),
    0x2A: lambda one, other: int(one >= other),
    0x2B: lambda one, other: int(one > other),
    0x2C: lambda one, other: int(one <= other),
    0x2D: lambda one, other: int(one < other),
}
