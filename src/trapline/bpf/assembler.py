"""An assembler with labels for classic BPF, where jumps only go forward.

Because they do, one pass from the last item to the first knows every distance exactly: a conditional jump
that cannot reach its target (its offsets have 8 bits) gets a long jump right behind it, or a copy of the
target when that is a return, which is as short and one step quicker::

        jge #k, far, near              jge #k, +0, +1
                            ------->   ja  far             (or: ret, copied)
    near: ...                    near: ...

While items are added it drops what no path reaches, and loads of a word that the accumulator holds on every
path. Equal returns are merged.
"""

from __future__ import annotations

from trapline.bpf.instruction import (
    ALU_AND,
    JUMP,
    JUMP_EQ,
    JUMP_GE,
    JUMP_GT,
    JUMP_SET,
    LOAD_WORD,
    MAX_JUMP,
    RETURN,
    Instruction,
)
from trapline.errors import TraplineError

__all__ = ["JUMP_EQ", "JUMP_GE", "JUMP_GT", "JUMP_SET", "Assembler", "AssemblerError"]

# Kinds of items: (kind, a, b, yes, no).
_PLAIN, _BRANCH, _GOTO, _RETURN, _LABEL = range(5)
_NOWHERE = -1
# What the accumulator holds: the offset of a loaded word and the bits of it that were kept, or nothing known.
_UNKNOWN = (-1, 0)
_WHOLE = 0xFFFFFFFF


class AssemblerError(TraplineError, ValueError):
    """A label that is missing, placed twice or behind a jump to it, or a path that runs off the end."""


class Assembler:
    """Collects instructions and labels; :meth:`assemble` makes the program.

    :ivar live: whether the next instruction can be reached; what is added while it cannot is dropped.
    """

    def __init__(self) -> None:
        self.live = True
        self._items: list[tuple[int, int, int, int, int]] = []
        self._labels = 0
        self._returns: dict[int, int] = {}
        self._incoming: dict[int, tuple[int, int]] = {}
        self._placed: set[int] = set()
        self._loaded = _UNKNOWN

    def label(self) -> int:
        """Return a new label, to jump to now and to :meth:`place` later."""
        self._labels += 1
        return self._labels

    def returning(self, action: int) -> int:
        """Return a label behind which the filter returns *action*; :meth:`assemble` places it."""
        label = self._returns.get(action)
        if label is None:
            label = self._returns[action] = self.label()
        return label

    def place(self, label: int) -> None:
        """Let *label* stand for the next instruction."""
        if label in self._placed:
            raise AssemblerError(f"label {label} is placed twice")
        self._placed.add(label)
        state = self._incoming.get(label)
        if state is None:
            return
        if self.live and self._loaded != state:
            state = _UNKNOWN
        self._loaded = state
        self.live = True
        self._items.append((_LABEL, label, 0, 0, 0))

    def _jump_to(self, label: int) -> None:
        if label in self._placed:
            raise AssemblerError(f"label {label} is behind the jump to it: classic BPF only jumps forward")
        known = self._incoming.get(label)
        self._incoming[label] = self._loaded if known is None or known == self._loaded else _UNKNOWN

    def emit(self, code: int, k: int = 0) -> None:
        """Add an instruction that neither jumps nor returns."""
        if self.live:
            self._loaded = _UNKNOWN
            self._items.append((_PLAIN, code, k, 0, 0))

    def load(self, offset: int, mask: int = _WHOLE) -> None:
        """Load the bits in *mask* of a word of ``struct seccomp_data``, unless they are there already."""
        if not self.live or self._loaded == (offset, mask):
            return
        if self._loaded != (offset, _WHOLE):
            self._items.append((_PLAIN, LOAD_WORD, offset, 0, 0))
        if mask != _WHOLE:
            self._items.append((_PLAIN, ALU_AND, mask, 0, 0))
        self._loaded = (offset, mask)

    def branch(self, code: int, k: int, yes: int | None, no: int | None) -> None:
        """Add a conditional jump; ``None`` is the next instruction."""
        if not self.live:
            return
        if yes == no:
            if yes is not None:
                self.goto(yes)
            return
        for target in (yes, no):
            if target is not None:
                self._jump_to(target)
        self._items.append((_BRANCH, code, k, yes or _NOWHERE, no or _NOWHERE))
        self.live = yes is None or no is None

    def goto(self, label: int) -> None:
        """Add a jump that is always taken."""
        if self.live:
            self._jump_to(label)
            self._items.append((_GOTO, label, 0, 0, 0))
            self.live = False

    def ret(self, action: int) -> None:
        """Add a return."""
        if self.live:
            self._items.append((_RETURN, action, 0, 0, 0))
            self.live = False

    def assemble(self) -> tuple[Instruction, ...]:
        """Return the program.

        :raises AssemblerError: a label was never placed, or a path runs off the end.
        """
        if self.live:
            raise AssemblerError("the program's last instruction is no return")
        for action, label in self._returns.items():
            if label in self._incoming and label not in self._placed:
                self.place(label)
                self.ret(action)
        return tuple(_Backwards(self._items).run())


