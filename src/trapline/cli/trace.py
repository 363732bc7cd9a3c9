"""``trapline trace``: what a command does, call by call."""

from __future__ import annotations

import os

from trapline.cli import say
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, TextIO

    from trapline.cli.run import Options
    from trapline.session import Session
    from trapline.trace.file import Event, TraceFile
    from trapline.trace.select import Selection
    from trapline.trace.text import TextWriter

__all__ = ["add_parser", "main"]

FORMATS = ("text", "jsonl", "perfetto", "html", "parquet", "raw")

OPTIONS: tuple[tuple[str, str, str, bool, str], ...] = (
    ("-e", "--expr", "EXPR", True, "what to show: [trace=]SET with names, numbers, classes such as file or network "
     "after a percent sign, /regex, !SET; signal=none; status=successful,failed,unfinished"),
    ("-P", "--trace-path", "GLOB", True, "only calls about a file whose name matches"),
    ("-o", "--output", "FILE", False, "write there instead of to standard error"),
    ("-s", "--string-limit", "N", False, "bytes of a string or buffer that are shown (default 32)"),
    ("-y", "--decode-fds", "", False, "show the files behind descriptors"),
    ("-t", "--timestamps", "", True, "time of day before each line; -tt with microseconds, -ttt since 1970"),
    ("-r", "--relative", "", False, "time since the line before"),
    ("-T", "--durations", "", False, "time spent in each call"),
    ("-c", "--summary-only", "", False, "count calls, time and errors instead"),
    ("-C", "--summary", "", False, "the same after the calls"),
    ("-f", "--follow-forks", "", True, "accepted: everything that the command starts is always followed"),
    ("-q", "--quiet", "", True, "accepted: nothing is said of attaching"),
    ("-p", "--attach", "PID", False, "show what a running process does, until it ends or Ctrl-C is pressed"),
    ("", "--format", "FORMAT", False, "text, jsonl, perfetto, html, parquet, or raw: as `trace report` reads it"),
    ("", "--drop", "", False, "lose calls rather than hold up a thread that makes them faster than they are written"),
    ("", "--engine", "ENGINE", False, "how calls are caught: auto, rewrite, sud or trap"),
    ("", "--allow-io-uring", "", False, "let programs use io_uring, whose operations nobody sees"),
    ("-v", "--verbose", "", False, "say which engine is used and why, on standard error"),
)  # fmt: skip

_EPILOG = """\
trapline trace report [OPTION...] FILE shows what `--format raw -o FILE` has recorded, in any of the formats.

examples:
  trapline trace ls
  trapline trace -e %network -y -T -- curl http://127.0.0.1:8000/
  trapline trace -c -- make
  trapline trace --format raw -o build.trace -- make
  trapline trace report --format html -o build.html build.trace
"""
_PERIOD = 0.02


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser that writes the help."""
    from trapline.cli.run import add_options

    add_options(
        subparsers, "trace", "show what a command does, call by call",
        "Run a command, and show its system calls and those of all that it starts.", _EPILOG, OPTIONS,
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command and return the exit status to give."""
    from trapline.cli.run import help_of, parse

    if argv[:1] == ["report"]:
        options = parse(argv[1:], OPTIONS, "trace report")
        return help_of("trace") if options is None else _report(options)
    options = parse(argv, OPTIONS, "trace", optional=lambda options: bool(options.all("--attach")))
    return help_of("trace") if options is None else _record(options)


def _number(options: Options) -> int:
    text = options.last("--string-limit", "32")
    if not text.isdigit() or int(text) > 16384:
        raise UsageError(f"trace: -s takes a number up to 16384, not {text!r}")
    return int(text)


def _format(options: Options) -> str:
    name = options.last("--format", "text")
    if name not in FORMATS:
        raise UsageError(f"trace: unknown format {name!r}; there are {', '.join(FORMATS)}")
    if name in ("raw", "parquet") and not options.all("--output"):
        raise UsageError(f"trace: --format {name} needs -o FILE")
    return name


def _selection(options: Options) -> Selection:
    from trapline.trace.select import Selection

    return Selection.parse(options.all("--expr"), options.all("--trace-path"))


class _Consumer:
    """What becomes of events.

    :param take: gets each one, or None.
    :param text: writes them as lines, or None.
    :param end: is called behind the last one.
    """

    def __init__(
        self,
        take: Callable[[Event], object] | None,
        text: TextWriter | None,
        end: Callable[[TraceFile | None], object],
    ) -> None:
        self._take, self._text = take, text
        self.end = end

    def feed(self, trace: TraceFile, *, final: bool) -> None:
        """Take what is there."""
        trace.write(self._text, self._take, final=final)


def _consumer(options: Options, selection: Selection, out: TextIO) -> _Consumer:
    """Return what takes events."""
    from trapline.trace.text import TextWriter

    name = _format(options)
    if name != "text":
        from trapline.trace import formats

        given = formats.consumer(name, out, options.last("--output", ""), selection, _number(options))
        return _Consumer(given[0], None, lambda _: given[1]())
    take, end = _summary(options, selection, out)
    if options.has("--summary-only"):
        return _Consumer(take, None, end)
    stamps = len(options.all("--timestamps"))
    writer = TextWriter(
        lambda data: _write(out, data),
        limit=_number(options),
        always_pid=bool(options.all("--output")),
        stamp="r" if options.has("--relative") else "t" * min(stamps, 3),
        durations=options.has("--durations"),
        paths=options.has("--decode-fds"),
        selection=selection,
    )
    return _Consumer(take, writer, end)


