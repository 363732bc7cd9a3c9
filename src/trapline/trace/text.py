"""Events as lines that a reader of strace's output knows."""

from __future__ import annotations

from trapline import _native
from trapline.decode.values import signal_text
from trapline.trace.file import BEGUN, CALL, DROPPED, GONE, SIGNAL, STATUS, Event
from trapline.trace.files import Files
from trapline.trace.plans import named, plan
from trapline.trace.select import Selection
from trapline.trace.siginfo import siginfo_text
from trapline.trace.strace import call_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.stacks import Stacks

__all__ = ["TextWriter"]

_EXITS = ("exit", "exit_group")
_PIDS = ("several", "always", "separate")  # enum tl_text_pids
_STAMPS = ("", "r", "t", "tt", "ttt")  # enum tl_text_stamp


class TextWriter:
    """Writes events as lines: most calls by plans and without Python, see :mod:`trapline.trace.plans`.

    :param write: gets pieces of text, and with ``pids="separate"`` the thread that they are of.
    :param limit: bytes of a buffer that are shown.
    :param pids: lines begin with their thread's id when there are ``"several"`` threads, ``"always"``, or never because
        each thread's are written somewhere else (``"separate"``).
    :param stamp: ``""``, ``"t"``, ``"tt"``, ``"ttt"`` or ``"r"``: the time at the start of the line.
    :param durations: how long each call took, at the end of the line.
    :param paths: descriptors are written with their files.
    :param selection: which events are written.
    :param column: where results begin.
    :param numbers: the number of each call before its name.
    :param stacks: where each call was made, in lines behind it.
    """

    def __init__(
        self,
        write: Callable[[int, bytes], object],
        *,
        limit: int = 32,
        pids: str = "several",
        stamp: str = "",
        durations: bool = False,
        paths: bool = False,
        selection: Selection | None = None,
        column: int = 40,
        numbers: bool = False,
        stacks: bool = False,
    ) -> None:
        self._limit = limit
        self._column = column
        self._numbers = numbers
        self._stacks: Stacks | None = None
        if stacks:
            from trapline.trace.stacks import Stacks

            self._stacks = Stacks()
        self._selection = Selection() if selection is None else selection
        self._files = Files() if paths or self._selection.needs_files else None
        self._show_paths = paths
        self._status: dict[int, int] = {}
        self._group: dict[int, int] = {}
        self._said: set[int] = set()  # how they have ended
        # What descriptors stand for is told by the calls before; stacks are not in a plan, nor is what a glob matches.
        is_plain = self._files is None and not stacks
        by_plan = not stacks and not numbers and not self._selection.needs_files
        #: What :class:`trapline.trace.file.TraceFile` writes to.
        self.native = _native.TraceText(
            limit, column, _PIDS.index(pids), _STAMPS.index(stamp), durations,
            self._files is not None, is_plain, Event, self._plan if by_plan else _no_plan, named, self._line, write,
            self._path, self._learn,
        )  # fmt: skip

    def _plan(self, nr: int) -> bytes:
        return plan(nr, self._selection.names, self._selection.status)

    def _path(self, pid: int, fd: int) -> str:
        return "" if self._files is None else self._files.of(pid).get(fd, "")

    def _learn(self, event: Event) -> None:
        if self._files is not None:
            self._files.learn(event)

    def _line(self, event: Event) -> str | None:
        """Return the line of an event but for its beginning and end, and behind a NUL lines that follow it."""
        if event.kind == CALL:
            line = self._call(event)
            if self._files is not None:
                self._files.learn(event)
            return line
        if event.kind == BEGUN:
            self._said.discard(event.tid)
        elif event.kind == SIGNAL:
            return f"--- {signal_line(event)} ---" if self._selection.wants_signal(event.nr) else None
        elif event.kind == GONE:
            status = self._status.pop(event.tid, self._group.get(event.pid))
            return None if status is None else self._ended(event, f"exited with {status}")
        elif event.kind == STATUS and event.result is not None:
            how = event.result
            return self._ended(event, f"exited with {how}" if how >= 0 else f"killed by {signal_text(-how)}")
        elif event.kind == DROPPED:
            return f"+++ {event.result} calls were dropped +++"
        return None

    def _ended(self, event: Event, how: str) -> str | None:
        if self._selection.quiet or event.tid in self._said:
            return None
        self._said.add(event.tid)
        return f"+++ {how} +++"

    def _call(self, event: Event) -> str | None:
        if event.result is None and event.name in _EXITS:
            status = event.args[0] & 0xFF if event.args else 0
            self._status[event.tid] = status
            if event.name == "exit_group":
                self._group[event.pid] = status
        if not self._selection.wants(event, self._files):
            return None
        files = self._files if self._show_paths else None
        path_of = None if files is None else lambda fd: files.path(event, fd)
        call, result = call_line(event, self._limit, path_of)
        if event.result is None and not event.unseen and event.name not in _EXITS:
            call = call[:-1] + " <unfinished ...>)"
        if self._numbers:
            call = f"[{event.nr:>4}] {call}"
        line = f"{call:<{self._column - 1}} = {result}"
        if self._stacks is None:
            return line
        frames, complete = self._stacks.frames(event)
        return line + "\0" + "".join(f" > {frame}\n" for frame in frames) + ("" if complete else " > ...\n")


def _no_plan(nr: int) -> bytes:
    return b""


def signal_line(event: Event) -> str:
    """Write a signal and where it is from: ``SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, ...}``."""
    text = siginfo_text(event.memory[0][1]) if event.memory else ""
    return f"{signal_text(event.nr)} {text}".rstrip()
