"""``trapline trace -p``: processes that run already."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from trapline.attaching import AttachedSession
from trapline.cli import complain, message_of, say
from trapline.errors import TraplineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trapline.capture import Capture

__all__ = ["Watched", "numbers"]


def numbers(given: Sequence[str]) -> list[int]:
    """Return the processes that ``-p`` names, each once.

    :param given: values of the option, each with numbers between which there are commas or blanks.
    :raises UsageError: one is no number of a process.
    """
    words = [word for text in given for word in text.replace(",", " ").split()]
    if not words:
        raise UsageError("trace: -p takes a process id, such as 4711, or several")
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word)):
            raise UsageError(f"trace: -p takes process ids, and {word!r} is none; `ps` lists them")
    return list(dict.fromkeys(map(int, words)))


def _name(pids: Sequence[int]) -> str:
    return f"process{'es' if len(pids) > 1 else ''} {', '.join(map(str, pids)) or 'that had ended'}"


class Watched:
    """Processes whose calls are recorded into one file, each by a session of its own.

    :param pids: the processes.
    :param engine: its name, or ``"auto"``; what the first one takes, the others take too.
    :param capture: returns what is recorded of one of them, by the number of its part of the file; 0: all of it.
    :param allow_io_uring: as for :class:`trapline.Session`.
    """

    def __init__(
        self, pids: Sequence[int], engine: str, capture: Callable[[int], Capture], *, allow_io_uring: bool
    ) -> None:
        self._pids = pids
        self._engine = engine
        self._capture = capture
        self._allow_io_uring = allow_io_uring
        self._sessions: list[AttachedSession] = []
        self._failure: TraplineError | None = None
        self._interrupted = False
        self._left = os.eventfd(0, os.EFD_CLOEXEC)
        #: Called when the engine is certain.
        self.on_engine: Callable[[AttachedSession], None] | None = None

    @property
    def name(self) -> str:
        """What they are called."""
        return _name(self._pids)

    @property
    def returncode(self) -> int | None:
        """0 when all have ended, None while one runs."""
        return None if any(session.returncode is None for session in self._sessions) else 0

    @property
    def capture_error(self) -> int:
        """Why the record could not be written to its end, an errno, or 0."""
        return max([session.capture_error for session in self._sessions], default=0)

    def __enter__(self) -> Watched:
        failed: TraplineError | None = None
        for number, pid in enumerate(self._pids, 1):
            try:
                session = AttachedSession(
                    pid,
                    engine=self._engine,
                    capture=self._capture(number if len(self._pids) > 1 else 0),
                    allow_io_uring=self._allow_io_uring,
                )
                session.start()
            except TraplineError as error:
                if failed is not None:
                    complain(failed)
                failed = error
                continue
            except BaseException:
                self.__exit__()
                raise
            if not self._sessions:
                self._engine = session.engine
                if self.on_engine is not None:
                    self.on_engine(session)
            self._sessions.append(session)
        if failed is not None:
            if not self._sessions:
                self.__exit__()
                raise failed
            say(f"trapline: {message_of(failed)}; the others are traced\n")
        return self

    def __exit__(self, *exception: object) -> None:
        for session in self._sessions:
            session.detach()
        os.close(self._left)

    def interrupt(self) -> None:
        """Have :meth:`wait` let go of all of them; from a signal handler too."""
        self._interrupted = True
        for session in self._sessions:
            with suppress(OSError):  # it has just ended
                session.interrupt()

    def wait(self) -> bool:
        """Wait until all have ended, or :meth:`interrupt`.

        :returns: whether they were let go of.
        """
        import select

        from trapline import waking

        if self._interrupted:
            return True
        threads = [
            threading.Thread(target=self._wait_for, args=(session,), name="trapline-wait", daemon=True)
            for session in self._sessions
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            poller = select.poll()
            poller.register(self._left, select.POLLIN)
            if waking.poll(poller, None):
                running -= os.eventfd_read(self._left)
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return self._interrupted

    def _wait_for(self, session: AttachedSession) -> None:
        try:
            session.wait()
        except KeyboardInterrupt:
            pass
        except TraplineError as error:
            self._failure = error
        finally:
            session.detach()
            os.eventfd_write(self._left, 1)

    def watch(self) -> int:
        """Wait until all have ended, or until a signal says to let go of them, and return 0."""
        import signal

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: self.interrupt())
        with self:
            if self.wait():
                left = [session.pid for session in self._sessions if session.returncode is None]
                say(f"trapline: let go of {_name(left)}\n")
        return 0
