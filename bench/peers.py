"""Others that catch system calls, where they are installed: strace, and libraries that are preloaded.

A library is found by an environment variable that holds its path, because none of them has a package. The null hook
that each gets, which lets every call go on, is compiled here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.programs import HERE, Programs, printing

_VARIABLES = {
    "TRAPLINE_PEER_ZPOLINE": "libzpoline.so, run with a null hook of ours",
    "TRAPLINE_PEER_LAZYPOLINE": "liblazypoline.so, which has libbootstrap.so beside it; build it with "
    "PRINT_SYSCALLS 0 (the null hook) and, for a cost without vector registers, SAVE_VECTOR_REGS 0",
    "TRAPLINE_PEER_SYSCALL_INTERCEPT": "libsyscall_intercept.so, run with a null hook of ours; it needs capstone",
}
#: For ``--help``.
HELP = "peers that are not Python packages are found by environment variables:\n" + "".join(
    f"  {name}\n      {text}\n" for name, text in _VARIABLES.items()
)


class Peer:
    """A way of running a program under somebody else's null hook.

    :ivar name: as the table calls it.
    :ivar calls: how many calls per turn it is given, because some are slow.
    :ivar starts: the same for programs to start.
    """

    def __init__(
        self,
        name: str,
        *,
        calls: int,
        starts: int,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.calls = calls
        self.starts = starts
        self._prefix = prefix
        self._environment = dict(environment)

    def printing(self, *command: str) -> Callable[[], float]:
        """Return what runs a command under this peer and returns the number that it prints."""
        return printing(*self._prefix, *command, **self._environment)

    def timing(self, timed: str, *command: str) -> Callable[[], float]:
        """Return what runs a command and returns the nanoseconds that it took under this peer."""
        given = [word for name, value in self._environment.items() for word in ("-e", f"{name}={value}")]
        return printing(*self._prefix, timed, "-w", *given, *command)


def _missing(why: str) -> None:
    sys.stderr.write(f"bench: {why}, so it is left out\n")


def _library(variable: str) -> Path | None:
    given = os.environ.get(variable)
    if not given:
        _missing(f"{variable} is not set")
        return None
    if not Path(given).is_file():
        _missing(f"{variable} is {given}, which is not a file")
        return None
    return Path(given).resolve()


def _null_hook(programs: Programs, name: str, *libraries: Path) -> str:
    target = programs.folder / f"{name}.so"
    linked = [word for library in libraries for word in (library, f"-Wl,-rpath,{library.parent}")]
    source = HERE / f"{name}.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", target, source, *linked], check=True)
    return str(target)


def find(programs: Programs) -> list[Peer]:
    """Return the peers that are here; says of the others that they are not."""
    found = []
    if zpoline := _library("TRAPLINE_PEER_ZPOLINE"):
        hook = _null_hook(programs, "peer_zpoline")
        environment = {"LIBZPHOOK": hook, "LD_PRELOAD": str(zpoline)}
        # Each start disassembles all libraries.
        found.append(Peer("zpoline", calls=100_000, starts=2, environment=environment))
    if lazypoline := _library("TRAPLINE_PEER_LAZYPOLINE"):
        bootstrap = str(lazypoline.parent / "libbootstrap.so")
        environment = {"LIBLAZYPOLINE": str(lazypoline), "LD_PRELOAD": bootstrap}
        found.append(Peer("lazypoline", calls=100_000, starts=50, environment=environment))
    if intercept := _library("TRAPLINE_PEER_SYSCALL_INTERCEPT"):
        hook = _null_hook(programs, "peer_syscall_intercept", intercept)
        # Without the second it patches libc alone, and the call that is measured is not libc's.
        environment = {"LD_PRELOAD": hook, "INTERCEPT_ALL_OBJS": "1"}
        found.append(Peer("syscall_intercept", calls=100_000, starts=4, environment=environment))
    if strace := shutil.which("strace"):
        prefix = (strace, "-f", "-o", "/dev/null")
        found.append(Peer("strace -f", calls=2_000, starts=20, prefix=prefix, environment={}))
    else:
        _missing("strace is not installed")
    return found
