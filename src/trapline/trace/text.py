"""Events as lines that a reader of strace's output knows."""

from __future__ import annotations

import time

from trapline.decode.values import signal_text
from trapline.trace.file import CALL, DROPPED, GONE, SIGNAL, STATUS, Event
from trapline.trace.files import Files
from trapline.trace.siginfo import siginfo_text
from trapline.trace.stacks import Stacks
from trapline.trace.strace import call_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.select import Selection

__all__ = ["TextWriter"]

_EXITS = ("exit", "exit_group")


class TextWriter:
    """Writes events as lines.

    :param write: gets the number of a thread, and each piece of its text.
    :param limit: bytes of a buffer that are shown.
    :param always_pid: every line begins with its thread's id, not only those of several threads (``-o``).
    :param never_pid: none does.
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
        write: Callable[[int, str], object],
        *,
        limit: int = 32,
        always_pid: bool = False,
        never_pid: bool = False,
        stamp: str = "",
        durations: bool = False,
        paths: bool = False,
        selection: Selection | None = None,
        column: int = 40,
        numbers: bool = False,
        stacks: bool = False,
    ) -> None:
        self._write = write
        self._limit = limit
        self._always_pid = always_pid
        self._never_pid = never_pid
        self._column = column
        self._numbers = numbers
        self._stacks = Stacks() if stacks else None
        self._stamp = stamp
        self._durations = durations
        self._selection = selection
        self._files = Files() if paths or (selection is not None and selection.needs_files) else None
        self._show_paths = paths
        self._threads: set[int] = set()
        self._status: dict[int, int] = {}
        self._group: dict[int, int] = {}
        self._said: set[int] = set()  # how they have ended
        self._last = 0

    def take(self, event: Event) -> None:
        """Write one event, if it is to be written."""
        if event.kind == CALL:
            self._call(event)
            if self._files is not None:
                self._files.learn(event)
        elif event.kind == SIGNAL:
            if self._selection is None or self._selection.wants_signal(event.nr):
                self._line(event, f"--- {signal_line(event)} ---")
        elif event.kind == GONE:
            self._threads.discard(event.tid)
            status = self._status.pop(event.tid, self._group.get(event.pid))
            if status is not None:
                self._ended(event, f"exited with {status}")
        elif event.kind == STATUS and event.result is not None:
            how = (
                f"exited with {event.result}"
                if event.result >= 0
                else f"killed by {signal_text(-event.result)}"
            )
            self._ended(event, how)
        elif event.kind == DROPPED:
            self._line(event, f"+++ {event.result} calls were dropped +++")

    def _call(self, event: Event) -> None:
        self._said.discard(event.tid)
        if event.result is None and event.name in _EXITS:
            status = event.args[0] & 0xFF if event.args else 0
            self._status[event.tid] = status
            if event.name == "exit_group":
                self._group[event.pid] = status
        if self._selection is not None and not self._selection.wants(event, self._files):
            return
        files = self._files if self._show_paths else None
        path_of = None if files is None else lambda fd: files.path(event, fd)
        call, result = call_line(event, self._limit, path_of)
        if event.result is None and event.name not in _EXITS:
            call = call[:-1] + " <unfinished ...>)"
        if self._numbers:
            call = f"[{event.nr:>4}] {call}"
        text = f"{call:<{self._column - 1}} = {result}"
        if self._durations and event.result is not None:
            text += f" <{(event.end - event.start) / 1e9:.6f}>"
        self._line(event, text)
        if self._stacks is not None:
            frames, complete = self._stacks.frames(event)
            lines = [f" > {frame}\n" for frame in frames] + ([] if complete else [" > ...\n"])
            self._write(event.tid, "".join(lines))

    def _ended(self, event: Event, how: str) -> None:
        quiet = self._selection is not None and self._selection.quiet
        if not quiet and event.tid not in self._said:
            self._line(event, f"+++ {how} +++")
        self._said.add(event.tid)

    def _line(self, event: Event, text: str) -> None:
        self._threads.add(event.tid)
        prefix = ""
        if self._never_pid:
            pass
        elif self._always_pid:
            prefix = f"{event.tid:<5} "
        elif len(self._threads) > 1:
            prefix = f"[pid {event.tid:>5}] "
        self._write(event.tid, f"{prefix}{self._time(event)}{text}\n")

    def _time(self, event: Event) -> str:
        if not self._stamp:
            return ""
        if self._stamp == "r":
            since, self._last = event.start - (self._last or event.start), event.start
            return f"{since / 1e9:>12.6f} "
        seconds, rest = divmod(event.start, 10**9)
        if self._stamp == "ttt":
            return f"{seconds}.{rest // 1000:06d} "
        clock = time.strftime("%H:%M:%S", time.localtime(seconds))
        return f"{clock}.{rest // 1000:06d} " if self._stamp == "tt" else f"{clock} "


def signal_line(event: Event) -> str:
    """Write a signal and where it is from: ``SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, ...}``."""
    text = siginfo_text(event.memory[0][1]) if event.memory else ""
    return f"{signal_text(event.nr)} {text}".rstrip()
