"""Choosing the window of a ``syscall`` instruction that becomes a jump."""

from __future__ import annotations

from trapline.rewriting.instructions import (
    CONDITIONAL,
    EAX,
    GOES_ON,
    INT3,
    MOV_R32,
    NEXT,
    Moved,
    decode_one,
    move,
    obstacle,
)
from trapline.rewriting.placement import JUMP_SIZE
from trapline.rewriting.surroundings import WINDOW_MAX, Surroundings, is_padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from iced_x86 import Instruction

__all__ = ["JUMP_SIZE", "REASONS", "Plan", "Refusal", "plan"]

SYSCALL = b"\x0f\x05"

#: How many bytes in front of the ``syscall`` are looked through for a window.
BEFORE_MAX = 24

#: Why a site is left alone. The order is the numbering that the agent and reports use, from 1.
REASONS = {
    "no-syscall": "there is no syscall instruction",
    "unreadable": "the code around it cannot be read",
    "prefixed": "what is in front of it may belong to it",
    "restorer": "unwinders recognise signal restorers by their bytes",
    "page": "the window straddles two pages",
    "unproven": "no start in front of it is proven and what follows cannot be moved",
    "target": "known branches lead into every window",
    "function": "a function begins right behind it",
    "ends": "control does not come back behind it",
    "call": "a call is next to it",
    "kernel-entry": "another entry to the kernel is next to it",
    "landing-pad": "a landing pad of indirect branches is next to it",
    "privileged": "a privileged instruction is next to it",
    "trap-flag": "an instruction that changes single-stepping is next to it",
    "own-address": "an instruction that records its own address is next to it",
    "far": "a far branch is next to it",
    "reach": "what an instruction next to it refers to is too far away",
    "odd": "an instruction with odd prefixes is next to it",
    "invalid": "what is next to it is no instruction",
    "writable": "the program may change the code at any moment",
    "shared": "the code is mapped shared: other processes would see the change",
}

# How libgcc and gdb know a frame of a signal handler that has no unwind table: mov $15, %rax; syscall.
RESTORER = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"

# Prefixes that would change a jump written behind them. REX does not.
PREFIXES = b"\x66\x67\xf0\xf2\xf3"

# What the place of the block costs when a byte of the offset has to trap: the first byte takes the block's low
# bits, the last one leaves a few bands of 16 MB in 4 GB.
BYTE_COSTS = (3, 1, 4, 16)


class Refusal:
    """A site that stays on the slow path.

    :ivar reason: a key of :data:`REASONS`.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        assert reason in REASONS
        self.reason = reason

    def __repr__(self) -> str:
        return f"Refusal({self.reason!r})"

    @property
    def text(self) -> str:
        """The reason as a clause."""
        return REASONS[self.reason]


class Plan:
    """How one site is rewritten. All positions are relative to the ``syscall`` instruction, so one plan serves
    every mapping of the same code.

    :ivar kind: ``move`` (``mov $imm32, %eax`` in front), ``before`` (other instructions in front), ``after``
        (instructions behind), ``around`` (both).
    :ivar start: where the window begins, 0 or less.
    :ivar end: where it ends, 2 or more.
    :ivar before: the instructions moved from in front of the ``syscall``.
    :ivar after: those from behind.
    :ivar boundaries: where instructions begin inside the window, but for its start.
    :ivar goes_on: whether control passes the window's end, so that the block has to jump back there.
    :ivar original: the bytes of the window.
    """

    __slots__ = ("after", "before", "boundaries", "end", "goes_on", "kind", "original", "start")

    def __init__(
        self,
        kind: str,
        start: int,
        end: int,
        before: tuple[Moved, ...],
        after: tuple[Moved, ...],
        original: bytes,
    ) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.before = before
        self.after = after
        self.original = original
        starts = [moved.at for moved in before] + [0] + [moved.at for moved in after]
        self.boundaries = tuple(at for at in starts if at != start)
        self.goes_on = True

    def __repr__(self) -> str:
        return f"Plan({self.kind!r}, start={self.start}, end={self.end}, trapping={self.trapping})"

    @property
    def length(self) -> int:
        """Bytes of the window."""
        return self.end - self.start

    @property
    def keeps_syscall(self) -> bool:
        """Whether the ``syscall`` stays in place behind the jump: who jumps there is dispatched as before."""
        return self.start <= -JUMP_SIZE

    @property
    def trapping(self) -> tuple[int, ...]:
        """Which bytes of the jump's offset, 0 to 3, have to trap, because instructions began there."""
        return tuple(at - self.start - 1 for at in self.boundaries if at - self.start < JUMP_SIZE)


