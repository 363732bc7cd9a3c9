"""The threads of a guest: how each is run, and how all of them end."""

from __future__ import annotations

import threading
import time

from trapline.guest.faults import GuestFault, GuestKilled
from trapline.guest.registers import signed
from trapline.guest.thread import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from trapline.guest.personality import Personality

__all__ = ["End", "Running"]

_FINISHED, _FAULTED, _FAILED, _KILLED = range(4)


class End(BaseException):
    """Leaves a thread of a guest that has ended; nobody else sees it."""


class Running:
    """What :class:`trapline.guest.Guest` has of threads.

    :ivar personality: what its guest believes the kernel is.
    """

    personality: Personality

    def __init__(self) -> None:
        self._threads: dict[int, Thread] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._running: set[Thread] = set()
        self._ending = False
        self._status: int | None = None
        self._failure: BaseException | None = None
        self._command: tuple[str, list[str], dict[str, str]] | None = None
        self._deadline: float | None = None
        self._rewriter: Any = None

    def new_thread(self) -> Thread:
        """Return another thread of this guest, for personalities; it runs in :meth:`drive`."""
        thread = Thread(self)  # type: ignore[arg-type]
        self._threads[thread.index] = thread
        return thread

    def forget_thread(self, thread: Thread) -> None:
        """Let go of a thread that does not run any more."""
        if self._threads.get(thread.index) is thread:
            del self._threads[thread.index]

    def drive(self, thread: Thread) -> int:
        """Run a thread on this one until it returns.

        :returns: its ``rax``, signed.
        """
        with self._lock:
            self._running.add(thread)
        thread.driver = threading.get_native_id()
        try:
            while True:
                what = thread.run()
                if what == _FINISHED:
                    return signed(thread.registers.rax)
                if what == _FAULTED:
                    if self._rewriter is not None:
                        if self._rewriter.put_right(thread, thread.fault()[0]):
                            continue
                        self._rewriter.show(thread)
                    if not self.personality.faulted(thread):
                        raise GuestFault(thread)
                elif what == _FAILED:
                    error, thread.error = thread.error, None
                    raise error if error is not None else RuntimeError("a hook has left its call undecided")
                else:
                    raise GuestKilled(thread.killed_by)
        finally:
            thread.detach()
            with self._ended:
                self._running.discard(thread)
                self._ended.notify_all()

    def start_thread(self, thread: Thread) -> Callable[[], None]:
        """Start a thread that the guest has made, on one of its own, whose id it has by then.

        :returns: what lets it begin.
        """
        with self._lock:
            self._running.add(thread)
        started, begin = threading.Event(), threading.Event()
        failures: list[OSError] = []

        def main() -> None:
            try:
                thread.attach()
            except OSError as error:
                failures.append(error)
                started.set()
                return
            started.set()
            begin.wait()
            self._run_thread(thread)

        threading.Thread(target=main, name="trapline-guest", daemon=True).start()
        started.wait()
        if failures:
            with self._lock:
                self._running.discard(thread)
            raise failures[0]
        return begin.set

    @property
    def threads(self) -> list[Thread]:
        """Its threads, those that have just begun included."""
        return list(self._threads.values())

    def _run_thread(self, thread: Thread) -> None:
        try:
            if self._ending:
                thread.detach()
                return
            self.drive(thread)
        except End:
            pass
        except BaseException as error:
            self.end(None, error)
        finally:
            self.personality.ended(thread)
            self.forget_thread(thread)
            with self._ended:
                self._running.discard(thread)
                self._ended.notify_all()

    def exit(self, status: int) -> NoReturn:
        """End the guest with a status, from a thread of its own: for personalities."""
        self.end(status & 0xFF)
        raise End

    def execute(self, path: str, command: list[str], env: dict[str, str]) -> NoReturn:
        """End the guest, from a thread of its own, and have a command run in its place: for personalities."""
        with self._lock:
            if not self._ending:
                self._command = path, command, env
        self.end(0)
        raise End

    def end(self, status: int | None, failure: BaseException | None = None) -> None:
        """End all threads, with the status of the guest or because of a failure; the first one counts.

        :param status: 0 to 255, or minus the signal that ended it.
        """
        with self._lock:
            if not self._ending:
                self._ending = True
                self._status = status
                self._failure = failure
            running = list(self._running)
        for thread in running:
            thread.kick()

    def _kick_all(self) -> None:
        with self._lock:
            running = list(self._running)
        for thread in running:
            thread.kick()

    def _limited(self, timeout: float | None) -> threading.Timer | None:
        if timeout is None:
            return None
        self._deadline = time.monotonic() + timeout
        timer = threading.Timer(timeout, self._kick_all)
        timer.daemon = True
        timer.start()
        return timer

    def _innermost(self) -> Thread | None:
        tid = threading.get_native_id()
        inner = [thread for thread in self._running if thread.driver == tid]
        return inner[-1] if inner else None

    def _wait_for_others(self) -> None:
        """Wait for the other threads; what interrupts that ends them."""
        while True:
            try:
                with self._ended:
                    self._ended.wait_for(lambda: not self._running, 0.2 if self._deadline else None)
                    if not self._running:
                        break
                if self._deadline is not None and time.monotonic() >= self._deadline and not self._ending:
                    raise TimeoutError("the guest still runs after the time it was given")
            except BaseException:
                self.end(None)
                raise
        if not self._ending:
            self.end(self._last_status())

    def _last_status(self) -> int:
        return int(getattr(self.personality, "last_status", 0))
