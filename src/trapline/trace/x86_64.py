"""Registers of x86-64, as DWARF numbers them."""

from __future__ import annotations

from trapline.trace.cfi import Row

__all__ = ["BY_FRAME_POINTER", "PROGRAM_COUNTER", "STACK_POINTER", "registers"]

STACK_POINTER, PROGRAM_COUNTER = 7, 16
_FRAME_POINTER = 6
#: What holds in functions that keep a frame pointer, as those of Go do: the caller's and the return address are there.
BY_FRAME_POINTER = Row(PROGRAM_COUNTER, is_signal=False)
BY_FRAME_POINTER.cfa = (_FRAME_POINTER, 16, b"")
BY_FRAME_POINTER.rules = {_FRAME_POINTER: ("at", -16, b""), PROGRAM_COUNTER: ("at", -8, b"")}
#: Where each is in the kernel's signal frames: rax rdx rcx rbx rsi rdi rbp rsp r8 to r15 rip.
_PLACES = (13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7, 16)


def registers(frame: tuple[int, ...]) -> dict[int, int]:
    """Return registers by their numbers of DWARF.

    :param frame: in the order of the kernel's signal frames.
    """
    return {number: frame[place] for number, place in enumerate(_PLACES)}
