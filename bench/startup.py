"""What it costs to start a program with trapline."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from bench.measure import Contender, Group
from bench.programs import ENVIRONMENT, TRAPLINE, Programs, hooks


def groups(programs: Programs) -> list[Group]:
    """Return the groups ``startup`` and ``startup-cpu``."""
    return [_group("startup", "wall time", 0, 1.8), _group("startup-cpu", "CPU time", 1, None)]


def _group(name: str, what: str, index: int, aim: float | None) -> Group:
    return Group(
        name,
        f"`trapline run -- true` over `python3 -c pass`, {what}",
        "ms",
        [
            Contender("python3 -c pass", _timing(index, sys.executable, "-c", "pass")),
            Contender("trapline run -- true", _timing(index, TRAPLINE, "run", "--", "true"), aim=aim),
            Contender(
                "trapline run -s hooks.py -- true",
                _timing(index, TRAPLINE, "run", "-s", hooks("getppid"), "--", "true"),
            ),
            Contender("python3 -S -c pass", _timing(index, sys.executable, "-S", "-c", "pass")),
            Contender("true", _timing(index, "/bin/true")),
        ],
    )


def _timing(index: int, *command: str) -> Callable[[], float]:
    """Return what runs a command and returns its milliseconds of wall time (0) or of CPU time (1)."""

    def timed() -> float:
        start = time.perf_counter()
        pid = os.posix_spawn(command[0], command, ENVIRONMENT)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
        if status:
            raise RuntimeError(f"{command} ended with {status}")
        return 1000 * (wall, usage.ru_utime + usage.ru_stime)[index]

    return timed
