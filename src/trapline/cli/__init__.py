"""The command line: one file per subcommand, each imported only when it is asked for."""

from __future__ import annotations

import sys

from trapline.errors import TraplineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["EXIT_FAILURE", "main"]

#: Exit status of trapline's own failures.
EXIT_FAILURE = 125
_EXIT_INTERRUPTED = 130
_COMMANDS = ("run", "trace", "inject", "sweep", "attach", "guest", "filter", "doctor")


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that *argv* (``sys.argv[1:]`` by default) names and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["run"]:
            # Not through argparse: importing it takes longer than everything else that `run` does.
            from trapline.cli import run

            return run.main(argv[1:])
        if argv[:1] == ["trace"]:
            from trapline.cli import trace

            return trace.main(argv[1:])
        if argv[:1] == ["inject"]:
            from trapline.cli import inject

            return inject.main(argv[1:])
        if argv[:1] == ["sweep"]:
            from trapline.cli import sweep

            return sweep.main(argv[1:])
        return _main_by_argparse(argv)
    except TraplineError as error:
        return complain(error)
    except KeyboardInterrupt:
        return die_interrupted()
    except BrokenPipeError:
        # Whoever read our output has had enough; Python must not complain about it again at exit.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_INTERRUPTED + 11


def complain(error: BaseException) -> int:
    """Write one line about *error* to standard error and return the exit status for it."""
    say(f"trapline: {message_of(error)}\n")
    return EXIT_FAILURE


def die_interrupted() -> int:
    """End this process as Ctrl-C ends any program: a shell stops its loop only if SIGINT was the cause."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    return _EXIT_INTERRUPTED


def say(text: str) -> None:
    """Write to standard error, if there is one; a full disk must not change the exit status."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(text)
        except OSError:
            return


def message_of(error: BaseException) -> str:
    """Return what to say of an error; an OSError's own text has its number in front."""
    if isinstance(error, OSError) and error.strerror:
        name = f"'{error.filename}': " if error.filename else ""
        return f"{name}{error.strerror}"
    return str(error)


def parser(commands: Sequence[str] = _COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of the command line: of all of it, or only of some subcommands, which takes less time."""
    import argparse
    import importlib

    import trapline

    class Parser(argparse.ArgumentParser):
        """Exits with trapline's own status instead of 2."""

        def error(self, message: str) -> None:  # type: ignore[override]
            self.print_usage(sys.stderr)
            self.exit(EXIT_FAILURE, f"{self.prog}: {message}\n")

    top = Parser(
        prog="trapline",
        description="Put your own Python between any program and the Linux kernel.",
        epilog="exit status: the program's own; 128+N when signal N ended it; 125 when trapline itself failed, "
        "126 when the program cannot be executed, 127 when it is not found",
    )
    top.add_argument("--version", action="version", version=f"trapline {trapline.__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name in commands:
        importlib.import_module(f"trapline.cli.{name}").add_parser(subparsers)
    return top


def _main_by_argparse(argv: list[str]) -> int:
    args = parser(argv[:1] if argv[:1] and argv[0] in _COMMANDS else _COMMANDS).parse_args(argv)
    result: int = args.run(args)
    return result
