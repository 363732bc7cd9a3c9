"""What a call of a guest costs on each engine, beside emulators; and what the host's own calls cost meanwhile."""

from __future__ import annotations

import sys

from bench.measure import Aim, Contender, Group
from bench.programs import Programs, has_peer, printing

_ENGINES = ("rewrite", "rewrite:exclusive", "rewrite:trap", "sud", "sud:exclusive", "trap", "notify")
_QUICK, _SLOW = "100000", "5000"
_CALL = "C code calls Python"


def _loop(how: str, what: str, count: str) -> Contender:
    return Contender(how, printing(sys.executable, "-m", "bench.guest_loop", how, what, count))


def _each(what: str, *, aim: float | None = None) -> list[Contender]:
    found = []
    for engine in _ENGINES:
        count = _QUICK if what == "host" or (what != "python" and engine.startswith("rewrite")) else _SLOW
        contender = _loop(engine, what, count)
        if engine == "rewrite":
            contender.aim = aim
        found.append(contender)
    return found


def groups(programs: Programs) -> list[Group]:
    """Return the groups ``guest-pass``, ``guest-rule``, ``guest-python`` and ``guest-host``."""
    native = _loop("native", "pass", _QUICK)
    bare = Contender(_CALL, printing(sys.executable, "-m", "bench.guest_loop", "native", "call", _QUICK))
    python = [bare, *_each("python")]
    python[1].also = (Aim(1000, over=_CALL, excess=True),)
    peers = [name for name in ("unicorn", "qiling") if has_peer(name)]
    python += [_loop(name, "python", _SLOW) for name in peers]
    return [
        Group(
            "guest-pass",
            "a guest's getppid, passed through, over native",
            "ns",
            [native, *_each("pass", aim=1.35)],
            0.5,
        ),
        Group(
            "guest-rule",
            "a guest's getppid under a rule, over native",
            "ns",
            [native, *_each("rule", aim=0.15)],
            0.5,
        ),
        Group(
            "guest-python",
            "a guest's getppid under a Python hook, over a bare call of Python",
            "ns",
            python,
            0.5,
        ),
        Group(
            "guest-host",
            "this process's own getppid while a guest is armed, over native",
            "ns",
            [native, *_each("host")],
            0.5,
        ),
    ]