def plan(
    code: bytes,
    base: int,
    syscall_at: int,
    *,
    starts: Sequence[int] | None = None,
    targets: Collection[int] = (),
    returns: bool = True,
    one_page: bool = False,
) -> Plan | Refusal:
    """Plan how the ``syscall`` instruction at *syscall_at* becomes a jump.

    :param code: the code around it that can be read, the more the better.
    :param base: address of its first byte.
    :param starts: addresses where functions are known to begin, sorted; None when nothing is known of the code
        (made at run time): then only ``mov $imm32, %eax`` is moved from in front.
    :param targets: addresses that branches elsewhere are known to lead to.
    :param returns: whether a call at this site has been seen to come back behind it.
    :param one_page: whether a window may not straddle two pages of 4096 bytes.
    """
    offset = syscall_at - base
    if code[offset : offset + 2] != SYSCALL or offset < 0:
        return Refusal("no-syscall")
    if code[max(0, offset - 7) : offset + 2] == RESTORER:
        return Refusal("restorer")
    around = Surroundings(code, base, syscall_at, starts or ())
    around.follow_function()
    if around.preceding is None:
        around.take_votes()
    known = around.targets | {at for at in (*targets, *(starts or ())) if abs(at - syscall_at) <= WINDOW_MAX}
    only_move = starts is None and not around.proven

    best: Plan | None = None
    best_cost = 0
    reason = ""
    pages = False
    hit = False
    for before, after in _windows(around, only_move, returns):
        if isinstance(after, str):
            reason = reason or after
            continue
        start = before[0].ip if before else syscall_at
        end = after[-1].next_ip if after else syscall_at + 2
        if one_page and start >> 12 != (end - 1) >> 12:
            pages = True
            continue
        intact = start <= syscall_at - JUMP_SIZE
        inside = [at for at in known if start < at < end]
        if any(not (at == syscall_at and intact) for at in inside):
            hit = True
            continue
        found = Plan(
            _kind(before, after),
            start - syscall_at,
            end - syscall_at,
            tuple(move(i, around.raw(i), syscall_at) for i in before),
            tuple(move(i, around.raw(i), syscall_at) for i in after),
            code[start - base : end - base],
        )
        if not all(moved.reaches for moved in found.before + found.after):
            reason = reason or "reach"
            continue
        found.goes_on = not after or after[-1].flow_control in GOES_ON or is_padding(after[-1])
        cost = sum(BYTE_COSTS[at] for at in found.trapping) * 4 + len(before) + len(after)
        if after:
            cost += 6  # threads come back into the window
        if inside:
            cost += 24  # jumps past the window would go on trapping
        if best is None or cost < best_cost:
            best, best_cost = found, cost
    if best is not None:
        return best
    if hit:
        return Refusal("target")
    if pages:
        return Refusal("page")
    return Refusal(reason or "unproven")


def _windows(
    around: Surroundings, only_move: bool, returns: bool
) -> Iterator[tuple[list[Instruction], list[Instruction] | str]]:
    """Yield what windows could hold before and behind the ``syscall``, or why not."""
    following, obstruction = _following(around, returns)
    for before in _suffixes(around.preceding or [], only_move):
        size = around.site + 2 - (before[0].ip if before else around.site)
        if size >= JUMP_SIZE + 2:
            yield before, []
            continue
        count = 0
        while size < JUMP_SIZE and count < len(following):
            size += following[count].len
            count += 1
        if size >= JUMP_SIZE:
            yield before, following[:count]
        else:
            yield before, obstruction


def _suffixes(preceding: list[Instruction], only_move: bool) -> Iterator[list[Instruction]]:
    yield []
    if only_move:
        if preceding and _is_move(preceding[-1]):
            yield preceding[-1:]
        return
    for count in range(1, len(preceding) + 1):
        first = preceding[-count]
        if first.flow_control not in (NEXT, CONDITIONAL) or obstacle(first) is not None:
            return
        yield preceding[-count:]
        if preceding[-1].next_ip - first.ip >= BEFORE_MAX:
            return


def _following(around: Surroundings, returns: bool) -> tuple[list[Instruction], str]:
    """Return the instructions behind the ``syscall`` that can be moved, and what ends them."""
    site = around.site
    if not returns:
        return [], "ends"
    if not around.proven and site > around.base and around.code[site - 1 - around.base] in PREFIXES:
        return [], "prefixed"
    found: list[Instruction] = []
    size = 2
    at = site + 2
    ended = False
    while size < JUMP_SIZE:
        if around.next_start is not None and at >= around.next_start:
            return found, "function"
        instruction = decode_one(around.code, around.base, at)
        # Behind an end only what fills up to the next function is not somebody else's.
        padding = ended and is_padding(instruction) and (instruction.mnemonic == INT3 or at % 16 != 0)
        if not padding:
            reason = "ends" if ended else obstacle(instruction)
            if reason is not None:
                cut_off = instruction.code == 0 and at + 15 > around.base + len(around.code)
                return found, "unreadable" if cut_off else reason
            ended = instruction.flow_control not in GOES_ON
        found.append(instruction)
        size += instruction.len
        at += instruction.len
    return found, ""


def _kind(before: list[Instruction], after: list[Instruction]) -> str:
    if not before:
        return "after"
    if after:
        return "around"
    return "move" if len(before) == 1 and _is_move(before[0]) else "before"


def _is_move(instruction: Instruction) -> bool:
    """Tell whether it is ``mov $imm32, %eax`` in its form of 5 bytes."""
    return bool(
        instruction.len == JUMP_SIZE and instruction.code == MOV_R32 and instruction.op0_register == EAX
    )
