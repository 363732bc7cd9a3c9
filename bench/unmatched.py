"""What a program pays for hooks on calls that it never makes."""

from __future__ import annotations

from bench.measure import Contender, Group
from bench.programs import TRAPLINE, Programs, hooks, printing

_AIM = 1.03
_COUNT = "300000"
#: A program of many system calls, all over the table, and one that starts many processes.
_FIND = ("find", "/usr/lib", "-type", "f", "-newer", "/etc/hostname")
_SHELL = ("sh", "-c", "i=0; while [ $i -lt 100 ]; do i=$((i + 1)); /bin/true; done")


def groups(programs: Programs) -> list[Group]:
    """Return the groups ``unmatched``, ``unmatched-find`` and ``unmatched-shell``."""
    return [
        Group(
            "unmatched",
            "getppid under hooks that never match, over a filter that always allows",
            "ns",
            _contenders(programs, programs.loop, "getppid", _COUNT),
            2,
        ),
        Group(
            "unmatched-find",
            "the CPU time of find under hooks that never match, over a filter that always allows",
            "ns",
            _contenders(programs, programs.timed, *_FIND),
        ),
        Group(
            "unmatched-shell",
            "the CPU time of a shell that starts 100 programs, under the same",
            "ns",
            _contenders(programs, programs.timed, *_SHELL),
            2,
        ),
    ]


def _contenders(programs: Programs, *command: str) -> list[Contender]:
    return [
        Contender("filter that always allows", printing(programs.supervisor, "allow", *command)),
        Contender("trapline", printing(TRAPLINE, "run", "-s", hooks("never"), "--", *command), aim=_AIM),
        Contender("no filter", printing(*command)),
    ]
