"""What one hooked call costs."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.measure import Contender, Group
from bench.programs import HERE, TRAPLINE, Programs, has_peer, hooks, printing

# Calls per turn: some hundredths of a second. What disturbs a busy machine lasts longer, and so hits neighbours alike.
_COUNT, _PEER_COUNT = "6000", "600"


def groups(programs: Programs) -> list[Group]:
    """Return the groups ``hook``, ``openat``, ``reply_fd``, ``rules``, ``threads`` and the peers' two."""
    return [
        Group(
            "hook",
            "getppid answered by a Python hook, over the plain C supervisor",
            "ns",
            _pair(programs, "getppid", "getppid", 1.25),
        ),
        Group(
            "openat",
            "openat with its path read and ID_VALID, then let go on, over the C one",
            "ns",
            _pair(programs, "openat", "openat", 1.4),
        ),
        Group(
            "reply_fd",
            "openat answered with a descriptor, over the C one",
            "ns",
            _pair(programs, "reply_fd", "openat", None),
        ),
        Group(
            "rules", "getppid under rules that need no Python, over the C supervisor", "ns", _rules(programs)
        ),
        Group(
            "threads",
            "getppid from 4 threads at once, nanoseconds of wall time per call, over the C supervisor",
            "ns",
            _threads(programs),
        ),
        *_peers(programs),
    ]


def _pair(programs: Programs, name: str, kind: str, aim: float | None) -> list[Contender]:
    loop = [programs.loop, kind, _COUNT]
    return [
        Contender("C supervisor", printing(programs.supervisor, name, *loop)),
        Contender("trapline", printing(TRAPLINE, "run", "-s", hooks(name), "--", *loop), aim=aim),
    ]


def _peers(programs: Programs) -> list[Group]:
    found = [
        (name, str(HERE / script))
        for module, name, script in (
            ("sandlock", "sandlock", "peer_sandlock.py"),
            ("ptrace", "python-ptrace", "peer_ptrace.py"),
        )
        if has_peer(module)
    ]
    groups = []
    for kind in ("getppid", "openat") if found else ():
        loop = [programs.loop, kind, _PEER_COUNT]
        contenders = [Contender("trapline", printing(TRAPLINE, "run", "-s", hooks(kind), "--", *loop))]
        contenders += [
            Contender(name, printing(sys.executable, script, kind, *loop)) for name, script in found
        ]
        groups.append(
            Group(
                f"peers-{kind}", f"the same hook on {kind} with others, over trapline", "ns", contenders, 0.3
            )
        )
    return groups


def _rules(programs: Programs) -> list[Contender]:
    loop = [programs.loop, "getppid", _COUNT]
    return [
        Contender("C supervisor", printing(programs.supervisor, "getppid", *loop)),
        Contender("-e getppid:retval=1 (answered in C)", _rule("getppid:retval=1", loop)),
        Contender("-e getppid:error=EPERM (by the kernel)", _rule("getppid:error=EPERM", loop)),
    ]


def _rule(rule: str, loop: list[str]) -> Callable[[], float]:
    return printing(TRAPLINE, "run", "-e", rule, "--", *loop)


def _threads(programs: Programs) -> list[Contender]:
    loop = [programs.loop, "getppid", "4000", "4"]
    return [
        Contender("C supervisor", printing(programs.supervisor, "getppid", *loop)),
        Contender("trapline", printing(TRAPLINE, "run", "-s", hooks("getppid"), "--", *loop)),
        Contender("-e getppid:retval=1 (answered in C)", _rule("getppid:retval=1", loop)),
    ]
