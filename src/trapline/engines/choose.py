"""Choosing the engine: the cheapest one that can do what the hooks declare."""

from __future__ import annotations

from trapline.engines.base import CAPABILITIES, ENGINES, STARTABLE
from trapline.errors import UnsupportedByEngineError, UsageError

__all__ = ["choose"]


def _capable(needs: dict[str, str]) -> list[str]:
    return [name for name, can in ENGINES.items() if can.issuperset(needs)]


def _advice(needs: dict[str, str]) -> str:
    capable = _capable(needs)
    here = [name for name in capable if name in STARTABLE]
    if here:
        return f"Use --engine {' or '.join(here)}."
    return f"Engines with that capability ({', '.join(capable)}) are not part of this version."


def choose(requested: str, needs: dict[str, str]) -> tuple[str, str]:
    """Return the engine to start and why.

    :param requested: an engine's name, or ``"auto"``.
    :param needs: capability and what needs it, as :meth:`Plan.needs` gives them.
    :raises UsageError: no engine has that name.
    :raises UnsupportedByEngineError: the engine cannot do what is needed, or no engine here can.
    """
    if requested == "auto":
        usable = [name for name in _capable(needs) if name in STARTABLE]
        if usable:
            why = "the cheapest engine that can do what the hooks and rules need"
            return usable[
                0
            ], why if needs else "the cheapest engine, and hooks and rules need nothing that it cannot do"
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
            f"engine {requested!r} is not part of this version; use --engine {' or '.join(STARTABLE)}",
            engine=requested,
            capability="start",
        )
    return requested, "it was asked for"
