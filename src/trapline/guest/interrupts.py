"""Python's own signals while a guest runs on the main thread.

There every signal is blocked: a handler would run with the guest's registers. So another thread takes them; Python's
handler in C notes the signal and writes to the wakeup descriptor, whose reader kicks the main thread out of the guest,
where Python then calls what is due.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

from trapline.guest.descriptors import lift

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from trapline.guest.thread import Thread

__all__ = ["watching"]


class _Watch:
    """The thread that takes signals, and what runs on the main thread, the innermost last."""

    def __init__(self) -> None:
        self.running: list[Thread] = []
        self._writer = -1
        self._owner = 0

    def descriptor(self) -> int:
        """Return what Python's handler is to write to; the reader runs from then on."""
        if self._owner != os.getpid():  # in a process that was forked no thread is left
            reader, self._writer = map(lift, os.pipe2(os.O_CLOEXEC))
            os.set_blocking(self._writer, False)
            self._owner = os.getpid()
            threading.Thread(target=self._read, args=(reader,), name="trapline-signals", daemon=True).start()
        return self._writer

    def _read(self, reader: int) -> None:
        while os.read(reader, 512):
            for thread in list(self.running):
                thread.guest.disturb(thread)


_watch = _Watch()


@contextmanager
def watching(thread: Thread) -> Iterator[None]:
    """Have Python's signal handlers called in time while *thread* may run here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = None
    if not _watch.running:
        before = signal.set_wakeup_fd(_watch.descriptor(), warn_on_full_buffer=False)
    _watch.running.append(thread)
    try:
        yield
    finally:
        _watch.running.pop()
        if before is not None:
            signal.set_wakeup_fd(before)
