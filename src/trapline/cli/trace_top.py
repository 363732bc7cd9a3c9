"""``trapline trace --top``: the session behind the live view."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from trapline.errors import TraplineError, UsageError
from trapline.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.cli.trace_attach import Watched
    from trapline.trace.file import TraceFile
    from trapline.trace.select import Selection
    from trapline.trace.top import Top

__all__ = ["require", "streams", "view"]

#: Of a program that makes more calls than can be counted at once some are passed over, so that the view is of now.
_BEHIND = 8 << 20
_PIECE = 1 << 18


class _Counting:
    """Counts a little at a time, so that whoever wants to quit does not wait."""

    def __init__(self, top: Top) -> None:
        self._top = top

    def feed(self, trace: TraceFile, *, final: bool) -> None:
        """Count what is there, or at first a piece of it."""
        if not final:
            trace.write(None, self._top.take, final=False, most=_PIECE)

    def end(self, trace: TraceFile | None) -> None:
        """Nobody wants to know the rest."""


def require() -> None:
    """Check that there is what the view needs.

    :raises UsageError: no textual, or no terminal.
    """
    try:
        import textual  # noqa: F401
    except ImportError:
        raise UsageError("trace: --top needs textual: pip install 'trapline[tui]'") from None
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("trace: --top needs a terminal as standard input and output")


def streams() -> dict[str, int]:
    """Return what a command has as its streams: the terminal is the view's."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return {**streams, "stderr": subprocess.DEVNULL} if os.isatty(2) else streams


def view(session: Session | Watched, record: tuple[int, int], selection: Selection, name: str) -> int:
    """Show what a program does until the user quits, and return an exit status.

    A command that was started is killed then; processes that were attached to go on.
    """
    from trapline.cli.trace_follow import Follower
    from trapline.trace.top import Top
    from trapline.trace.top_view import TopView

    require()
    top = Top(selection)
    failures: list[TraplineError] = []

    def wait() -> None:
        try:
            session.wait()
        except TraplineError as error:
            failures.append(error)
        except KeyboardInterrupt:
            pass

    def state() -> str:
        if failures:
            return str(failures[0])
        late = f", {follower.skipped >> 20} MB passed over" if follower.skipped else ""
        return f"{'runs' if session.returncode is None else f'ended with status {session.returncode}'}{late}"

    follower = Follower(*record, _Counting(top), _BEHIND)
    with session, follower:
        waiting = threading.Thread(target=wait, name="trapline-wait", daemon=True)
        waiting.start()
        app = TopView(top, name, state)
        app.run()
        follower.abandon()
        session.kill() if isinstance(session, Session) else session.interrupt()
        waiting.join()
        sys.stdout.flush()
    if failures:
        raise failures[0]
    return app.return_code or 0
