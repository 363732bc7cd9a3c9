"""Threads of this process that belong to one guest, because something of theirs can never be taken back."""

from __future__ import annotations

import threading

from trapline import _native
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Host"]

#: Seconds that a function which is to end may take before it is left to itself.
_PATIENCE = 1.0


class Host:
    """A thread that runs one function after another.

    A seccomp filter is for the rest of a thread's life, so the thread is the guest's: when it ends, the filter is gone,
    and no other thread of this process ever has it.

    :param own_files: the thread gets a table of descriptors and a working directory of its own.
    """

    def __init__(self, own_files: bool) -> None:
        self._own_files = own_files
        self._work: Callable[[], int] | None = None
        self._begin = threading.Semaphore(0)
        # A lock, and a new one each time: waiting for it can be interrupted at any point by a handler that raises.
        self._done = threading.Lock()
        self._finished = True
        self._lock = threading.Lock()
        self._result = 0
        self._error: BaseException | None = None
        self._last: Callable[[], None] | None = None
        #: It still runs what nobody waits for any more: a hook that waits can only be interrupted on the main thread.
        self.is_left = False
        self._thread = threading.Thread(target=self._main, name="trapline-guest-host", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        while True:
            self._begin.acquire()
            work = self._work
            if work is None:
                return
            try:
                if self._own_files:
                    self._own_files = False
                    _native.unshare_files()
                self._result = work()
            except BaseException as error:
                self._error = error
            self._work = work = None
            with self._lock:
                self._finished = True
                self._release()
                last = self._last
            if last is not None:
                last()
                return

    def _release(self) -> None:
        # It may be released and not acquired again as yet.
        if self._done.locked():
            self._done.release()

    def wake(self) -> None:
        """Have Python's signal handlers called where :meth:`run` waits.

        A handler in C that runs between the last look at what is due and the wait itself does not end the wait.
        """
        with self._lock:
            if not self._finished:
                self._release()

    def run(self, function: Callable[[], int], stop: Callable[[BaseException], None]) -> int:
        """Run a function there and return its result, or raise what it raised, or what has interrupted that.

        :param stop: has the function end, because waiting for it was interrupted.
        :raises UsageError: what was interrupted is still running.
        """
        if threading.current_thread() is self._thread:
            return function()
        if self.is_left and not self._finished:
            raise UsageError("a hook of the call that was interrupted still waits on this guest's thread")
        self.is_left = False
        done = self._done = threading.Lock()
        done.acquire()
        self._finished = False
        self._error = None
        interruption: BaseException | None = None
        self._work = function
        self._begin.release()
        while True:
            try:
                while not self._finished:
                    if not done.acquire(timeout=-1 if interruption is None else _PATIENCE):
                        self.is_left = True
                        break
                break
            except BaseException as error:
                interruption = error
                stop(error)
        if interruption is not None:
            raise interruption
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._result

    def close(self, last: Callable[[], None]) -> None:
        """Call *last* and end the thread: now, or when it is through with what it was left with."""
        with self._lock:
            if self.is_left and not self._finished:
                self._last = last
                return
        self._work = None
        self._begin.release()
        self._thread.join()
        last()
