"""Events as lines that a reader of strace's output knows."""

from __future__ import annotations

from trapline import _native
from trapline.decode.values import signal_text
from trapline.trace.file import CALL, DROPPED, GONE, SIGNAL, STATUS, Event
from trapline.trace.files import Files
from trapline.trace.plans import named, no_plans, plans
from trapline.trace.select import Selection
from trapline.trace.strace import call_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TextWriter"]

_EXITS = ("exit", "exit_group")
_COLUMN = 40
_STAMPS = ("", "r", "t", "tt", "ttt")  # enum tl_text_stamp


class TextWriter:
    """Writes events as lines: most calls by plans and without Python, see :mod:`trapline.trace.plans`.

    :param write: gets each piece of text.
    :param limit: bytes of a buffer that are shown.
    :param always_pid: every line begins with its thread's id, not only those of several threads (``-o``).
    :param stamp: ``""``, ``"t"``, ``"tt"``, ``"ttt"`` or ``"r"``: the time at the start of the line.
    :param durations: how long each call took, at the end of the line.
    :param paths: descriptors are written with their files.
    :param selection: which events are written.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        limit: int = 32,
        always_pid: bool = False,
        stamp: str = "",
        durations: bool = False,
        paths: bool = False,
        selection: Selection | None = None,
    ) -> None:
        self._limit = limit
        self._selection = Selection() if selection is None else selection
        self._files = Files() if paths or self._selection.needs_files else None
        self._show_paths = paths
        self._status: dict[int, int] = {}
        self._group: dict[int, int] = {}
        # What descriptors stand for is told by the calls before.
        names = self._selection.names if self._files is None else ()
        known = plans(names, self._selection.status) if self._files is None else no_plans()
        #: What :class:`trapline.trace.file.TraceFile` writes to.
        self.native = _native.TraceText(
            known, limit, always_pid, _STAMPS.index(stamp), durations, self._files is None,
            Event, named, self._line, write,
        )  # fmt: skip

    def _line(self, event: Event) -> str | None:
        if event.kind == CALL:
            line = self._call(event)
            if self._files is not None:
                self._files.learn(event)
            return line
        if event.kind == SIGNAL:
            return f"--- {signal_line(event)} ---" if self._selection.wants_signals else None
        if event.kind == GONE:
            status = self._status.pop(event.tid, self._group.get(event.pid))
            return None if status is None else f"+++ exited with {status} +++"
        if event.kind == STATUS and event.result is not None and event.result < 0:
            return f"+++ killed by {signal_text(-event.result)} +++"
        return f"+++ {event.result} calls were dropped +++" if event.kind == DROPPED else None

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
        if event.result is None and event.name not in _EXITS:
            call = call[:-1] + " <unfinished ...>)"
        return f"{call:<{_COLUMN - 1}} = {result}"


def signal_line(event: Event) -> str:
    """Write a signal and where it is from: ``SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, ...}``."""
    name = signal_text(event.nr)
    data = event.memory[0][1] if event.memory else b""
    if len(data) < 32:
        return name
    code = int.from_bytes(data[8:12], "little", signed=True)
    pid, uid = (int.from_bytes(data[at : at + 4], "little") for at in (16, 20))
    shown = [f"si_signo={name}", f"si_code={_code(event.nr, code)}"]
    if event.nr == 17 and code > 0:
        status = int.from_bytes(data[24:28], "little", signed=True)
        shown += [f"si_pid={pid}", f"si_uid={uid}"]
        shown.append(f"si_status={status if code == 1 else signal_text(status)}")
        shown += [
            f"si_utime={int.from_bytes(data[32:40], 'little')}",
            f"si_stime={int.from_bytes(data[40:48], 'little')}",
        ]
    elif code > 0 and code != 0x80:
        shown.append(f"si_addr={int.from_bytes(data[16:24], 'little'):#x}")
    elif code == -2:
        shown += [f"si_timerid={pid:#x}", f"si_overrun={uid}"]
    elif code <= 0:
        shown += [f"si_pid={pid}", f"si_uid={uid}"]
    return f"{name} {{{', '.join(shown)}}}"


_CODES = {
    0: "SI_USER", -1: "SI_QUEUE", -2: "SI_TIMER", -3: "SI_MESGQ", -4: "SI_ASYNCIO", -5: "SI_SIGIO", -6: "SI_TKILL",
    0x80: "SI_KERNEL",
}  # fmt: skip
_OWN_CODES = {
    17: ("CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"),
    11: ("SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"),
    8: (
        "FPE_INTDIV",
        "FPE_INTOVF",
        "FPE_FLTDIV",
        "FPE_FLTOVF",
        "FPE_FLTUND",
        "FPE_FLTRES",
        "FPE_FLTINV",
        "FPE_FLTSUB",
    ),
    7: ("BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"),
    4: (
        "ILL_ILLOPC",
        "ILL_ILLOPN",
        "ILL_ILLADR",
        "ILL_ILLTRP",
        "ILL_PRVOPC",
        "ILL_PRVREG",
        "ILL_COPROC",
        "ILL_BADSTK",
    ),
}


def _code(number: int, code: int) -> str:
    own = _OWN_CODES.get(number, ())
    if 0 < code <= len(own):
        return own[code - 1]
    return _CODES.get(code, str(code))
