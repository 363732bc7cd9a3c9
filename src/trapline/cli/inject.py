"""``trapline inject``: a command with faults, delays and signals in its system calls."""

from __future__ import annotations

from trapline.cli import say
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from trapline.rules import Rule
    from trapline.session import Session

__all__ = ["add_parser", "main"]

OPTIONS: tuple[tuple[str, str, str, bool, str], ...] = (
    ("-e", "--inject", "EXPR", True, "what to inject, as strace has it: [inject=]SET:KEY=VALUE..., with keys error, "
     "retval, signal, delay_enter, delay_exit, poke_enter, poke_exit, syscall, when; and path, fd, pid, comm, p, seed, "
     "short, arg1 to arg6, after, count"),
    ("-r", "--rules", "FILE", True, "file with one such expression a line"),
    ("", "--engine", "ENGINE", False, "how calls are caught: auto (the cheapest that will do), "
     "notify, rewrite, sud, trap or ptrace"),
    ("", "--json", "FILE", False, "write there what was injected where"),
    ("", "--allow-io-uring", "", False, "let programs use io_uring, whose operations nobody sees"),
    ("-q", "--quiet", "", False, "do not say at the end what was injected"),
    ("-v", "--verbose", "", False, "say which engine is used and why, on standard error"),
)  # fmt: skip

_EPILOG = """\
examples:
  trapline inject -e 'fsync:error=EIO:when=3+2' -- sqlite3 test.db 'create table t(x)'
  trapline inject -e '%network:error=ENETDOWN:p=0.01:seed=7' -- curl http://127.0.0.1:8000/
  trapline inject -e 'read:short=1' -- cat /etc/hosts
  trapline inject -e 'write:fd=1:after=openat(/etc/*):error=ENOSPC' -- cat /etc/hosts

Arguments are counted from 1, as strace counts them. `when` counts each call of each thread by itself.
"""
#: How many places of one rule are named on standard error.
_NAMED = 3


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser that writes the help."""
    from trapline.cli.run import add_options

    add_options(
        subparsers, "inject", "run a command with faults injected into its system calls",
        "Run a command, and all that it starts, with faults, delays and signals in its system calls.",
        _EPILOG, OPTIONS,
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command and return the exit status to give."""
    from trapline.cli.run import exit_status, given_environment, help_of, parse, run

    options = parse(argv, OPTIONS, "inject")
    if options is None:
        return help_of("inject")
    from trapline import _native, inject
    from trapline.session import Session

    rules: list[Rule] = []
    for text in options.all("--inject"):
        rules += inject.parse(text)
    for path in options.all("--rules"):
        rules += inject.read_rules(path)
    if not rules:
        raise UsageError(
            "inject: nothing to inject; write -e 'fsync:error=EIO', or see `trapline inject --help`"
        )
    job = _native.Job()
    try:
        session = Session(
            options.command,
            rules=rules,
            engine=options.last("--engine", "auto"),
            allow_io_uring=options.has("--allow-io-uring"),
            env=given_environment(),
            job=job,
        )
        status = run(session, job, verbose=options.has("--verbose"))
        if status < 1000 and not options.has("--quiet"):
            _report(session)
        if status < 1000 and options.has("--json"):
            _write_json(session, options.last("--json", ""), status)
        return exit_status(status, job)
    finally:
        job.end()


def _report(session: Session) -> None:
    hits, _ = session.injected
    by_rule: dict[str, list[str]] = {}
    for hit in hits:
        by_rule.setdefault(hit.rule, []).append(f"{hit.name} {hit.number} of thread {hit.tid}")
    lines = []
    for text, times in session.stats.rules.items():
        where = by_rule.get(text, [])
        named = ", ".join(where[:_NAMED]) + (", ..." if len(where) > _NAMED else "")
        lines.append(f"trapline: {text}: {times} injected{': ' if named else ''}{named}\n")
    say("".join(lines))


def _write_json(session: Session, path: str, status: int) -> None:
    import json

    hits, count = session.injected
    found = {
        "command": [word.decode(errors="surrogateescape") for word in session.command],
        "engine": session.engine,
        "status": status,
        "rules": [{"rule": text, "injected": times} for text, times in session.stats.rules.items()],
        "injected": [
            {"rule": hit.rule, "call": hit.name, "number": hit.number, "pid": hit.pid, "tid": hit.tid}
            for hit in hits
        ],
        "not_listed": count - len(hits),
    }
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
            file.write("\n")
    except OSError as error:
        raise UsageError(f"inject: cannot write '{path}': {error.strerror}") from None
