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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from trapline.guest.thread import Thread

__all__ = ["watching"]

_stack: list[Thread] = []
_reader = _writer = -1
_owner = 0


def _watch(reader: int) -> None:
    while True:
        if not os.read(reader, 512):
            return
        for thread in list(_stack):
            thread.kick()


def _start() -> None:
    global _reader, _writer, _owner
    _reader, _writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(_writer, False)
    _owner = os.getpid()
    threading.Thread(target=_watch, args=(_reader,), name="trapline-signals", daemon=True).start()


@contextmanager
def watching(thread: Thread) -> Iterator[None]:
    """Have Python's signal handlers called in time while *thread* may run here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _owner != os.getpid():
        _start()
    _stack.append(thread)
    if len(_stack) > 1:
        try:
            yield
        finally:
            _stack.pop()
        return
    before = signal.set_wakeup_fd(_writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        _stack.pop()
        signal.set_wakeup_fd(before)
