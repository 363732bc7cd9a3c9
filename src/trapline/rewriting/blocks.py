"""Blocks: the code that a rewritten site jumps to, with what depends on addresses kept apart.

::

    start    copies of the instructions before the syscall
    gate     the agent's template ...
    pass       syscall
             ... to its end
    after    copies of the instructions behind it
             jmp back to the window's end
    end

Bytes that depend on where the site and the block are come as *fixups*, so that the bytes of a block serve every
process that maps the same code.
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
    "ABS64_BLOCK",
    "ABS64_SITE",
    "AGENT",
    "REL32_BLOCK",
    "REL32_SITE",
    "Block",
    "Fixup",
    "Gate",
    "encode",
]

# Kinds of fixups. P is the address of the field itself, A the addend.
REL32_SITE = 1  #: 4 bytes: site + A - P
ABS64_SITE = 2  #: 8 bytes: site + A
REL32_BLOCK = 3  #: 4 bytes: block + A - P (resolved while the block is laid out)
ABS64_BLOCK = 4  #: 8 bytes: block + A
AGENT = 16  #: from here on the agent's own kinds, which pass through

#: In fixups of a gate: the addend counts from where the copies behind the ``syscall`` begin.
REL32_AFTER = 5
ABS64_AFTER = 6


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
    :ivar fixups: fields to fill, offsets from the gate's beginning; :data:`REL32_AFTER` and :data:`ABS64_AFTER`
        name the gate's end, :data:`ABS64_SITE` with 2 what rcx has to hold.
    """

    __slots__ = ("code", "fixups", "pass_offset")

    def __init__(self, code: bytes, pass_offset: int, fixups: Sequence[Fixup] = ()) -> None:
        assert code[pass_offset : pass_offset + 2] == b"\x0f\x05"
        self.code = code
        self.pass_offset = pass_offset
        self.fixups = tuple(fixups)


class Block:
    """A block before its address is known.

    :ivar code: its bytes, zero where fixups go.
    :ivar fixups: in the order of their offsets.
    :ivar gate: offset of the gate; the block's start is 0.
    :ivar pass_syscall: offset of the ``syscall``.
    :ivar after: offset of what follows the gate.
    :ivar back: offset of the jump back, or of the end where there is none.
    :ivar points: pairs ``(offset in the block, position relative to the site)``, ascending: code from this offset
        to the next pair's stands for the program's instruction there. A signal, a fault or a step shows the
        program this position; a thread that stands at such a position of the window goes on at this offset.
    """

    __slots__ = ("after", "back", "code", "fixups", "gate", "pass_syscall", "points")

    def __init__(
        self,
        code: bytes,
        fixups: tuple[Fixup, ...],
        gate: int,
        pass_syscall: int,
        after: int,
        back: int,
        points: tuple[tuple[int, int], ...],
    ) -> None:
        self.code = code
        self.fixups = fixups
        self.gate = gate
        self.pass_syscall = pass_syscall
        self.after = after
        self.back = back
        self.points = points

    def position(self, offset: int) -> int:
        """Return the program's position, relative to the site, that an offset in the block stands for.

        Inside the gate that is the ``syscall`` until it has been carried out, and 2 from then on.
        """
        if self.pass_syscall < offset < self.after:
            return 2
        found = 0
        for start, position in self.points:
            if start <= offset:
                found = position
        return found

    def at(self, site: int, address: int) -> bytes:
        """Return the bytes for a site and an address of the block; the agent's own fixups stay zero.

        :raises OverflowError: the two are too far apart.
        """
        code = bytearray(self.code)
        for fixup in self.fixups:
            offset = fixup.offset
            if fixup.kind == REL32_SITE:
                code[offset : offset + 4] = displacement(site + fixup.addend - (address + offset))
            elif fixup.kind == ABS64_SITE:
                code[offset : offset + 8] = struct.pack("<Q", (site + fixup.addend) % (1 << 64))
            elif fixup.kind == ABS64_BLOCK:
                code[offset : offset + 8] = struct.pack("<Q", (address + fixup.addend) % (1 << 64))
        return bytes(code)


def encode(plan: Plan, gate: Gate) -> Block:
    """Lay out the block of a plan."""
    code = bytearray()
    fixups: list[Fixup] = []
    points: list[tuple[int, int]] = []
    _copy(plan.before, code, fixups, points)
    gate_at = len(code)
    points.append((gate_at, 0))
    code += gate.code
    after = len(code)
    _copy(plan.after, code, fixups, points)
    back = len(code)
    points.append((back, plan.end))
    if plan.goes_on:
        code += b"\xe9" + bytes(4)
        fixups.append(Fixup(back + 1, REL32_SITE, plan.end - 4))
    for fixup in gate.fixups:
        offset = gate_at + fixup.offset
        if fixup.kind in (REL32_BLOCK, REL32_AFTER):
            base = after if fixup.kind == REL32_AFTER else 0
            code[offset : offset + 4] = displacement(base + fixup.addend - offset)
        elif fixup.kind == ABS64_AFTER:
            fixups.append(Fixup(offset, ABS64_BLOCK, after + fixup.addend))
        else:
            fixups.append(Fixup(offset, fixup.kind, fixup.addend))
    fixups.sort(key=lambda fixup: fixup.offset)
    return Block(bytes(code), tuple(fixups), gate_at, gate_at + gate.pass_offset, after, back, tuple(points))


def _copy(
    instructions: tuple[Moved, ...], code: bytearray, fixups: list[Fixup], points: list[tuple[int, int]]
) -> None:
    for moved in instructions:
        points.append((len(code), moved.at))
        fixups.extend(Fixup(len(code) + offset, REL32_SITE, addend) for offset, addend in moved.fixups)
        code += moved.code
