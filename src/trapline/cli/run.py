"""``trapline run``: a command under hooks and rules."""

from __future__ import annotations

from trapline.cli import complain, die_interrupted, say
from trapline.errors import CommandError, EngineStartError, HookError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from trapline.session import Session

    Table = tuple[tuple[str, str, str, bool, str], ...]

__all__ = ["add_parser", "main", "say_engine"]

_ENOENT = 2
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127

#: Short and long name, name of the value (empty: a switch), whether it may be repeated, and what it is for.
OPTIONS: Table = (
    ("-s", "--script", "FILE", True, "Python file with hooks; all that it defines or lists in `hooks` are used"),
    ("-e", "--rule", "RULE", True, "rule without Python: CALL[,CALL...]:KEY=VALUE..., with keys path, error, retval, "
     "delay_enter, delay_exit, when, p, seed, count"),
    ("", "--set", "KEY=VALUE", True, "option that a hooks file declares with trapline.option()"),
    ("", "--engine", "ENGINE", False, "how calls are caught: auto (the cheapest that will do), "
     "notify, rewrite, sud, trap or ptrace"),
    ("", "--on-hook-error", "WHAT", False, "when a hook raises: raise (default), continue, or fail:ERRNO"),
    ("", "--workers", "N", False, "most hooks that run at one time (default 64)"),
    ("", "--allow-io-uring", "", False, "let programs use io_uring, whose operations no hook sees"),
    ("", "--stats", "", False, "say at the end what was caught, on standard error"),
    ("-v", "--verbose", "", False, "say which engine is used and why, on standard error"),
)  # fmt: skip

_EPILOG = """\
examples:
  trapline run -e 'openat:path=/etc/*:error=EACCES' -- cat /etc/hosts
  trapline run -e 'getuid,geteuid:retval=0' -- id -u
  trapline run -e 'connect:delay_enter=200ms' -- curl http://127.0.0.1:8000/
  trapline run -s hooks.py --set allow=127.0.0.1 --stats -- make test
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser that writes the help."""
    add_options(
        subparsers, "run", "run a command under hooks and rules",
        "Run a command, and all that it starts, under hooks and rules.", _EPILOG, OPTIONS,
    )  # fmt: skip


def add_options(
    subparsers: argparse._SubParsersAction[Any],
    name: str,
    short_help: str,
    description: str,
    epilog: str,
    options: Table,
) -> None:
    """Add a command that runs another one to the parser that writes the help."""
    import argparse

    parser = subparsers.add_parser(
        name,
        help=short_help,
        description=description,
        usage=f"trapline {name} [OPTION...] [--] COMMAND [ARG...]",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for short, long, value, repeated, text in options:
        names = [name for name in (short, long) if name]
        if value:
            parser.add_argument(*names, metavar=value, action="append" if repeated else "store", help=text)
        else:
            parser.add_argument(*names, action="store_true", help=text)
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="program and arguments")
    parser.set_defaults(run=None)


class Options:
    """What the command line asked for."""

    def __init__(self, table: Table) -> None:
        self.values: dict[str, list[str]] = {long: [] for _, long, _, _, _ in table}
        self.command: list[str] = []

    def all(self, long: str) -> list[str]:
        """Return every value of a repeatable option."""
        return self.values[long]

    def last(self, long: str, default: str) -> str:
        """Return an option's value."""
        return self.values[long][-1] if self.values[long] else default

    def has(self, long: str) -> bool:
        """Whether a switch is set."""
        return bool(self.values[long])


def parse(
    argv: list[str],
    table: Table = OPTIONS,
    command: str = "run",
    optional: Callable[[Options], bool] | None = None,
) -> Options | None:
    """Read the arguments behind ``run``, or another command like it; None asks for the help text.

    :param optional: with which options there need not be a command.

    :raises UsageError: something in it is unknown or missing.
    """
    options = Options(table)
    waiting: list[str] = []  # what stands behind a switch of one letter, as in -tt
    by_name = {name: (long, value) for short, long, value, _, _ in table for name in (short, long) if name}
    words = iter(argv)
    while True:
        word = waiting.pop() if waiting else next(words, None)
        if word is None:
            break
        if word == "--":
            options.command = list(words)
            break
        if not word.startswith("-") or word == "-":
            options.command = [word, *words]
            break
        if word in ("-h", "--help"):
            return None
        name, equals, inline = (
            word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        )
        if name not in by_name:
            raise UsageError(f"{command}: unknown option {name}; `trapline {command} --help` lists them")
        long, value = by_name[name]
        if not value:
            if equals and not word.startswith("--"):
                waiting.append(f"-{inline}")
            elif equals:
                raise UsageError(f"{command}: {name} takes no value")
            options.values[long].append("")
            continue
        given = inline if equals else next(words, None)
        if given is None:
            raise UsageError(f"{command}: {name} needs a value, {value}")
        options.values[long].append(given)
    if not options.command and not (optional is not None and optional(options)):
        raise UsageError(f"{command}: no command; write `trapline {command} [OPTION...] -- COMMAND [ARG...]`")
    return options


