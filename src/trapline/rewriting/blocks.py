"""Blocks: the code that a rewritten site jumps to, with what depends on addresses kept apart.

::

    in one piece, within reach of the site:      in two, the gate being anywhere:

    start  copies of what is before              start  copies of what is before
    gate   the agent's template ...              leave  mov $gate, %rcx; jmp *%rcx
    pass     syscall                             after  copies of what is behind
             ... to its end                             jmp back to the window's end
    after  copies of what is behind              split  -----------------------------
           jmp back to the window's end          gate   the agent's template ...
                                                 pass     syscall
                                                          ... to its end
                                                        jmp *after (or to the window's end)

Real system calls are made from one range of addresses only, and a program's code is spread over more than a near
jump reaches: that is what two pieces are for. Bytes that depend on where the site and the pieces are come as
*fixups*, so that the bytes of a block serve every process that maps the same code.
"""

from __future__ import annotations

import struct

from trapline.rewriting.instructions import displacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.rewriting.instructions import Moved
    from trapline.rewriting.windows import Plan

__all__ = [
    "ABS64_AGENT",
    "ABS64_BLOCK",
    "ABS64_SITE",
    "OWN",
    "REL32_AGENT",
    "REL32_SITE",
    "Block",
    "Fixup",
    "Gate",
    "encode",
]

# Kinds of fixups. P is the address of the field itself, A the addend.
REL32_SITE = 1  #: 4 bytes: site + A - P
ABS64_SITE = 2  #: 8 bytes: site + A
ABS64_BLOCK = 3  #: 8 bytes: address of offset A of the block
REL32_AGENT = 4  #: 4 bytes: start of the agent's image + A - P
ABS64_AGENT = 5  #: 8 bytes: start of the agent's image + A
OWN = 16  #: from here on the agent's own kinds, which pass through


class Fixup:
    """A field of a block that depends on addresses.

    :ivar offset: of the field in the block.
    :ivar kind: one of the constants of this module, or the agent's own.
    :ivar addend: what is added to the base that *kind* names.
    """

    __slots__ = ("addend", "kind", "offset")

    def __init__(self, offset: int, kind: int, addend: int) -> None:
        self.offset = offset
        self.kind = kind
        self.addend = addend

    def __repr__(self) -> str:
        return f"Fixup({self.offset}, {self.kind}, {self.addend:#x})"


class Gate:
    """The agent's template: what stands in a block instead of the ``syscall``.

    Entered with all registers as the program set them; left at its end with rcx and r11 as the kernel leaves
    them.

    :ivar code: its bytes; control leaves at their end.
    :ivar pass_offset: of the ``syscall`` in it that lets a call through.
    :ivar fixups: fields to fill, offsets from the gate's beginning. :data:`ABS64_SITE` with the addend 2 is what
        rcx has to hold; addends of :data:`ABS64_BLOCK` count from the gate's beginning too.
    """

    __slots__ = ("code", "fixups", "pass_offset")

    def __init__(self, code: bytes, pass_offset: int, fixups: Sequence[Fixup] = ()) -> None:
        assert code[pass_offset : pass_offset + 2] == b"\x0f\x05"
        self.code = code
        self.pass_offset = pass_offset
        self.fixups = tuple(fixups)


