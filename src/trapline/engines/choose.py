"""Choosing the engine: the cheapest one that can do what the hooks declare."""

from __future__ import annotations

import os

from trapline.engines.base import CAPABILITIES, ENGINES, STARTABLE
from trapline.errors import UnsupportedByEngineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["choose", "is_possible", "next_engine"]


def _capable(needs: dict[str, str]) -> list[str]:
    return [name for name, can in ENGINES.items() if can.issuperset(needs)]


def _one_of(names: Sequence[str]) -> str:
    return " or ".join([text for text in (", ".join(names[:-1]), *names[-1:]) if text])


def _advice(needs: dict[str, str]) -> str:
    capable = _capable(needs)
    here = [name for name in capable if name in STARTABLE]
    if here:
        return f"Use --engine {_one_of(here)}"
    return f"Engines with that capability ({', '.join(capable)}) are not part of this version"


def next_engine(engine: str) -> str:
    """Return what to advise where an engine is in the way of itself: the next one that works here, or ``""``."""
    return next((name for name in STARTABLE[STARTABLE.index(engine) + 1 :] if is_possible(name)), "")


#: What an engine cannot do without, as :mod:`trapline.features` names it. To ask for all of it takes longer than to
#: start a command; it is for who has to know without a start.
_NEEDS = {
    "rewrite": ("sud_exclusive", "ptrace_seize", "memfd_exec", "membarrier_sync_core"),
    "sud": ("sud_exclusive", "ptrace_seize", "memfd_exec"),
    "trap": ("seccomp_trap", "ptrace_seize", "memfd_exec"),
    "ptrace": ("ptrace_seize", "ptrace_get_syscall_info"),
}


def is_possible(engine: str) -> bool:
    """Whether this machine, and whatever confines this process, allow an engine."""
    from trapline import features

    return all(features.probe(name).works is not False for name in _NEEDS.get(engine, ()))


def choose(requested: str, needs: dict[str, str], *, rare: bool = False) -> tuple[list[str], str]:
    """Return the engines to try, in this order, and why the first one.

    :param requested: an engine's name, or ``"auto"``.
    :param needs: capability and what needs it, as :meth:`Plan.needs` gives them.
    :param rare: only calls are of interest that hardly ever occur.
    :raises UsageError: no engine has that name.
    :raises UnsupportedByEngineError: the engine cannot do what is needed, or no engine here can.
    """
    if requested == "auto":
        usable = [name for name in _capable(needs) if name in STARTABLE]
        if "capture" in needs:
            # Better a slow record than one without results.
            usable.sort(key=lambda name: "result" not in ENGINES[name])
        if usable:
            if rare and "attach" not in needs and "ptrace" in usable:
                usable.sort(key=lambda name: name != "ptrace")
                return usable, "what is to be recorded is rare, and it costs all other calls the least"
            if not needs:
                return usable, "the cheapest engine, and hooks and rules need nothing that it cannot do"
            who = ", ".join(sorted(set(needs.values())))
            return usable, f"the cheapest engine that can do what {who} needs"
        requested = STARTABLE[0]
    if requested not in ENGINES:
        raise UsageError(f"no engine is called {requested!r}; use auto, {', '.join(STARTABLE)}")
    for capability, who in needs.items():
        if capability not in ENGINES[requested]:
            raise UnsupportedByEngineError(
                f"engine {requested!r} cannot {CAPABILITIES[capability]}, which {who} needs. {_advice(needs)}",
                engine=requested,
                capability=capability,
            )
    if requested not in STARTABLE:
        raise UnsupportedByEngineError(
            f"engine {requested!r} {_absence(requested)}. Use --engine {_one_of(STARTABLE)}",
            engine=requested,
            capability="start",
        )
    return [requested], "it was asked for"


def _absence(engine: str) -> str:
    machine = os.uname().machine
    if engine in ("rewrite", "sud", "trap") and machine != "x86_64":
        return f"needs x86-64: it places machine code in the program, and this machine is {machine}"
    return "is not part of this version"
