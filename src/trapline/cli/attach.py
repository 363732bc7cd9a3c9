"""``trapline attach``: a running process under hooks and rules."""

from __future__ import annotations

from trapline.cli import EXIT_FAILURE, say
from trapline.errors import HookError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from trapline.attaching import AttachedSession

__all__ = ["add_parser", "run"]

_EPILOG = """\
Ctrl-C, or SIGTERM, lets go of the process: it goes on as it was before, and so does what it has started.
The exit status is 0, whatever becomes of the process; 125 when trapline itself fails.

With --engine auto, an agent is placed in the process (rewrite, sud), or, where that cannot be, it is
traced (ptrace).

examples:
  trapline attach -e 'openat:path=/etc/*:delay_enter=200ms' 4711
  trapline attach -s hooks.py 4711
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser that writes the help."""
    import argparse

    parser = subparsers.add_parser(
        "attach",
        help="take hold of a running process",
        description="Put a running process, and what it starts from now on, under hooks and rules.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-s", "--script", metavar="FILE", action="append", default=[], help="Python file with hooks"
    )
    parser.add_argument(
        "-e", "--rule", metavar="RULE", action="append", default=[], help="as for `trapline run`"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="option of a hooks file"
    )
    parser.add_argument("--engine", default="auto", help="how calls are caught: auto, rewrite, sud or ptrace")
    parser.add_argument("--on-hook-error", metavar="WHAT", default="raise", help="as for `trapline run`")
    parser.add_argument("-v", "--verbose", action="store_true", help="say which engine is used and why")
    parser.add_argument("pid", metavar="PID", help="process id")
    parser.set_defaults(run=run)


def _let_go_on_signals(session: AttachedSession) -> None:
    """Have SIGINT, SIGTERM and SIGHUP end the wait, and nothing else: what is put back then is put back whole."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: session.interrupt())


def run(args: argparse.Namespace) -> int:
    """Attach, wait for the end of the process or for Ctrl-C, and return the exit status."""
    from trapline.cli.run import load
    from trapline.session import Session

    if not args.pid.isdigit() or int(args.pid) < 1:
        raise UsageError(f"attach: {args.pid!r} is no process id; `ps` lists them")
    hooks = load(args.script, args.set)
    try:
        session = Session.attach(
            int(args.pid), hooks=hooks, rules=args.rule, engine=args.engine, on_hook_error=args.on_hook_error
        )
        with session:
            _let_go_on_signals(session)
            if args.verbose:
                say(f"trapline: engine {session.engine}: {session.engine_reason}\n")
            session.wait()
    except KeyboardInterrupt:
        say(f"trapline: let go of process {args.pid}\n")
    except HookError as error:
        import traceback

        if error.__cause__ is not None:
            say("".join(traceback.format_exception(error.__cause__)))
        say(f"trapline: {error}; let go of process {args.pid}\n")
        return EXIT_FAILURE
    return 0