def _summary(
    options: Options, selection: Selection, out: TextIO
) -> tuple[Callable[[Event], object] | None, Callable[[TraceFile | None], object]]:
    """Return what counts events, if that is to be done here, and what is done at their end."""
    from trapline.trace.summary import Summary

    if not options.has("--summary") and not options.has("--summary-only"):
        return None, lambda _: None
    summary = Summary(selection)

    def end(trace: TraceFile | None) -> None:
        if trace is not None and not selection.needs_files:
            summary.add(trace.counts())
        out.write(summary.text())
        out.flush()

    return summary.take if selection.needs_files else None, end


def _write(out: TextIO, data: bytes) -> None:
    out.buffer.write(data)
    out.buffer.flush()


def _output(options: Options) -> TextIO:
    path = options.last("--output", "")
    if _format(options) in ("raw", "parquet"):
        path = os.devnull
    try:
        if not path:
            return open(os.dup(2), "w", encoding="utf-8", errors="surrogateescape")
        return open(path, "w", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"trace: cannot write '{path}': {error.strerror}") from None


def _report(options: Options) -> int:
    if len(options.command) != 1:
        raise UsageError("trace report: name one recorded file")
    from trapline.trace.file import opened

    if _format(options) == "raw":
        raise UsageError("trace report: the file is raw already; choose another format")
    with opened(options.command[0]) as trace, _output(options) as out:
        consumer = _consumer(options, _selection(options), out)
        consumer.feed(trace, final=True)
        consumer.end(trace)
    return 0


def _record(options: Options) -> int:
    from trapline import _native
    from trapline.attaching import AttachedSession
    from trapline.capture import Capture
    from trapline.cli.run import exit_status, given_environment, run
    from trapline.session import Session

    selection, limit = _selection(options), _number(options)
    raw = _format(options) == "raw"
    names = selection.names
    if selection.needs_files or options.has("--decode-fds"):
        names = ("*",) if "*" in names else (*names, *_FOLLOWED)
    pid = options.last("--attach", "")
    if pid and (options.command or not pid.isdigit()):
        raise UsageError("trace: -p takes a process id, and no command")
    job = None if pid else _native.Job()  # it would take Ctrl-C for the command's
    fd, reading = _file(options.last("--output", "") if raw else "")
    try:
        capture = Capture(
            fd,
            names,
            limit=limit,
            drop=options.has("--drop"),
            signals=selection.wants_signals,
            paths=raw or selection.needs_files or options.has("--decode-fds") or _format(options) != "text",
        )
        given: dict[str, Any] = {
            "engine": options.last("--engine", "auto"),
            "allow_io_uring": options.has("--allow-io-uring"),
            "capture": capture,
        }
        session = (
            AttachedSession(int(pid), **given)
            if pid
            else Session(options.command, env=given_environment(), job=job, **given)
        )

        def go() -> int:
            return _watch(session) if pid else run(session, job, verbose=options.has("--verbose"))

        if raw:
            status = go()
        else:
            with _output(options) as out, Follower(reading, _consumer(options, selection, out)):
                status = go()
        if session.capture_error:
            say(
                f"trapline: cannot write the record: {os.strerror(session.capture_error)}; what is there can be read\n"
            )
        return exit_status(status, job)
    finally:
        if job is not None:
            job.end()
        os.close(fd)
        os.close(reading)


def _watch(session: Session) -> int:
    """Wait for the end of a process that is attached to, or for Ctrl-C, and return 0."""
    try:
        with session:
            session.wait()
    except KeyboardInterrupt:
        say("trapline: let go of the process\n")
    return 0


#: What has to be seen for descriptors to be known.
_FOLLOWED = ("open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "socket",
             "accept", "accept4", "pipe", "pipe2", "socketpair", "fork", "vfork", "clone", "clone3", "epoll_create1",
             "eventfd2", "memfd_create", "timerfd_create", "signalfd4", "inotify_init1", "pidfd_open")  # fmt: skip


def _file(path: str) -> tuple[int, int]:
    """Return a file to record to, and the same for reading; without a name, one that nobody else finds."""
    try:
        if path:
            return (
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666),
                os.open(path, os.O_RDONLY | os.O_CLOEXEC),
            )
        import tempfile

        fd, name = tempfile.mkstemp(prefix="trapline-")
        reading = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.unlink(name)
        return fd, reading
    except OSError as error:
        raise UsageError(f"trace: cannot write '{path or error.filename}': {error.strerror}") from None


class Follower:
    """Reads what is recorded while it is recorded, in a thread of its own.

    :param fd: of the record, at its start.
    """

    def __init__(self, fd: int, consumer: _Consumer) -> None:
        import threading

        self._file = open(os.dup(fd), "rb", buffering=0)  # noqa: SIM115
        self._consumer = consumer
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="trapline-trace", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()
        if self._failure is not None and exception[1] is None:
            raise self._failure

    def finish(self) -> None:
        """The record is complete: wait until all of it has been taken."""
        self._finished.set()
        self._thread.join()

    def _work(self) -> None:
        from trapline.trace.file import TraceFile

        trace: TraceFile | None = None
        try:
            while True:
                final = self._finished.wait(_PERIOD)
                if trace is None and os.fstat(self._file.fileno()).st_size >= 24:
                    trace = TraceFile(self._file)
                if trace is not None:
                    self._consumer.feed(trace, final=final)
                if final:
                    break
            self._consumer.end(trace)
        except BaseException as error:
            self._failure = error
        finally:
            self._file.close()
