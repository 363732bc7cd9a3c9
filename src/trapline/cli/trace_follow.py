"""Reading what ``trapline trace`` records while it is recorded."""

from __future__ import annotations

import _thread
import os

from trapline.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from trapline.trace.file import TraceFile

    class Consumer(Protocol):
        """What becomes of events."""

        def feed(self, trace: TraceFile, *, final: bool) -> None:
            """Take what is there."""

        def end(self, trace: TraceFile | None) -> None:
            """Be told that nothing follows."""


__all__ = ["Follower"]

_PERIOD = 0.02
_HEADER = 24
#: What has been read is given back to the disk each time that it is so much more.
_GIVEN_BACK = 64 << 20
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class Follower:
    """Reads a record that nobody else wants, in a thread of its own.

    :param fd: of the record, to which it is written; what has been read of it is thrown away.
    :param reading: the same, at its start.
    :param consumer: gets the events.
    :param behind: with more bytes than that not read yet, calls are passed over; 0: none ever are.
    :ivar skipped: how many bytes were.
    """

    def __init__(
        self,
        fd: int,
        reading: int,
        consumer: Consumer,
        behind: int = 0,
    ) -> None:
        self._file = open(os.dup(reading), "rb", buffering=0)  # noqa: SIM115
        self._fd = fd
        self._consumer = consumer
        self._behind = behind
        self._given_back = 0
        self.skipped = 0
        # Held until all is there.
        self._growing = _thread.allocate_lock()
        self._growing.acquire()
        self._abandoned = False
        self._failure: BaseException | None = None
        self._worker: Worker | None = None

    def __enter__(self) -> Follower:
        self._worker = Worker(self._work)
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()
        if self._failure is not None and exception[1] is None:
            raise self._failure

    def finish(self) -> None:
        """The record is complete: wait until all of it has been taken."""
        if self._worker is not None:
            self._growing.release()
            self._worker.join()
            self._worker = None

    def abandon(self) -> None:
        """Nobody wants to know the rest."""
        self._abandoned = True

    def _work(self) -> None:
        from trapline.trace.file import TraceFile

        trace: TraceFile | None = None
        try:
            while not self._abandoned:
                final = self._growing.acquire(timeout=_PERIOD)
                size = os.fstat(self._file.fileno()).st_size
                if trace is None and size >= _HEADER:
                    trace = TraceFile(self._file)
                if trace is not None:
                    left = size - self._file.tell()
                    if self._behind and left > self._behind:
                        self.skipped += trace.skip(left)
                    self._consumer.feed(trace, final=final)
                    self._give_back()
                if final:
                    break
            if not self._abandoned:
                self._consumer.end(trace)
        except BaseException as error:
            self._failure = error
        finally:
            self._file.close()

    def _give_back(self) -> None:
        here = self._file.tell() & -4096
        if here - self._given_back < _GIVEN_BACK:
            return
        import ctypes

        libc = ctypes.CDLL(None)
        # A disk that cannot do this keeps it.
        libc.fallocate(self._fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_long(self._given_back),
                       ctypes.c_long(here - self._given_back))  # fmt: skip
        self._given_back = here
