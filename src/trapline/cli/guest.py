"""``trapline guest``: a foreign program inside this very process."""

from __future__ import annotations

import os
import sys

from trapline.cli import complain, say
from trapline.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from trapline.guest import Guest

__all__ = ["add_parser"]

_ENOENT = 2
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_FAILURE = 125

_EPILOG = """\
examples:
  trapline guest busybox echo hello
  trapline guest -e 'getuid,geteuid:retval=0' /bin/busybox id -u
  trapline guest --execve run /usr/bin/env LANG=C date
  trapline guest -s examples/virtual_hosts.py --stats /bin/grep trapline.test /etc/hosts

The program runs on threads of the Python that runs trapline, and can do to it what it likes: this is no sandbox.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser."""
    import argparse

    from trapline.guest.engines import ENGINES

    parser = subparsers.add_parser(
        "guest",
        help="load a program into this process and run it there, under hooks and rules",
        description="Load an ELF program into this process and run it there, under hooks and rules.",
        usage="trapline guest [OPTION...] [--] FILE [ARG...]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-s", "--script", metavar="FILE", action="append", default=[], help="Python file with hooks"
    )
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[],
                        help="option that a hooks file declares with trapline.option()")  # fmt: skip
    parser.add_argument("-e", "--rule", metavar="RULE", action="append", default=[],
                        help="rule without Python, as for `trapline run`")  # fmt: skip
    parser.add_argument("--engine", metavar="ENGINE", default="auto",
                        help=f"how calls are caught: auto, {', '.join(ENGINES)}")  # fmt: skip
    parser.add_argument("--execve", choices=("refuse", "run"), default="refuse",
                        help="what becomes of execve: it fails, or `trapline run` runs the command")  # fmt: skip
    parser.add_argument("--timeout", metavar="SECONDS", type=float, help="stop it after so long")
    parser.add_argument(
        "--stats", action="store_true", help="say at the end what was caught, on standard error"
    )
    parser.add_argument("file", metavar="FILE", help="the program")
    parser.add_argument("args", metavar="ARG", nargs=argparse.REMAINDER, help="its arguments")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the program and return its exit status."""
    from trapline.cli.run import load
    from trapline.guest import Guest, GuestFault, Linux
    from trapline.guest.descriptors import out_of_the_way

    with out_of_the_way():
        hooks = load(args.script, args.set)
        _keep_stderr()
    personality = Linux(execve=args.execve, on_refused=_refusals())
    with Guest(hooks=hooks, rules=args.rule, engine=args.engine, personality=personality) as guest:
        try:
            guest.load(args.file, [args.file, *args.args])
            status = guest.run(args.timeout)
        except CommandError as error:
            complain(error)
            return _NOT_FOUND if error.errno == _ENOENT else _NOT_EXECUTABLE
        except GuestFault as fault:
            say(f"trapline: {fault.report()}\n")
            status = -int(fault.signal)
        except TimeoutError as error:
            say(f"trapline: {error}\n")
            status = _FAILURE
        if args.stats:
            _print_stats(guest)
    return status if status >= 0 else 128 - status


def _keep_stderr() -> None:
    """Go on to have standard error when the guest has closed it: its descriptors are this process's."""
    try:
        fd = os.dup(2)
    except OSError:  # there is none
        return
    sys.stderr = open(fd, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115


def _refusals() -> Callable[[str], None]:
    """Return what says, the first time, that a guest has no other processes."""
    told: list[str] = []

    def refused(name: str) -> None:
        if not told:
            told.append(name)
            what = "--execve run has the command run" if name.startswith("execve") else "use `trapline run`"
            say(f"trapline: {name} is refused: a guest is no process of its own; {what}\n")

    return refused


def _print_stats(guest: Guest) -> None:
    calls = guest.calls
    lines = [
        f"trapline: engine {guest.engine}, {sum(calls.values())} calls reached hooks, "
        f"{guest.passed} went straight to the kernel besides those of rewritten sites"
    ]
    lines += [f"trapline: {count:10d} {name}" for name, count in sorted(calls.items(), key=lambda i: -i[1])]
    lines += [f"trapline: {count:10d} rule {text}" for text, count in guest.rules.items()]
    sites = guest.sites
    if sites["patched"] or sites["left"]:
        left = ", ".join([f"{count} {why}" for why, count in sites["left"].items()])
        lines.append(
            f"trapline: {sites['patched']} sites rewritten" + (f", left alone: {left}" if left else "")
        )
    say("\n".join(lines) + "\n")