class Block:
    """A block before its addresses are known.

    :ivar code: its bytes, zero where fixups go.
    :ivar fixups: in the order of their offsets.
    :ivar gate: offset of the gate.
    :ivar pass_syscall: offset of the ``syscall``.
    :ivar gate_end: offset of what follows the gate.
    :ivar split: offset of the second piece; the size of the block when there is one piece only.
    :ivar points: pairs ``(offset in the block, position relative to the site)``, ascending: code from this offset
        to the next pair's stands for the program's instruction there. A signal, a fault or a step shows the
        program this position; a thread that stands at such a position of the window goes on at this offset (the
        first one, where several have it).
    """

    __slots__ = ("code", "fixups", "gate", "gate_end", "pass_syscall", "points", "split")

    def __init__(
        self,
        code: bytes,
        fixups: tuple[Fixup, ...],
        gate: int,
        pass_syscall: int,
        gate_end: int,
        split: int,
        points: tuple[tuple[int, int], ...],
    ) -> None:
        self.code = code
        self.fixups = fixups
        self.gate = gate
        self.pass_syscall = pass_syscall
        self.gate_end = gate_end
        self.split = split
        self.points = points

    @property
    def in_two(self) -> bool:
        """Whether the gate is a piece of its own, which may be anywhere."""
        return self.split < len(self.code)

    def position(self, offset: int) -> int:
        """Return the program's position, relative to the site, that an offset in the block stands for.

        In the gate that is the ``syscall`` until it has been carried out, and 2 from then on.
        """
        if self.pass_syscall < offset < self.gate_end:
            return 2
        found = 0
        for start, position in self.points:
            if start <= offset:
                found = position
        return found

    def entry(self, position: int) -> int:
        """Return the offset at which a thread goes on that stands at *position* of the window."""
        return next(offset for offset, each in self.points if each == position)

    def at(self, site: int, address: int, gate_address: int = 0, agent: int = 0) -> tuple[bytes, bytes]:
        """Return the bytes of the two pieces; fields of the agent's own kinds stay zero.

        :param site: address of the ``syscall`` instruction.
        :param address: where the first piece will be.
        :param gate_address: where the second one will be, if there is one.
        :param agent: where the agent's image is.
        :raises OverflowError: something does not reach.
        """
        code = bytearray(self.code)

        def place(offset: int) -> int:
            return address + offset if offset < self.split else gate_address + offset - self.split

        for fixup in self.fixups:
            offset, kind, addend = fixup.offset, fixup.kind, fixup.addend
            if kind == REL32_SITE:
                code[offset : offset + 4] = displacement(site + addend - place(offset))
            elif kind == REL32_AGENT:
                code[offset : offset + 4] = displacement(agent + addend - place(offset))
            elif kind in (ABS64_SITE, ABS64_AGENT, ABS64_BLOCK):
                value = (
                    place(addend) if kind == ABS64_BLOCK else addend + (site if kind == ABS64_SITE else agent)
                )
                code[offset : offset + 8] = struct.pack("<Q", value % (1 << 64))
        return bytes(code[: self.split]), bytes(code[self.split :])


class _Writer:
    def __init__(self) -> None:
        self.code = bytearray()
        self.fixups: list[Fixup] = []
        self.points: list[tuple[int, int]] = []

    def point(self, position: int) -> None:
        self.points.append((len(self.code), position))

    def copy(self, instructions: tuple[Moved, ...]) -> None:
        for moved in instructions:
            self.point(moved.at)
            for offset, addend in moved.fixups:
                self.fixups.append(Fixup(len(self.code) + offset, REL32_SITE, addend))
            self.code += moved.code

    def gate(self, gate: Gate) -> int:
        start = len(self.code)
        self.point(0)
        self.code += gate.code
        for fixup in gate.fixups:
            addend = fixup.addend + (start if fixup.kind == ABS64_BLOCK else 0)
            self.fixups.append(Fixup(start + fixup.offset, fixup.kind, addend))
        return start

    def jump_back(self, end: int) -> None:
        self.point(end)
        self.fixups.append(Fixup(len(self.code) + 1, REL32_SITE, end - 4))
        self.code += b"\xe9" + bytes(4)

    def enter_far(self) -> Fixup:
        """Jump to an address that is still to be told; rcx is the kernel's to overwrite."""
        fixup = Fixup(len(self.code) + 2, ABS64_BLOCK, 0)
        self.fixups.append(fixup)
        self.code += b"\x48\xb9" + bytes(8) + b"\xff\xe1"
        return fixup

    def return_far(self, start: int, kind: int, addend: int) -> None:
        """Jump without a register. The program may check alignments, so the address lies aligned behind *start*."""
        self.code += b"\x90" * ((start - len(self.code) - 6) % 8)
        self.fixups.append(Fixup(len(self.code) + 6, kind, addend))
        self.code += b"\xff\x25" + bytes(12)


def encode(plan: Plan, gate: Gate, *, in_two: bool = False) -> Block:
    """Lay out the block of a plan.

    :param in_two: put the gate in a piece of its own, for an agent that is out of the site's reach.
    """
    to = _Writer()
    to.copy(plan.before)
    if not in_two:
        start = to.gate(gate)
        gate_end = len(to.code)
        to.copy(plan.after)
        if plan.goes_on:
            to.jump_back(plan.end)
        split = len(to.code)
    else:
        to.point(0)
        leave = to.enter_far()
        after = len(to.code)
        if plan.after:
            to.copy(plan.after)
            if plan.goes_on:
                to.jump_back(plan.end)
        split = len(to.code)
        leave.addend = split
        start = to.gate(gate)
        gate_end = len(to.code)
        to.point(2)
        if plan.after:
            to.return_far(split, ABS64_BLOCK, after)
        else:
            to.return_far(split, ABS64_SITE, plan.end)
    to.fixups.sort(key=lambda fixup: fixup.offset)
    syscall = start + gate.pass_offset
    return Block(bytes(to.code), tuple(to.fixups), start, syscall, gate_end, split, tuple(to.points))
