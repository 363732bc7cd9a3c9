"""Timers of a Linux guest: alarm, setitimer and timer_create, whose signals are for the guest alone."""

from __future__ import annotations

import heapq
import itertools
import os
import struct
import threading
import time
from time import monotonic

from trapline.guest.linux.signals import Signals, siginfo
from trapline.guest.linux.threads import state_of
from trapline.guest.personality import does

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from trapline.call import Call
    from trapline.guest.guest import Guest
    from trapline.guest.thread import Thread

__all__ = ["Timers"]

_EINVAL, _ENOSYS, _EOPNOTSUPP = 22, 38, 95
_SIGALRM, _SI_KERNEL, _SI_TIMER = 14, 0x80, -2
_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD, _SIGEV_THREAD_ID = 0, 1, 2, 4
_TIMER_ABSTIME = 1
#: CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI: those that go on whoever runs.
_CLOCKS = frozenset({0, 1, 7, 11})
_BILLION = 1_000_000_000
_OVERRUN_MAX = (1 << 31) - 1


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class _Schedule:
    """A thread that calls functions when they are due. It is there from the first one until :meth:`close`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, at: float, function: Callable[[], None]) -> None:
        """Have *function* called when ``time.monotonic()`` is *at*."""
        with self._changed:
            heapq.heappush(self._due, (at, next(self._serial), function))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="trapline-guest-timers", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed:
                    left = self._due[0][0] - monotonic() if self._due else None
                    if left is not None and left <= 0:
                        break
                    self._changed.wait(left)
                if self._closed:
                    return
                function = heapq.heappop(self._due)[2]
            function()

    def close(self) -> None:
        """Forget what is due, and end the thread."""
        with self._changed:
            self._closed = True
            self._due = []
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()


class _Timer:
    """Something that expires, once or again and again.

    :ivar at: when it expires next, in ``time.monotonic()``; 0 when it is not set.
    :ivar every: seconds after which it expires again, or 0.
    :param expire: called with how often it has expired at once.
    """

    def __init__(self, schedule: _Schedule, expire: Callable[[int], None]) -> None:
        self._schedule = schedule
        self._expire = expire
        self._lock = threading.Lock()
        self._setting: object = None
        self.at = self.every = 0.0

    def set(self, seconds: float, every: float) -> tuple[float, float]:
        """Set it, with 0 seconds not at all, and return what was left of it and how it repeated."""
        with self._lock:
            old = self._left(), self.every
            self.at = monotonic() + seconds if seconds > 0 else 0.0
            self.every = every
            self._plan()
            return old

    def left(self) -> tuple[float, float]:
        """Return the seconds until it expires, 0 when it is not set, and how it repeats."""
        with self._lock:
            return self._left(), self.every

    def _left(self) -> float:
        return max(self.at - monotonic(), 1e-9) if self.at else 0.0

    def _plan(self) -> None:
        # What was planned for another setting finds that it is not meant any more.
        setting = self._setting = object()
        if self.at:
            self._schedule.add(self.at, lambda: self._due(setting))

    def _due(self, setting: object) -> None:
        with self._lock:
            if self._setting is not setting:
                return
            times = 1
            if self.every:
                times += int((monotonic() - self.at) / self.every)
                self.at += times * self.every
            else:
                self.at = 0.0
            self._plan()
        self._expire(times)


class _PosixTimer(_Timer):
    """What ``timer_create`` makes.

    :ivar clock: what it was made with.
    :ivar missed: how often it has expired more while its signal waits.
    :ivar overrun: the same of the signal that was taken last.
    """

    def __init__(self, schedule: _Schedule, clock: int, expire: Callable[[int], None]) -> None:
        super().__init__(schedule, expire)
        self.clock = clock
        self.missed = self.overrun = 0


class Timers(Signals):
    """alarm, setitimer and the timers of POSIX."""

    def begin(self, guest: Guest) -> None:
        """Belong to a guest."""
        super().begin(guest)
        self._schedule = _Schedule()
        self._alarm = _Timer(self._schedule, self._ring)
        self._timers: dict[int, _PosixTimer] = {}
        self._timer_ids = itertools.count()

    def close(self) -> None:
        """End what rings."""
        self._schedule.close()
        super().close()

    def _ring(self, times: int) -> None:
        self.post(None, _SIGALRM, siginfo(_SIGALRM, _SI_KERNEL))

    @does("alarm")
    def do_alarm(self, thread: Thread, call: Call) -> int:
        left = self._alarm.set(float(call.raw[0] & 0xFFFFFFFF), 0.0)[0]
        return int(left + 0.999) if left else 0

    @does("setitimer")
    def do_setitimer(self, thread: Thread, call: Call) -> int:
        which, new, old = call.raw[:3]
        if which & 0xFFFFFFFF:
            # Of processor time, which is not the guest's alone.
            raise _error(_ENOSYS if which & 0xFFFFFFFF <= 2 else _EINVAL)
        every, every_us, value, value_us = struct.unpack("<4q", call.read(new, 32)) if new else (0, 0, 0, 0)
        if not (0 <= every_us < 1_000_000 and 0 <= value_us < 1_000_000 and every >= 0 and value >= 0):
            raise _error(_EINVAL)
        left, repeat = self._alarm.set(value + value_us / 1e6, every + every_us / 1e6)
        if old:
            call.write(old, _pair(repeat, left, 1_000_000))
        return 0

    @does("getitimer")
    def do_getitimer(self, thread: Thread, call: Call) -> int:
        if call.raw[0] & 0xFFFFFFFF:
            raise _error(_ENOSYS)
        left, repeat = self._alarm.left()
        call.write(call.raw[1], _pair(repeat, left, 1_000_000))
        return 0

    @does("timer_create")
    def do_timer_create(self, thread: Thread, call: Call) -> int:
        clock, event, result = call.raw[0] & 0xFFFFFFFF, call.raw[1], call.raw[2]
        if clock not in _CLOCKS:
            raise _error(_EOPNOTSUPP)
        number = next(self._timer_ids)
        value, signal, how, tid = number, _SIGALRM, _SIGEV_SIGNAL, 0
        if event:
            value, signal, how, tid = struct.unpack("<Qiii", call.read(event, 20))
        if how not in (_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD, _SIGEV_SIGNAL | _SIGEV_THREAD_ID):
            raise _error(_EINVAL)
        target = None
        if how & _SIGEV_THREAD_ID:
            target = next((each for each in self._guest().threads if each.tid == tid), None)
            if target is None:
                raise _error(_EINVAL)
        if how != _SIGEV_NONE and not 1 <= signal <= 64:
            raise _error(_EINVAL)

        def expire(times: int) -> None:
            waiting = state_of(target).pending if target is not None else self._shared
            if how == _SIGEV_NONE:
                return
            if waiting.has(signal, info):
                timer.missed = min(timer.missed + times, _OVERRUN_MAX)
                return
            timer.missed = times - 1
            self.post(target, signal, info)

        def info() -> bytes:
            timer.overrun = timer.missed
            return siginfo(signal, _SI_TIMER, number | timer.overrun << 32, value)

        call.write(result, number.to_bytes(4, "little"))
        timer = self._timers[number] = _PosixTimer(self._schedule, clock, expire)
        return 0

    def _timer(self, call: Call) -> _PosixTimer:
        timer = self._timers.get(call.raw[0] & 0xFFFFFFFF)
        if timer is None:
            raise _error(_EINVAL)
        return timer

    @does("timer_settime")
    def do_timer_settime(self, thread: Thread, call: Call) -> int:
        timer = self._timer(call)
        flags, new, old = call.raw[1:4]
        every_s, every_ns, value_s, value_ns = struct.unpack("<4q", call.read(new, 32))
        if not (0 <= every_ns < _BILLION and 0 <= value_ns < _BILLION and every_s >= 0 and value_s >= 0):
            raise _error(_EINVAL)
        seconds = value_s + value_ns / _BILLION
        if flags & _TIMER_ABSTIME and seconds:
            seconds = max(seconds - time.clock_gettime(timer.clock), 1e-9)
        left, repeat = timer.set(seconds, every_s + every_ns / _BILLION)
        if old:
            call.write(old, _pair(repeat, left, _BILLION))
        return 0

    @does("timer_gettime")
    def do_timer_gettime(self, thread: Thread, call: Call) -> int:
        left, repeat = self._timer(call).left()
        call.write(call.raw[1], _pair(repeat, left, _BILLION))
        return 0

    @does("timer_getoverrun")
    def do_timer_getoverrun(self, thread: Thread, call: Call) -> int:
        return self._timer(call).overrun

    @does("timer_delete")
    def do_timer_delete(self, thread: Thread, call: Call) -> int:
        self._timer(call).set(0.0, 0.0)
        del self._timers[call.raw[0] & 0xFFFFFFFF]
        return 0

    def _guest(self) -> Any:
        assert self.guest is not None
        return self.guest


def _pair(every: float, left: float, scale: int) -> bytes:
    """Return a ``struct itimerval`` (of a million) or ``itimerspec``."""
    words = []
    for seconds in (every, left):
        words += [int(seconds), int(seconds % 1 * scale)]
    return struct.pack("<4q", *words)
