"""Which engines run here, and the command lines that put a program under each."""

from __future__ import annotations

import subprocess
import sys

from bench.programs import ENVIRONMENT, TRAPLINE, hooks
from trapline.engines.base import STARTABLE

#: Engines whose agent is in the program: with no hook at all it still catches every call and lets it go on.
IN_PROCESS = ("rewrite", "sud", "trap")
#: The order of tables. Hooks of the others run in the supervisor.
ORDER = (*IN_PROCESS, "ptrace", "notify")


def under(engine: str, *words: str) -> list[str]:
    """Return ``trapline run`` with an engine, up to the command; *words* are further options."""
    return [TRAPLINE, "run", "--engine", engine, *words, "--"]


def null(engine: str) -> list[str]:
    """Return what catches every call and changes nothing."""
    return under(engine) if engine in IN_PROCESS else under(engine, "-s", hooks("null"))


def startable() -> list[str]:
    """Return the engines that start on this machine; says of the others why they do not."""
    found = []
    for engine in ORDER:
        if engine not in STARTABLE:
            sys.stderr.write(f"bench: engine {engine} is not part of this version, so it is left out\n")
            continue
        command = [*under(engine), "true"]
        tried = subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT)
        if tried.returncode == 0:
            found.append(engine)
        else:
            sys.stderr.write(f"bench: engine {engine} is left out: {tried.stderr.strip()}\n")
    return found
