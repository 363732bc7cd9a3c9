"""``trapline sweep``: a command once for each fault that it can meet."""

from __future__ import annotations

import sys

from trapline.cli import say
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = ["add_parser", "main"]

OPTIONS: tuple[tuple[str, str, str, bool, str], ...] = (
    ("-e", "--calls", "SET", True, "fail only these calls, as strace names sets"),
    ("", "--error", "ERRNO", True, "fail with these errors only, or `short`; else with those plausible for the call"),
    ("-j", "--jobs", "N", False, "runs at a time (default: one for each processor)"),
    ("", "--timeout", "SECONDS", False, "for one run (default 20)"),
    ("", "--linker", "", False, "fail the dynamic linker's calls too"),
    ("", "--engine", "ENGINE", False, "how calls are caught the first time: auto, rewrite, sud or trap"),
)  # fmt: skip

_EPILOG = """\
A fault is survived when the command fails in good order, or goes on to the same output. What is left: a crash, an
unhandled exception, a hang, and an exit status of 0 with other output. Each comes with the command that does it again.
The command is run in an empty folder. The exit status is 0 when everything is survived, 1 when not.

examples:
  trapline sweep -- sort /etc/passwd
  trapline sweep -e write,close,fsync -- ./convert /data/in
"""
_FOUND = 1


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser that writes the help."""
    from trapline.cli.run import add_options

    add_options(
        subparsers, "sweep", "run a command once for each fault that it can meet",
        "Find the faults in system calls that a command does not survive.", _EPILOG, OPTIONS,
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Sweep, and return the exit status to give."""
    from trapline.abi.classes import EVERY, select
    from trapline.cli.run import help_of, parse
    from trapline.inject.sweep import sweep

    options = parse(argv, OPTIONS, "sweep")
    if options is None:
        return help_of("sweep")
    try:
        jobs, timeout = int(options.last("--jobs", "0")), float(options.last("--timeout", "20"))
    except ValueError:
        raise UsageError("sweep: --jobs and --timeout take numbers") from None
    names: list[str] = []
    for text in options.all("--calls"):
        names += select(text)
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown:
            say(f"\r{done} of {total}")

    found, tried = sweep(
        options.command, names=names or EVERY, errors=options.all("--error") or None, jobs=jobs, timeout=timeout,
        linker=options.has("--linker"), progress=progress, engine=options.last("--engine", "auto"),
    )  # fmt: skip
    say("\r" if shown else "")
    for finding in found:
        about = f" ({finding.point.what})" if finding.point.what else ""
        print(f"{finding.point.call}{about} {finding.point.fault}: {finding.why}\n    {finding.command}")
    print(f"{tried} faults, {tried - len(found)} survived")
    return _FOUND if found else 0
