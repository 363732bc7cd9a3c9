"""A thread, without :mod:`threading`, whose import takes longer than everything else that a short trace needs."""

from __future__ import annotations

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Worker"]


class Worker:
    """A running thread that can be waited for; the interpreter does not wait for it when it ends.

    :param work: is called in it. It must not be the first to import :mod:`threading`, which would take its thread
        for the main one.
    """

    __slots__ = ("_running",)

    def __init__(self, work: Callable[[], object]) -> None:
        self._running = _thread.allocate_lock()
        self._running.acquire()
        try:
            _thread.start_new_thread(self._run, (work,))
        except BaseException:
            self._running.release()
            raise

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            self._running.release()

    def join(self) -> None:
        """Wait until it has ended."""
        with self._running:
            pass
