"""What can be said of a filter without running it: path lengths, and what the kernel will cache."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.bpf.action import RET_ALLOW
from trapline.bpf.instruction import (
    ABS,
    ALU,
    AND,
    JA,
    JMP,
    LD,
    OFFSET_ARCH,
    OFFSET_NR,
    RET,
    Instruction,
    K,
    W,
    X,
)
from trapline.bpf.interpreter import compare


def constant_allow(program: Sequence[Instruction], nr: int, arch: int) -> bool:
    """Return whether the kernel caches ALLOW for a number: what it emulates when a filter is installed.

    It follows loads of the number and the architecture, comparisons with constants and ``and``; at anything
    else it gives up.

    :param arch: an ``AUDIT_ARCH_*`` value.
    """
    a = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == LD | W | ABS and k in (OFFSET_NR, OFFSET_ARCH):
            a = nr if k == OFFSET_NR else arch
        elif code == RET | K:
            return k == RET_ALLOW
        elif code == JMP | JA:
            at += k
        elif code & 7 == JMP and not code & X:
            at += jt if compare(code & 0xF0, a, k) else jf
        elif code == ALU | AND | K:
            a &= k
        else:
            return False


def longest_path(program: Sequence[Instruction]) -> int:
    """Return how many instructions the longest path through *program* has, taken by a call or not."""
    longest = [0] * len(program)
    for at in range(len(program) - 1, -1, -1):
        code, jt, jf, k = program[at]
        if code & 7 == RET:
            longest[at] = 1
        elif code == JMP | JA:
            longest[at] = 1 + longest[at + 1 + k]
        elif code & 7 == JMP:
            longest[at] = 1 + max(longest[at + 1 + jt], longest[at + 1 + jf])
        else:
            longest[at] = 1 + longest[at + 1]
    return longest[0]


def longest_path_of(program: Sequence[Instruction], nr: int, arch: int) -> int:
    """Return how many instructions the worst call with this number executes, whatever its arguments.

    :param arch: an ``AUDIT_ARCH_*`` value.
    """
    lengths: dict[tuple[int, int | None], int] = {}
    pending: list[tuple[int, int | None]] = [(0, 0)]
    while pending:
        at, a = pending[-1]
        code, jt, jf, k = program[at]
        after: list[tuple[int, int | None]] = []
        if code & 7 == JMP:
            if code == JMP | JA:
                after = [(at + 1 + k, a)]
            elif a is None or code & X:
                after = [(at + 1 + jt, a), (at + 1 + jf, a)]
            else:
                after = [(at + 1 + (jt if compare(code & 0xF0, a, k) else jf), a)]
        elif code & 7 != RET:
            if code == LD | W | ABS and k in (OFFSET_NR, OFFSET_ARCH):
                a = nr if k == OFFSET_NR else arch
            elif code == ALU | AND | K and a is not None:
                a &= k
            elif code & 7 in (LD, ALU) or code == 0x87:
                a = None
            after = [(at + 1, a)]
        missing = [state for state in after if state not in lengths]
        if missing:
            pending += missing
        else:
            lengths[pending.pop()] = 1 + max((lengths[state] for state in after), default=0)
    return lengths[0, 0]
