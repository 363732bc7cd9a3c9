"""The programs that are measured: C compiled here and now, trapline's own command, and the peers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: The command as installed beside this interpreter.
TRAPLINE = str(Path(sys.executable).parent / "trapline")

# The variable would keep hooks files from having a .pyc, as nobody's own shell does.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

#: Seconds after which a contender counts as hung.
_LONGEST = 300


class Programs:
    """Compiled C programs, in a folder.

    :param folder: where to put them; it must exist.
    :ivar loop: makes one system call again and again, and prints nanoseconds for each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Static and at a fixed address, so that the loop's own start and its instruction pointer are always the same.
        self.loop = self._compile("loop", "-static", "-no-pie", "-pthread")
        self.supervisor = self._compile("c_supervisor")
        self.filtered = self._compile("filtered")
        self.timed = self._compile("timed")
        # Not static, because peers come in by the dynamic linker.
        self.calls = self._compile("calls", "-pthread")
        self.first_trap = self._compile("first_trap")

    def _compile(self, name: str, *options: str) -> str:
        target = self.folder / name
        subprocess.run(["gcc", "-O2", *options, "-o", target, HERE / f"{name}.c"], check=True)
        return str(target)


def printed(command: list[str], environment: Mapping[str, str] | None = None) -> float:
    """Return the number that a command prints.

    :param environment: additions to ours.
    :raises RuntimeError: it failed; the message has the end of what it said.
    """
    env = {**ENVIRONMENT, **(environment or {})}
    try:
        done = subprocess.run(command, check=False, capture_output=True, env=env, text=True, timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it was still running after {_LONGEST} s") from None
    try:
        if done.returncode == 0:
            return float(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        pass
    said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
    raise RuntimeError(f"status {done.returncode}: {said}")


def elapsed(command: list[str], **options: Any) -> float:
    """Return the nanoseconds from before a command is started to its end.

    :param options: of :func:`subprocess.run`.
    :raises RuntimeError: it failed; the message has the end of what it said.
    """
    start = time.perf_counter_ns()
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=ENVIRONMENT, timeout=_LONGEST, **options,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it was still running after {_LONGEST} s") from None
    taken = time.perf_counter_ns() - start
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip() or "it said nothing").splitlines()[-1]
        raise RuntimeError(f"status {done.returncode}: {said}")
    return taken


def printing(*command: str, **environment: str) -> Callable[[], float]:
    """Return what runs a command and returns the number that it prints."""
    return lambda: printed(list(command), environment)


def scaled(cost: Callable[[], float], by: float) -> Callable[[], float]:
    """Return what returns a cost in another unit, or for one of many."""
    return lambda: cost() / by


def hooks(name: str) -> str:
    """Return the path of one of our hooks files."""
    return str(HERE / "hooks" / f"{name}.py")


def has_peer(module: str) -> bool:
    """Whether a peer is installed; says so when it is not."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        sys.stderr.write(f"bench: {module} is not installed beside this interpreter, so it is left out\n")
    return found