def load(scripts: list[str], settings: list[str]) -> list[object]:
    """Return the hooks of some files, in order.

    :raises UsageError: a file cannot be read, raises, or has no hooks.
    """
    if not scripts and not settings:
        return []
    from trapline import options
    from trapline.cli.scripts import load_script

    options.give(settings)
    hooks: list[object] = []
    for script in scripts:
        hooks += load_script(script)
    options.check()
    return hooks


def main(argv: list[str]) -> int:
    """Run the command and return the exit status to give."""
    options = parse(argv)
    if options is None:
        return help_of("run")
    try:
        workers = int(options.last("--workers", "64"))
    except ValueError:
        raise UsageError(f"run: --workers takes a number, not {options.last('--workers', '')!r}") from None
    from trapline import _native
    from trapline.session import Session

    hooks = load(options.all("--script"), options.all("--set"))
    job = _native.Job()
    try:
        session = Session(
            options.command,
            hooks=hooks,
            rules=options.all("--rule"),
            engine=options.last("--engine", "auto"),
            on_hook_error=options.last("--on-hook-error", "raise"),
            workers=workers,
            allow_io_uring=options.has("--allow-io-uring"),
            env=given_environment(),
            job=job,
        )
        status = run(session, job, verbose=options.has("--verbose"))
        if options.has("--stats"):
            _print_stats(session)
        return exit_status(status, job)
    finally:
        job.end()


def help_of(command: str) -> int:
    """Print what a command understands."""
    from trapline.cli import parser

    parser().parse_args([command, "--help"])
    return 0


def given_environment() -> dict[str, str] | None:
    """Return the environment as it was given to us; None is ``os.environ``.

    In the C locale Python adds LC_CTYPE to its own (PEP 538), which is none of the command's business.
    """
    import os

    if os.environ.get("LC_CTYPE") != "C.UTF-8":
        return None
    with open("/proc/self/environ", "rb") as file:
        if any(entry.startswith(b"LC_CTYPE=") for entry in file.read().split(b"\0")):
            return None
    return {key: value for key, value in os.environ.items() if key != "LC_CTYPE"}


def run(session: Session, job: Any, *, verbose: bool) -> int:
    """Return what :meth:`Session.wait` does, or an exit status of our own as 1000 and that."""
    import gc

    early: int = job.early_signal()
    if early:
        return -early
    if verbose:
        session.on_engine = say_engine
    try:
        with session:
            gc.enable()
            return session.wait()
    except EngineStartError:
        # What looks like a failure may be a signal that ended the command before it began.
        early = job.early_signal()
        if not early:
            raise
        return -early
    except CommandError as error:
        complain(error)
        return 1000 + (_NOT_FOUND if error.errno == _ENOENT else _NOT_EXECUTABLE)
    except HookError as error:
        import traceback

        cause = error.__cause__
        if cause is not None:
            say("".join(traceback.format_exception(cause)))
        say(f"trapline: {error}; the program was killed. Mend the hook, or see --on-hook-error\n")
        return 1000 + 125
    except KeyboardInterrupt:
        say("trapline: interrupted while processes that the command left behind still ran; killed them\n")
        return session.returncode if session.returncode is not None else -2


def say_engine(session: Session) -> None:
    """Say which engine is used, and why."""
    say(f"trapline: engine {session.engine}: {session.engine_reason}\n")


def exit_status(status: int, job: Any) -> int:
    """Return our own exit status for what :func:`run` returned."""
    if status >= 1000:
        return status - 1000
    if status >= 0:
        return status
    if status == -2 and job.interrupted:
        job.end()
        return die_interrupted()
    return 128 - status


def _print_stats(session: Session) -> None:
    stats = session.stats
    lines = [
        f"trapline: engine {stats.engine}, {stats.received} calls caught in {stats.seconds:.3f} s, "
        f"{stats.answered} answered, {stats.gone} gone, {stats.workers} workers, filter of {stats.filter_length}"
    ]
    lines += [
        f"trapline: {count:10d} {name}" for name, count in sorted(stats.calls.items(), key=lambda i: -i[1])
    ]
    lines += [f"trapline: {count:10d} rule {text}" for text, count in stats.rules.items()]
    if stats.sites is not None:
        for pid, sites in sorted(stats.sites["processes"].items()):
            left = ", ".join([f"{count} {why}" for why, count in sites["left"].items()])
            lines.append(
                f"trapline: process {pid}: {sites['seen']} system call sites met, {sites['patched']} rewritten"
                + (f", left alone: {left}" if left else "")
            )
    say("\n".join(lines) + "\n")
