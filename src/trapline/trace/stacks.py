"""From a thread's registers and a piece of its stack to the functions that it is in (``-k``)."""

from __future__ import annotations

import os
from bisect import bisect_right

from trapline.trace.cfi import evaluate
from trapline.trace.modules import Module, load
from trapline.trace.x86_64 import BY_FRAME_POINTER, PROGRAM_COUNTER, STACK_POINTER, registers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.trace.cfi import Reader, Row
    from trapline.trace.file import Event

__all__ = ["Frame", "Stacks"]

_MOST = 128
_WORD = (1 << 64) - 1


class Frame:
    """A place in a program.

    :ivar path: of the file whose code is there, or "".
    :ivar address: within that file, or where that is not known in memory.
    :ivar function: its name, and *offset* how far in it; "" where no symbol covers the place.
    """

    __slots__ = ("address", "function", "offset", "path")

    def __init__(self, path: str, address: int, function: str, offset: int) -> None:
        self.path = path
        self.address = address
        self.function = function
        self.offset = offset

    def __str__(self) -> str:
        if not self.path:
            return f"[{self.address:#x}]"
        name = f"{self.function}+{self.offset:#x}" if self.function else f"+{self.address:#x}"
        return f"{self.path}({name}) [{self.address:#x}]"


class _Maps:
    """Where code is in a process."""

    def __init__(self, text: str) -> None:
        self.ranges: list[tuple[int, int, int, str]] = []
        for line in text.splitlines():
            words = line.split(maxsplit=5)
            start, end = (int(word, 16) for word in words[0].split("-"))
            self.ranges.append((start, end, int(words[2], 16), words[5] if len(words) > 5 else ""))

    def find(self, address: int) -> tuple[int, int, str] | None:
        place = bisect_right(self.ranges, address, key=lambda one: one[0]) - 1
        if place < 0 or address >= self.ranges[place][1]:
            return None
        start, _, offset, path = self.ranges[place]
        return start, offset, path


class Stacks:
    """Unwinds stacks; remembers files that it has read."""

    def __init__(self) -> None:
        self._modules: dict[str, Module | None] = {}
        self._maps: dict[str, _Maps] = {}

    def frames(self, event: Event) -> tuple[list[Frame], bool]:
        """Return where a call was made, innermost first, and whether these are all.

        They end early where more of the stack would be needed than was kept, or a file is gone or says nothing.
        """
        if event.stack is None:
            return [], True
        words, start, data, text = event.stack
        maps = self._maps.get(text)
        if maps is None:
            if len(self._maps) > _MOST:
                self._maps.clear()
            maps = self._maps[text] = _Maps(text)

        def read(address: int) -> int:
            at = address - start
            if not 0 <= at <= len(data) - 8:
                raise LookupError(address)
            return int.from_bytes(data[at : at + 8], "little")

        found: list[Frame] = []
        now = registers(words)
        exact = False  # behind a call the program counter may be behind the function's end
        while len(found) < _MOST:
            counter = now[PROGRAM_COUNTER]
            if not counter:
                return found, True
            frame, row = self._place(maps, counter, counter if exact else counter - 1)
            found.append(frame)
            if row is None:
                return found, False
            try:
                before = _caller(row, now, read)
            except (LookupError, ValueError):
                return found, False
            if before is None:
                return found, True
            if before[STACK_POINTER] <= now[STACK_POINTER]:
                return found, False
            now, exact = before, row.is_signal
        return found, False

    def _place(self, maps: _Maps, counter: int, inside: int) -> tuple[Frame, Row | None]:
        here = maps.find(inside)
        if here is None:
            return Frame("", counter, "", 0), None
        start, offset, path = here
        module = self._module(path)
        address = module.address(inside - start + offset) if module is not None else None
        if module is None or address is None:
            return Frame(path, counter - start + offset, "", 0), None
        name, into = module.function(address) or ("", 0)
        more = counter - inside
        row = module.row(address)
        return Frame(
            path, address + more, name, into + more
        ), BY_FRAME_POINTER if module.says_nothing else row

    def _module(self, path: str) -> Module | None:
        if path not in self._modules:
            known = path == "[vdso]" or os.path.isabs(path)
            self._modules[path] = load(path) if known else None
        return self._modules[path]


def _caller(row: Row, now: dict[int, int], read: Reader) -> dict[int, int] | None:
    """Return the caller's registers; None: there is no caller."""
    register, offset, expression = row.cfa
    frame = evaluate(expression, now, read) if expression else now[register] + offset & _WORD
    before = dict(now)
    before[STACK_POINTER] = frame
    for number, (kind, value, code) in row.rules.items():
        if kind == "at":
            before[number] = read(frame + value & _WORD)
        elif kind == "offset":
            before[number] = frame + value & _WORD
        elif kind == "register":
            before[number] = now[value]
        elif kind == "undefined":
            if number == row.return_register:
                return None
        else:
            place = evaluate(code, now, read, frame)
            before[number] = read(place) if kind == "at expression" else place
    before[PROGRAM_COUNTER] = before.get(row.return_register, 0)
    return before
