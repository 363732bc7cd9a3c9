"""What engines and peers cost whole programs: many small calls, many starts, and the first time of each instruction."""

from __future__ import annotations

import shutil

from bench.engine_commands import IN_PROCESS, null
from bench.measure import Aim, Contender, Group
from bench.peers import Peer
from bench.programs import Programs, printing, scaled

_BYTES, _SLOW_BYTES = 1_000_000, 20_000
_STARTS = 60
_START = "i=0; while [ $i -lt {} ]; do i=$((i + 1)); /bin/true; done"
_MILLISECOND, _MICROSECOND = 1e6, 1e3


def groups(programs: Programs, engines: list[str], peers: list[Peer]) -> list[Group]:
    """Return the groups ``dd``, ``exec-fork``, ``exec-vfork`` and ``first-trap``."""
    return [
        _dd(programs, engines, peers),
        _exec(programs, engines, peers, "bash", "exec-fork", "which bash starts by fork"),
        _exec(programs, engines, peers, "sh", "exec-vfork", "which sh starts (by vfork, where it is dash)"),
        _first_trap(programs, engines),
    ]


def _dd(programs: Programs, engines: list[str], peers: list[Peer]) -> Group:
    def command(count: int) -> list[str]:
        return ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={count}", "status=none"]

    timed = [programs.timed, "-w"]
    contenders = [Contender("native", scaled(printing(*timed, *command(_BYTES)), _BYTES))]
    for engine in engines:
        count = _BYTES if engine == "rewrite" else _SLOW_BYTES
        cost = scaled(printing(*null(engine), *timed, *command(count)), count)
        name = engine if count == _BYTES else f"{engine} ({count:,} bytes)"
        contenders.append(Contender(name, cost, aim=1.35 if engine == "rewrite" else None))
    for peer in peers:
        count = _BYTES if peer.calls * 10 >= _BYTES else _SLOW_BYTES
        name = peer.name if count == _BYTES else f"{peer.name} ({count:,} bytes)"
        contenders.append(Contender(name, scaled(peer.timing(programs.timed, *command(count)), count)))
    title = f"dd of {_BYTES:,} single bytes under a null hook, whole program, per byte, over native"
    return Group("dd", title, "ns", contenders, 0.3)


def _exec(
    programs: Programs, engines: list[str], peers: list[Peer], shell: str, name: str, how: str
) -> Group:
    """Return a group about starts. The shell itself is one of them."""

    def command(starts: int) -> list[str]:
        return [shell, "-c", _START.format(starts - 1)]

    timed = [programs.timed, "-w"]
    per = _STARTS * _MILLISECOND
    contenders = [Contender("native", scaled(printing(*timed, *command(_STARTS)), per))]
    contenders += [
        Contender(
            engine,
            scaled(printing(*null(engine), *timed, *command(_STARTS)), per),
            also=[Aim(3, excess=True)] if engine in IN_PROCESS else (),
        )
        for engine in engines
    ]
    contenders += [
        Contender(
            f"{peer.name} ({peer.starts} starts)",
            scaled(peer.timing(programs.timed, *command(peer.starts)), peer.starts * _MILLISECOND),
        )
        for peer in peers
    ]
    title = f"{_STARTS} programs, {how}, under a null hook, per program, over native"
    return Group(name, title, "ms", contenders, 0.6)


def _first_trap(programs: Programs, engines: list[str]) -> Group:
    """Return a group about instructions that are met for the first time, by a process and by a whole session."""
    handled = printing(programs.calls, "getppid", "3000", "1", "handled")
    contenders = [Contender("C: SUD and a SIGSYS handler, one call", scaled(handled, _MICROSECOND))]
    if "rewrite" in engines:
        twice = '"$0" > /dev/null; "$0"'
        shell = shutil.which("sh") or "/bin/sh"
        contenders += [
            Contender(
                "rewrite, until an instruction is patched",
                scaled(printing(*null("rewrite"), programs.first_trap), _MICROSECOND),
            ),
            Contender(
                "the same, when another process had it patched",
                scaled(printing(*null("rewrite"), shell, "-c", twice, programs.first_trap), _MICROSECOND),
            ),
        ]
    if "sud" in engines:
        sud = printing(*null("sud"), programs.calls, "getppid", "3000")
        contenders.append(Contender("sud, one call", scaled(sud, _MICROSECOND)))
    contenders.append(
        Contender("native (what the machine adds)", scaled(printing(programs.first_trap), _MICROSECOND))
    )
    title = "what each `syscall` instruction costs once, over a call that is caught by plain C"
    return Group("first-trap", title, "us", contenders)
