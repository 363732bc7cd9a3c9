"""What one call costs under each engine, beside nothing, beside the least that catching takes, and beside peers."""

from __future__ import annotations

from bench.engine_commands import IN_PROCESS, null, under
from bench.measure import Aim, Contender, Group
from bench.peers import Peer
from bench.programs import Programs, hooks, printing

# Calls per turn: some hundredths of a second for those of a hundred nanoseconds; less for those of many thousands.
_QUICK, _SLOW = "100000", "3000"
_NATIVE, _ALLOWED, _HANDLED = "native", "C: SUD on, caller allowed", "C: SUD and a SIGSYS handler"
_RULE = "getppid:retval=1"


def groups(programs: Programs, engines: list[str], peers: list[Peer]) -> list[Group]:
    """Return the groups ``null``, ``null-invalid``, ``retval``, ``python``, ``null-threads``, ``python-threads``."""
    return [
        _null(programs, engines, peers, "null", "getppid", "getppid"),
        _null(programs, engines, peers, "null-invalid", "invalid", "a call number that does not exist"),
        _retval(programs, engines),
        _python(programs, engines),
        *_threads(programs, engines),
    ]


def _count(engine: str) -> str:
    return _QUICK if engine == "rewrite" else _SLOW


def _null(
    programs: Programs, engines: list[str], peers: list[Peer], name: str, kind: str, what: str
) -> Group:
    calls = [programs.calls, kind]
    contenders = [
        Contender(_NATIVE, printing(*calls, _QUICK)),
        Contender(_ALLOWED, printing(*calls, _QUICK, "1", "allowed")),
        Contender(_HANDLED, printing(*calls, _SLOW, "1", "handled")),
    ]
    for engine in engines:
        cost = printing(*null(engine), *calls, _count(engine))
        if engine == "rewrite":
            contenders.append(Contender(engine, cost, aim=1.3, also=[Aim(1.05, over=_ALLOWED)]))
        else:
            contenders.append(Contender(engine, cost))
    contenders += [Contender(peer.name, peer.printing(*calls, str(peer.calls))) for peer in peers]
    return Group(name, f"{what}, under a null hook, over native", "ns", contenders)


def _retval(programs: Programs, engines: list[str]) -> Group:
    calls = [programs.calls, "getppid"]
    contenders = [Contender(_NATIVE, printing(*calls, _QUICK))]
    contenders += [
        Contender(
            f"{engine} -e {_RULE}",
            printing(*under(engine, "-e", _RULE), *calls, _count(engine)),
            aim=0.15 if engine == "rewrite" else None,
        )
        for engine in engines
    ]
    return Group("retval", "getppid under a rule that gives a result, over native", "ns", contenders)


def _python(programs: Programs, engines: list[str]) -> Group:
    calls = [programs.calls, "getppid", _SLOW]
    contenders = []
    for engine in sorted(engines, key=lambda engine: engine != "notify"):
        rows: list[tuple[str, str, float | None]] = [
            ("answered by on", "getppid", None),
            ("let go on by on", "getppid_go_on", None),
        ]
        if engine != "notify":
            rows.append(("seen by on_return", "getppid_return", 1.5 if engine in IN_PROCESS else None))
        contenders += [
            Contender(f"{engine}, {what}", printing(*under(engine, "-s", hooks(script)), *calls), aim=aim)
            for what, script, aim in rows
        ]
    return Group("python", "getppid under Python hooks, over the first", "ns", contenders)


def _threads(programs: Programs, engines: list[str]) -> list[Group]:
    found = []
    for threads in ("2", "4"):
        contenders = [
            Contender(_NATIVE, printing(programs.calls, "getppid", _QUICK, threads)),
            Contender(_ALLOWED, printing(programs.calls, "getppid", _QUICK, threads, "allowed")),
        ]
        contenders += [
            Contender(engine, printing(*null(engine), programs.calls, "getppid", _count(engine), threads))
            for engine in engines
        ]
        title = f"getppid from {threads} threads under a null hook, wall time per call, over native"
        found.append(Group(f"null-threads-{threads}", title, "ns", contenders, 0.5))
    contenders = [
        Contender(
            f"{engine}, {threads} threads",
            printing(*under(engine, "-s", hooks("getppid")), programs.calls, "getppid", _SLOW, threads),
        )
        for engine in sorted(engines, key=lambda engine: engine != "notify")
        for threads in ("1", "2", "4")
    ]
    title = "getppid answered by a Python hook, wall time per call, over one thread"
    found.append(Group("python-threads", title, "ns", contenders, 0.5))
    return found