class _Backwards:
    """The pass from the end: ``out`` is the program in reverse, so a position there never changes again."""

    def __init__(self, items: list[tuple[int, int, int, int, int]]) -> None:
        self.items = items
        self.out: list[Instruction] = []
        self.where: dict[int, int] = {}
        self.latest_return: dict[int, int] = {}
        self.latest_bridge: dict[int, int] = {}

    def run(self) -> list[Instruction]:
        out, where, items = self.out, self.where, self.items
        following = _NOWHERE  # the position of what comes next in the program
        for at in range(len(items) - 1, -1, -1):
            kind, a, b, yes, no = items[at]
            if kind == _LABEL:
                where[a] = following
                continue
            if kind == _BRANCH:
                self.branch(a, b, self.find(yes, following), self.find(no, following))
            elif kind == _PLAIN:
                self.fall_to(following)
                out.append((a, 0, 0, b))
            elif kind == _RETURN:
                if a in self.latest_return and not self.falls_into(at):
                    following = self.latest_return[a]
                    continue
                self.ret(a)
            else:
                self.fall_to(self.find(a, _NOWHERE))
            following = len(out) - 1
        self.fall_to(following)
        out.reverse()
        return out

    def falls_into(self, at: int) -> bool:
        """Whether the item before *at* can simply run into it (or nothing is before it)."""
        at -= 1
        while at >= 0 and self.items[at][0] == _LABEL:
            at -= 1
        if at < 0:
            return True
        kind, _, _, yes, no = self.items[at]
        return kind == _PLAIN or (kind == _BRANCH and _NOWHERE in (yes, no))

    def find(self, label: int, following: int) -> int:
        """Return the position a jump to *label* ends at, through other jumps."""
        if label == _NOWHERE:
            position = following
        else:
            position = self.where.get(label, _NOWHERE)
            if position == _NOWHERE:
                raise AssemblerError(f"label {label} is jumped to but never placed")
        while self.out[position][0] == JUMP:
            position -= 1 + self.out[position][3]
        return position

    def ret(self, action: int) -> None:
        self.latest_return[action] = len(self.out)
        self.out.append((RETURN, 0, 0, action))

    def near(self, position: int) -> int:
        """Return a position as good as *position* and in reach, if there is one: a copy or a long jump."""
        code, _, _, k = self.out[position]
        if code == RETURN:
            return self.latest_return[k]
        if len(self.out) - position - 1 > MAX_JUMP:
            bridge = self.latest_bridge.get(position, _NOWHERE)
            if bridge != _NOWHERE and len(self.out) - bridge - 1 <= MAX_JUMP:
                return bridge
        return position

    def fall_to(self, position: int) -> None:
        """Make the instruction at *position* the next one."""
        position = self.find(_NOWHERE, position)
        distance = len(self.out) - 1 - position
        if distance:
            code, _, _, k = self.out[position]
            if code == RETURN:
                self.ret(k)
            else:
                self.latest_bridge[position] = len(self.out)
                self.out.append((JUMP, 0, 0, distance))

    def branch(self, code: int, k: int, yes: int, no: int) -> None:
        if self.near(yes) == self.near(no):
            self.fall_to(yes)
            return
        while True:
            yes, no = self.near(yes), self.near(no)
            here = len(self.out)
            if here - no - 1 > MAX_JUMP:
                no = self.bridge(no)
            elif here - yes - 1 > MAX_JUMP:
                yes = self.bridge(yes)
            else:
                break
        self.out.append((code, here - yes - 1, here - no - 1, k))

    def bridge(self, position: int) -> int:
        self.fall_to(position)
        return len(self.out) - 1
