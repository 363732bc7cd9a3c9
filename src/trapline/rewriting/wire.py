"""The supervisor's answer to "how is this site patched?", as the agent reads it.

Little endian, and nothing in it depends on where the code is mapped::

    struct tl_plan {                        // 32 bytes
        uint16_t size;                      // of the whole answer
        uint8_t  reason;                    // 0: planned; else why not (number_of), and only zeros follow
        uint8_t  kind;                      // 1 move, 2 before, 3 after, 4 around: for reports
        int8_t   start, end;                // window = [site + start, site + end)
        uint8_t  trapping;                  // bit n: byte n of the jump's offset must be one of TRAPPING
        uint8_t  flags;                     // 1: the syscall stays in place at the window's end
        uint16_t block_size, split;         // split == block_size: one piece; else the gate's piece begins there
        uint16_t gate, pass, gate_end;      // offsets in the block, see Block
        uint8_t  point_count, fixup_count;
        uint8_t  window_size, reserved[3];  // end - start
        int32_t  lowest, highest;           // site + lowest <= block <= site + highest, then every offset reaches
        struct { uint16_t offset; int8_t position; uint8_t reserved; } points[point_count];
        struct { uint16_t offset; uint8_t kind; uint8_t reserved; int32_t addend; } fixups[fixup_count];
        uint8_t window[window_size];        // what has to be there now: compare before writing
        uint8_t block[block_size];          // zero where fixups go
    };

What the agent does with it:

1. choose an address B with ``lowest <= B - site <= highest`` for which every byte *n* of
   ``(int32_t)(B - (site + start + 5))`` that *trapping* names is one of TRAPPING; for two pieces also an address G
   in the range of real system calls. Then offset *o* of the block is at ``o < split ? B + o : G + o - split``;
2. copy the block there and fill its fields, P being a field's own address, A its addend: kind 1 takes 4 bytes
   ``site + A - P``; 2: 8 bytes ``site + A``; 3: 8 bytes, the address of offset A of the block; 4: 4 bytes
   ``image + A - P``; 5: 8 bytes ``image + A``; from 16 on its own kinds, as it likes;
3. write the window: ``e9``, the offset, and ``cc`` up to *end*, or up to the ``syscall`` where that stays.

A thread found inside the window at ``site + position`` of a point goes on at the first offset in the block that has
this position (0 is the ``syscall``: the gate). A signal at an offset in the block shows the program ``site +
position`` of the last point that is not behind it; in the gate behind *pass* that is ``site + 2``.
"""

from __future__ import annotations

import struct

from trapline.rewriting.blocks import Block, Fixup
from trapline.rewriting.placement import Placement, placements
from trapline.rewriting.windows import REASONS, Plan, Refusal

__all__ = ["KINDS", "Answer", "number_of", "pack", "unpack"]

KINDS = ("move", "before", "after", "around")
_NUMBERS = {reason: number for number, reason in enumerate(REASONS, 1)}

_HEAD = struct.Struct("<HBBbbBBHHHHHBBBxxxii")
_POINT = struct.Struct("<HbB")
_FIXUP = struct.Struct("<HBBi")
_KEEPS_SYSCALL = 1

assert _HEAD.size == 32


def number_of(refusal: Refusal) -> int:
    """Return the number of a refusal's reason, which is not 0."""
    return _NUMBERS[refusal.reason]


def pack(plan: Plan | Refusal, block: Block | None = None) -> bytes:
    """Put an answer into bytes.

    :param block: the block of the plan, from :func:`~trapline.rewriting.blocks.encode`.
    """
    if isinstance(plan, Refusal):
        return _HEAD.pack(_HEAD.size, number_of(plan), *bytes(15))
    assert block is not None
    place = placements(plan, block)
    points = b"".join(_POINT.pack(offset, position, 0) for offset, position in block.points)
    fixups = b"".join(_FIXUP.pack(each.offset, each.kind, 0, each.addend) for each in block.fixups)
    rest = points + fixups + plan.original + block.code
    head = _HEAD.pack(
        _HEAD.size + len(rest),
        0,
        KINDS.index(plan.kind) + 1,
        plan.start,
        plan.end,
        place.trapping,
        _KEEPS_SYSCALL if plan.keeps_syscall else 0,
        len(block.code),
        block.split,
        block.gate,
        block.pass_syscall,
        block.gate_end,
        len(block.points),
        len(block.fixups),
        plan.length,
        place.lowest,
        place.highest,
    )
    return head + rest


class Answer:
    """An answer read back, for tests and reports.

    :ivar reason: a key of :data:`~trapline.rewriting.windows.REASONS`, or None when the site can be patched; then
        the other fields are there.
    """

    __slots__ = ("block", "end", "keeps_syscall", "kind", "place", "reason", "start", "window")

    reason: str | None
    kind: str
    start: int
    end: int
    keeps_syscall: bool
    place: Placement
    block: Block
    window: bytes


def unpack(data: bytes) -> Answer:
    """Read what :func:`pack` wrote."""
    head = _HEAD.unpack_from(data)
    answer = Answer()
    answer.reason = list(REASONS)[head[1] - 1] if head[1] else None
    if answer.reason is not None:
        return answer
    (
        size,
        _,
        kind,
        start,
        end,
        trapping,
        flags,
        block_size,
        split,
        gate,
        syscall,
        gate_end,
        points,
        fixups,
    ) = head[:14]
    assert size == len(data)
    at = _HEAD.size
    pairs = tuple(_POINT.unpack_from(data, at + _POINT.size * n)[:2] for n in range(points))
    at += _POINT.size * points
    fields = []
    for n in range(fixups):
        offset, which, _, addend = _FIXUP.unpack_from(data, at + _FIXUP.size * n)
        fields.append(Fixup(offset, which, addend))
    at += _FIXUP.size * fixups
    answer.kind = KINDS[kind - 1]
    answer.start, answer.end = start, end
    answer.keeps_syscall = bool(flags & _KEEPS_SYSCALL)
    answer.place = Placement(start, trapping, head[15], head[16])
    answer.window = data[at : at + head[14]]
    answer.block = Block(data[at + head[14] :], tuple(fields), gate, syscall, gate_end, split, pairs)
    assert len(answer.block.code) == block_size
    return answer
