"""What ``trapline trace`` understands, and of strace's options what it does not."""

from __future__ import annotations

from trapline.errors import UsageError

__all__ = ["EPILOG", "FORMATS", "OPTIONS", "refuse"]

FORMATS = ("text", "jsonl", "perfetto", "html", "parquet", "raw")

OPTIONS: tuple[tuple[str, str, str, bool, str], ...] = (
    ("-e", "--expr", "EXPR", True, "what to show: [trace=]SET with names, numbers, classes such as file or network "
     "after a percent sign, /regex, !SET; signal=SET; status=successful,failed,unfinished; quiet=, decode-fds="),
    ("-P", "--trace-path", "GLOB", True, "only calls about a file whose name matches"),
    ("-z", "--successful-only", "", False, "only calls that have succeeded"),
    ("-Z", "--failed-only", "", False, "only calls that have failed"),
    ("-o", "--output", "FILE", False, "write there instead of to standard error"),
    ("-A", "--output-append-mode", "", False, "append to the file of -o"),
    ("-s", "--string-limit", "N", False, "bytes of a string or buffer that are shown (default 32)"),
    ("-a", "--columns", "N", False, "the column of results (default 40)"),
    ("-y", "--decode-fds", "", True, "show the files behind descriptors"),
    ("-k", "--stack-traces", "", False, "show where in the program each call was made"),
    ("-n", "--syscall-number", "", False, "show the number of each call"),
    ("-t", "--timestamps", "", True, "time of day before each line; -tt with microseconds, -ttt since 1970"),
    ("-r", "--relative-timestamps", "", False, "time since the line before"),
    ("-T", "--syscall-times", "", False, "time spent in each call"),
    ("-c", "--summary-only", "", False, "count calls, time and errors instead"),
    ("-C", "--summary", "", False, "the same after the calls"),
    ("-S", "--summary-sort-by", "COLUMN", False, "of the table: time (default), calls, errors, avg-time, name or none"),
    ("-w", "--summary-wall-clock", "", False, "accepted: the table's times are always those that passed"),
    ("-f", "--follow-forks", "", True, "accepted: everything that the command starts is always followed; "
     "-ff writes a file for each thread, FILE.TID"),
    ("-q", "--quiet", "", True, "-qq: nothing is said of how threads end"),
    ("-p", "--attach", "PID", True, "show what running processes do, until they end or Ctrl-C is pressed; several with "
     "commas or blanks between them"),
    ("-E", "--env", "VAR[=VALUE]", True, "set a variable of the command's environment, or remove it"),
    ("", "--top", "", False, "a live view of what costs the time (pip install 'trapline[tui]')"),
    ("", "--format", "FORMAT", False, "text, jsonl, perfetto, html, parquet, or raw: as `trace report` reads it"),
    ("", "--drop", "", False, "lose calls rather than hold up a thread that makes them faster than they are written"),
    ("", "--engine", "ENGINE", False, "how calls are caught: auto, rewrite, sud, trap, ptrace, or "
     "notify, which does not see results"),
    ("", "--allow-io-uring", "", False, "let programs use io_uring, whose operations nobody sees"),
    ("-v", "--verbose", "", False, "say which engine is used and why, on standard error"),
)  # fmt: skip

EPILOG = """\
trapline trace report [OPTION...] FILE shows what `--format raw -o FILE` has recorded, in any of the formats.

examples:
  trapline trace ls
  trapline trace -e %network -y -T -- curl http://127.0.0.1:8000/
  trapline trace -c -- make
  trapline trace --format raw -o build.trace -- make
  trapline trace report --format html -o build.html build.trace
"""

#: strace's options that mean nothing here, and why.
_REFUSED = {
    "-b": "programs stay traced across execve",
    "-D": "the tracer is never the command's parent's child; start it in the background instead",
    "-i": "the instruction pointer is in the stack traces of -k",
    "-I": "signals always reach the command",
    "-O": "there is no overhead to subtract: times are taken inside the program",
    "-u": "run `setpriv --reuid USER trapline trace ...`",
    "-U": "the table has its columns",
    "-x": "use --format jsonl for bytes that are not text",
    "-X": "constants are shown by name; --format jsonl has their numbers too",
}


def refuse(argv: list[str]) -> None:
    """Refuse options that only strace has.

    :raises UsageError: there is one; the message says what to do instead.
    """
    taking = {short for short, _, value, _, _ in OPTIONS if short and value}
    waits = False
    for word in argv:
        if waits:
            waits = False
            continue
        if not word.startswith("-") or word in ("-", "--"):
            if word != "report":
                return
            continue
        if word.startswith("--"):
            waits = "=" not in word and any(long == word and value for _, long, value, _, _ in OPTIONS)
            continue
        for place, letter in enumerate(word[1:], 1):
            why = _REFUSED.get(f"-{letter}")
            if why is not None:
                raise UsageError(f"trace: strace's -{letter} does not exist here: {why}")
            if f"-{letter}" in taking:
                waits = place == len(word) - 1
                break
