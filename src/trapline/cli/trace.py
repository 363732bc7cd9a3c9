"""``trapline trace``: what a command does, call by call."""

from __future__ import annotations

import os

from trapline.cli import say
from trapline.cli.trace_options import EPILOG, FORMATS, OPTIONS, refuse
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from trapline.cli.run import Options
    from trapline.cli.trace_output import Output
    from trapline.session import Session
    from trapline.trace.file import Event, TraceFile
    from trapline.trace.select import Selection
    from trapline.trace.summary import Summary
    from trapline.trace.text import TextWriter

__all__ = ["add_parser", "main"]

#: KB of the stack that -k records with each call.
_STACK_KEPT = 12


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the parser that writes the help."""
    from trapline.cli.run import add_options

    add_options(
        subparsers, "trace", "show what a command does, call by call",
        "Run a command, and show its system calls and those of all that it starts.", EPILOG, OPTIONS,
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command and return the exit status to give."""
    from trapline.cli.run import help_of, parse

    refuse(argv)
    if argv[:1] == ["report"]:
        options = parse(argv[1:], OPTIONS, "trace report")
        return help_of("trace") if options is None else _report(options)
    options = parse(argv, OPTIONS, "trace", optional=lambda options: bool(options.all("--attach")))
    return help_of("trace") if options is None else _record(options)


def _number(options: Options, long: str = "--string-limit", short: str = "-s", default: int = 32) -> int:
    text = options.last(long, str(default))
    if not text.isascii() or not text.isdigit() or int(text) > 16384:
        raise UsageError(f"trace: {short} takes a number up to 16384, not {text!r}")
    return int(text)


def _paths(options: Options, selection: Selection) -> bool:
    """Whether descriptors are shown with their files."""
    return options.has("--decode-fds") or selection.decodes_descriptors


def _format(options: Options) -> str:
    name = options.last("--format", "text")
    if name not in FORMATS:
        raise UsageError(f"trace: unknown format {name!r}; there are {', '.join(FORMATS)}")
    if name in ("raw", "parquet") and not options.all("--output"):
        raise UsageError(f"trace: --format {name} needs -o FILE")
    return name


def _selection(options: Options) -> Selection:
    from trapline.trace.select import Selection

    found = Selection.parse(options.all("--expr"), options.all("--trace-path"))
    wanted = [name for name in ("successful", "failed") if options.has(f"--{name}-only")]
    if len(wanted) == 2:
        raise UsageError("trace: -z and -Z exclude each other")
    if wanted:
        found.status = frozenset(wanted)
    found.quiet = found.quiet or len(options.all("--quiet")) > 1
    return found


class _Consumer:
    """What becomes of events.

    :param take: gets each one, or None.
    :param text: returns what writes them as lines, or None. Asked for with the first ones: the program need not wait
        for all that it takes to write lines.
    :param end: is called behind the last one, with what was read, or None when there was nothing.
    """

    def __init__(
        self,
        take: Callable[[Event], object] | None,
        text: Callable[[], TextWriter] | None,
        end: Callable[[TraceFile | None], object],
    ) -> None:
        self._take, self._make, self._end = take, text, end
        self._text: TextWriter | None = None

    def feed(self, trace: TraceFile, *, final: bool) -> None:
        """Take what is there."""
        if self._text is None and self._make is not None:
            self._text = self._make()
        trace.write(self._text, self._take, final=final)

    def end(self, trace: TraceFile | None) -> None:
        """All has been taken."""
        self._end(trace)


def _consumer(options: Options, selection: Selection, out: Output) -> _Consumer:
    """Return what takes events."""
    from trapline.cli.trace_output import Separate

    name = _format(options)
    if name != "text":
        from trapline.trace import formats

        given = formats.consumer(name, out.write, options.last("--output", ""), selection, _number(options))
        return _Consumer(given[0], None, lambda _: given[1]())
    limit, column = _number(options), _number(options, "--columns", "-a", 40)
    stamps = len(options.all("--timestamps"))
    separate = Separate(options.last("--output", "")) if _is_separate(options) else None
    summary = _summary(options, selection)
    # Files have to be followed event by event; all else was counted on the way.
    counts_here = summary is not None and selection.needs_files

    def writer() -> TextWriter:
        from trapline.trace.text import TextWriter

        return TextWriter(
            separate or (lambda _, text: out.write_bytes(text)),
            limit=limit,
            column=column,
            numbers=options.has("--syscall-number"),
            stacks=options.has("--stack-traces"),
            pids="separate" if separate is not None else "always" if options.all("--output") else "several",
            stamp="r" if options.has("--relative-timestamps") else "t" * min(stamps, 3),
            durations=options.has("--syscall-times"),
            paths=_paths(options, selection),
            selection=selection,
        )

    def end(trace: TraceFile | None) -> None:
        if separate is not None:
            separate.close()
        if summary is not None:
            if not counts_here and trace is not None:
                summary.add(trace.counts())
            out.write(summary.text())

    return _Consumer(
        summary.take if summary is not None and counts_here else None,
        None if options.has("--summary-only") else writer,
        end,
    )


def _summary(options: Options, selection: Selection) -> Summary | None:
    """Return what counts calls, where a table of them is wanted."""
    is_wanted = options.has("--summary") or options.has("--summary-only")
    if not is_wanted and not options.all("--summary-sort-by"):
        return None
    from trapline.trace.summary import Summary

    summary = Summary(selection, options.last("--summary-sort-by", "time"))
    return summary if is_wanted else None


