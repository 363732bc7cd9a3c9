"""Where a block may be, so that the jump to it traps wherever an instruction began.

A jump of 5 bytes replaces a window. Where one of the program's instructions began inside those bytes, a thread may
still arrive: a byte of the offset stands there, and must be one that traps as an opcode. So the offset is chosen,
which is to say: the address of what is jumped to.

::

    window   e9  o0  o1  o2  o3  cc ...       offset = address - (window + 5), lowest byte first
    before   0f  05 |48  3d  01  f0 ff ff     "syscall" and "cmp": o1 has to trap, bits 8 to 15 of the offset
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from trapline.rewriting.blocks import Block
    from trapline.rewriting.windows import Plan

__all__ = ["JUMP_SIZE", "TRAPPING", "Placement", "jump_bytes", "placements"]

JUMP_SIZE = 5

#: int3 (SIGTRAP), and opcodes that are invalid in 64-bit mode whatever follows them (SIGILL), ascending. Left out:
#: what newer processors read as a prefix (62, c4, c5, d5), what needs more bytes to be known as invalid (82, 9a,
#: ea), and int1.
TRAPPING = b"\x06\x07\x0e\x16\x17\x1e\x1f\x27\x2f\x37\x3f\x60\x61\xcc\xce\xd6"

_TRAPS = frozenset(TRAPPING)
_REACH = 1 << 31


class Placement:
    """The addresses that the jump of a plan may lead to.

    :ivar start: where the window begins, relative to the site.
    :ivar trapping: bit *n* is set when byte *n* of the offset has to trap.
    :ivar lowest: lowest address of the block, relative to the site, at which all its offsets reach.
    :ivar highest: the highest one.
    """

    __slots__ = ("highest", "lowest", "start", "trapping")

    def __init__(self, start: int, trapping: int, lowest: int, highest: int) -> None:
        self.start = start
        self.trapping = trapping
        self.lowest = lowest
        self.highest = highest

    def allows(self, site: int, address: int) -> bool:
        """Tell whether a block for the site may begin at *address*."""
        if not self.lowest <= address - site <= self.highest:
            return False
        offset = (address - (site + self.start + JUMP_SIZE)) & 0xFFFFFFFF
        return all(offset >> 8 * at & 0xFF in _TRAPS for at in range(4) if self.trapping >> at & 1)

    def find(self, site: int, low: int, high: int) -> Iterator[int]:
        """Yield the addresses in ``[low, high)`` where a block for the site may begin, ascending."""
        low = max(low, site + self.lowest)
        high = min(high, site + self.highest + 1)
        origin = site + self.start + JUMP_SIZE
        address = low
        while address < high:
            wrong = self._wrong(address - origin)
            if wrong is None:
                yield address
                address += 1
            else:
                # On to the next value of the highest byte that does not trap, the lower ones from 0.
                unit = 1 << 8 * wrong
                address = origin + ((address - origin) // unit + 1) * unit

    def _wrong(self, offset: int) -> int | None:
        for at in (3, 2, 1, 0):
            if self.trapping >> at & 1 and offset >> 8 * at & 0xFF not in _TRAPS:
                return at
        return None


def placements(plan: Plan, block: Block) -> Placement:
    """Tell where the block of a plan, or its first piece, may be."""
    from trapline.rewriting.blocks import REL32_SITE

    lowest = max(plan.start + JUMP_SIZE, 0) - _REACH
    highest = min(plan.start + JUMP_SIZE, 0) + _REACH - 1
    for fixup in block.fixups:
        if fixup.kind == REL32_SITE:
            # The field holds addend - (address + offset), all relative to the site.
            lowest = max(lowest, fixup.addend - fixup.offset - _REACH + 1)
            highest = min(highest, fixup.addend - fixup.offset + _REACH)
    return Placement(plan.start, sum(1 << at for at in plan.trapping), lowest, highest)


def jump_bytes(plan: Plan, site: int, address: int) -> bytes:
    """Return what is written over the window: the jump to *address*, traps, and the ``syscall`` where it stays.

    :raises OverflowError: the jump does not reach.
    :raises ValueError: an instruction began where the jump would not trap.
    """
    from trapline.rewriting.instructions import displacement

    offset = displacement(address - (site + plan.start + JUMP_SIZE))
    if any(offset[at] not in _TRAPS for at in plan.trapping):
        raise ValueError(f"a jump to {address:#x} does not trap where an instruction began")
    code = b"\xe9" + offset
    if plan.keeps_syscall:
        return code + b"\xcc" * (-plan.start - JUMP_SIZE) + b"\x0f\x05"
    return code + b"\xcc" * (plan.length - JUMP_SIZE)
