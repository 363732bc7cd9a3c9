"""Instruction-pointer ranges tested one after the other: what `trapline.bpf.ranges` is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.bpf.assembler import JUMP_EQ, JUMP_GE, Assembler

_LOW, _HIGH = 8, 12  # of seccomp_data.instruction_pointer, little-endian


def emit(asm: Assembler, ranges: Sequence[tuple[int, int]], inside: int, outside: int) -> None:
    """Add code that jumps to the label *inside* when a range holds the instruction pointer, else to *outside*.

    :param ranges: pairs of start and end (not included) that have the same upper 32 bits.
    """
    for start, end in ranges:
        following, below = asm.label(), asm.label()
        asm.load(_HIGH)
        asm.branch(JUMP_EQ, start >> 32, None, following)
        asm.load(_LOW)
        asm.branch(JUMP_GE, start & 0xFFFFFFFF, None, following)
        asm.branch(JUMP_GE, end & 0xFFFFFFFF, below, inside)
        asm.place(below)
        asm.place(following)
    asm.goto(outside)
