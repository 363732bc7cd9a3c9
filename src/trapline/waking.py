"""Waiting that no signal slips past.

Python runs handlers between instructions, so one whose signal comes between the last instruction and the system call
that waits is called when that is over, which may be never. Under load that window is wide: a thread may have to hand
over the interpreter's lock in it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

__all__ = ["poll"]


def poll(poller: select.poll, milliseconds: float | None) -> list[tuple[int, int]]:
    """Wait as ``poller.poll`` does, but also end, with nothing, when there was a signal that has a handler.

    Only the main thread gets signals: on others this is all the same.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        except ValueError:  # not the main thread
            return poller.poll(milliseconds)
        try:
            poller.register(reader, 1)  # POLLIN
            found = poller.poll(milliseconds)
        finally:
            signal.set_wakeup_fd(before)
            numbers = _read(reader)
            if before >= 0 and numbers:
                _pass_on(before, numbers)
    finally:
        os.close(reader)
        os.close(writer)
    return [(fd, event) for fd, event in found if fd != reader]


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 512)
    except BlockingIOError:
        return b""


def _pass_on(writer: int, numbers: bytes) -> None:
    with suppress(OSError):  # as Python itself: who does not read has enough to wake up
        os.write(writer, numbers)