def _is_separate(options: Options) -> bool:
    return len(options.all("--follow-forks")) > 1 and options.has("--output") and _format(options) == "text"


def _output(options: Options) -> Output:
    from trapline.cli.trace_output import Output

    path = options.last("--output", "")
    if path.startswith(("|", "!")):
        raise UsageError(
            f"trace: -o cannot write to a command; write `trapline trace ... 2>&1 >/dev/tty {path}`"
        )
    if _format(options) in ("raw", "parquet") or _is_separate(options):
        path = os.devnull
    return Output(path, append=options.has("--output-append-mode"))


def _report(options: Options) -> int:
    if len(options.command) != 1:
        raise UsageError("trace report: name one recorded file")
    from trapline.trace.file import UNSEEN, opened

    if _format(options) == "raw":
        raise UsageError("trace report: the file is raw already; choose another format")
    selection = _selection(options)
    with opened(options.command[0]) as trace, _output(options) as out:
        consumer = _consumer(options, selection, out)
        consumer.feed(trace, final=True)
        consumer.end(trace)
        unseen = sum(calls for _, _, outcome, calls, _, _ in trace.counts() if outcome == UNSEEN)
    if unseen and selection.by_outcome:
        say(f"trapline: {unseen} calls are not shown: how they ended was not seen when they were recorded\n")
    return 0


def _needs_results(options: Options, selection: Selection, *, follows: bool) -> str:
    """Return which option makes no sense without results, or ""."""
    if selection.by_outcome:
        return "a selection by outcome"
    if options.has("--top"):
        return "--top"
    if options.has("--syscall-times"):
        return "-T"
    if follows:
        return "the following of descriptors"
    return "-S" if options.last("--summary-sort-by", "name") in ("time", "avg-time", "errors") else ""


def _tell_engine(session: Session, options: Options) -> None:
    from trapline.cli.run import say_engine

    if options.has("--verbose"):
        say_engine(session)
    elif (
        session.engine == "notify"
        and options.last("--engine", "auto") == "auto"
        and not options.has("--quiet")
    ):
        say(
            "trapline: calls are shown without results, as engine notify sees them before they run; it is "
            f"{session.engine_reason}\n"
        )


def _record(options: Options) -> int:
    from trapline import _native
    from trapline.capture import Capture, write_header
    from trapline.cli.run import exit_status, run

    selection, limit = _selection(options), _number(options)
    raw = _format(options) == "raw"
    names = selection.names
    is_top = options.has("--top")
    paths = selection.needs_files or is_top or _paths(options, selection)
    if paths:
        names = ("*",) if "*" in names else (*names, *_FOLLOWED)
    pids: list[int] = []
    if options.all("--attach"):
        from trapline.cli.trace_attach import Watched, numbers

        pids = numbers(options.all("--attach"))
        if options.command:
            raise UsageError("trace: -p takes running processes, and no command")
    streams: dict[str, Any] = {}
    if is_top:
        from trapline.cli import trace_top

        trace_top.require()
        streams = trace_top.streams()
    # It would take Ctrl-C for the command's.
    job = None if pids or is_top else _native.Job()
    fd, reading = _file(options.last("--output", "") if raw else "")
    try:

        def capture(part: int = 0) -> Capture:
            return Capture(
                fd,
                names,
                limit=limit,
                drop=options.has("--drop"),
                signals=selection.wants_signals,
                paths=raw or paths or _format(options) != "text",
                stack=_STACK_KEPT if options.has("--stack-traces") else 0,
                results=_needs_results(options, selection, follows=paths),
                part=part,
            )

        engine, allow_io_uring = options.last("--engine", "auto"), options.has("--allow-io-uring")
        session: Session | Watched
        if pids:
            if len(pids) > 1:
                write_header(fd, limit)
            session = watched = Watched(pids, engine, capture, allow_io_uring=allow_io_uring)
            name, go = watched.name, watched.watch
        else:
            from trapline.session import Session

            session = started = Session(
                options.command, engine=engine, allow_io_uring=allow_io_uring, capture=capture(),
                env=_environment(options), job=job, **streams,
            )  # fmt: skip
            name, go = options.command[0], lambda: run(started, job, verbose=False)
        session.on_engine = lambda session: _tell_engine(session, options)
        if is_top:
            return trace_top.view(session, (fd, reading), selection, name)

        if raw:
            status = go()
        else:
            from trapline.cli.trace_follow import Follower

            with _output(options) as out, Follower(fd, reading, _consumer(options, selection, out)):
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


def _environment(options: Options) -> dict[str, str] | None:
    """Return the command's environment, with what -E changes of it."""
    from trapline.cli.run import given_environment

    found = given_environment()
    if not options.all("--env"):
        return found
    found = dict(os.environ) if found is None else found
    for text in options.all("--env"):
        name, equals, value = text.partition("=")
        if equals:
            found[name] = value
        else:
            found.pop(name, None)
    return found


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
        fd = _nameless()
        reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        return fd, reading
    except OSError as error:
        raise UsageError(f"trace: cannot write '{path or error.filename}': {error.strerror}") from None


def _nameless() -> int:
    """Return a file without a name, for writing at its end."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    folder = os.environ.get("TMPDIR") or "/tmp"
    try:
        return os.open(folder, flags | os.O_TMPFILE, 0o600)
    except OSError:  # not every file system has these
        import fcntl
        import tempfile

        fd, name = tempfile.mkstemp(prefix="trapline-")
        os.unlink(name)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return fd
