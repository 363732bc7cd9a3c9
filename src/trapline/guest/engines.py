"""How a guest's calls are caught: the engines, by name."""

from __future__ import annotations

from trapline import abi, features
from trapline.bpf import action
from trapline.bpf.assembler import JUMP_EQ, Assembler
from trapline.bpf.program import Program
from trapline.bpf.ranges import emit, tree64
from trapline.errors import EngineStartError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.bpf.ranges import Ranges

__all__ = ["ENGINES", "EngineChoice", "catching_filter", "choose"]

SUD, TRAP, NOTIFY = range(3)

#: Base engine (see struct tl_guest in native/core/guest.h), whether sites are rewritten, whether a selector is used.
ENGINES: dict[str, tuple[int, bool, bool]] = {
    "sud": (SUD, False, False),
    "sud:exclusive": (SUD, False, True),
    "trap": (TRAP, False, False),
    "notify": (NOTIFY, False, False),
    "rewrite": (SUD, True, False),
    "rewrite:exclusive": (SUD, True, True),
    "rewrite:trap": (TRAP, True, False),
    "rewrite:notify": (NOTIFY, True, False),
}
#: What each needs of the kernel, as :mod:`trapline.features` names it.
_NEEDS = {SUD: ("sud_exclusive",), TRAP: ("seccomp_trap",), NOTIFY: ("notify_listener",)}
_TRAP_DATA = 0x7471  # tl_guest_trap_data
_BELL = 0xF00D  # of guest_notify.c
_LOW, _HIGH, _NR, _ARCH = 8, 12, 0, 4


class EngineChoice:
    """An engine that was chosen.

    :ivar name: its name.
    :ivar base: what catches calls.
    :ivar rewrites: hot sites are rewritten.
    :ivar selects: by a selector that is flipped at each crossing.
    """

    __slots__ = ("base", "name", "rewrites", "selects")

    def __init__(self, name: str) -> None:
        self.name = name
        self.base, self.rewrites, self.selects = ENGINES[name]


def choose(name: str) -> EngineChoice:
    """Return the engine of that name; ``auto`` is the cheapest that works here.

    :raises UsageError: no engine has that name.
    :raises EngineStartError: the kernel, or what surrounds this process, does not allow it.
    """
    if name == "auto":
        name = "rewrite" if _works(SUD) else "rewrite:trap"
    if name not in ENGINES:
        raise UsageError(f"guests have no engine {name!r}; use auto, {', '.join(ENGINES)}")
    choice = EngineChoice(name)
    if not _works(choice.base):
        raise EngineStartError(
            38, f"engine {name!r} does not work here: {', '.join(_NEEDS[choice.base])} is missing. Use another "
            f"one of {', '.join(ENGINES)}, or run `trapline doctor`",
        )  # fmt: skip
    if choice.base == SUD and not features.sud_inclusive():
        choice.selects = True
    return choice


def _works(base: int) -> bool:
    return all(features.probe(name).works is not False for name in _NEEDS[base])


def catching_filter(ranges: Ranges, verdict: int, trapped: tuple[int, ...] | None = ()) -> Program:
    """Return the filter that catches calls from some ranges of addresses and lets all others pass.

    :param verdict: ``SECCOMP_RET_TRAP`` or ``SECCOMP_RET_USER_NOTIF``.
    :param trapped: native numbers that trap all the same; None is all but trapline's own.
    """
    asm = Assembler()
    inside, outside, traps = asm.label(), asm.label(), asm.label()
    emit(asm, tree64(ranges), {"low": _LOW, "high": _HIGH}, {True: inside, False: outside})
    asm.place(inside)
    if verdict != action.RET_TRAP:
        asm.load(_ARCH)
        native = asm.label()
        asm.branch(JUMP_EQ, abi.AUDIT_ARCH["x86_64"], native, traps)
        asm.place(native)
        asm.load(_NR)
        notified = asm.label()
        numbers = [(_BELL, notified)] if trapped is None else [(number, traps) for number in trapped]
        for number, target in numbers:
            following = asm.label()
            asm.branch(JUMP_EQ, number, target, following)
            asm.place(following)
        asm.goto(traps if trapped is None else notified)
        asm.place(notified)
        asm.ret(verdict)
        asm.place(traps)
    asm.ret(action.trap(_TRAP_DATA))
    asm.place(outside)
    asm.ret(action.RET_ALLOW)
    return Program(asm.assemble())
