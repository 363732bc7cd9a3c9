"""Waiting that no signal slips past."""

from __future__ import annotations

import ctypes
import itertools
import operator
import os
import select
import signal
import threading

from trapline import waking


class Late:
    """A poller that gets a signal when no Python is executed any more before it waits."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self.register = self._poller.register
        self.found: list[tuple[int, int]] = []

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        raise_signal = ctypes.PyDLL(None)["raise"]
        steps = [(raise_signal, int(signal.SIGUSR1)), (self._poller.poll, milliseconds)]
        self.found = list(itertools.starmap(operator.call, steps))[1]
        return self.found


def test_a_signal_that_comes_just_before_the_wait_ends_it():
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        late = Late()
        assert waking.poll(late, 5000) == []
        assert len(late.found) == 1  # it did not take all of its time
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_was_waited_for_is_told_and_another_wakeup_descriptor_gets_its_signals():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    mine, theirs = os.pipe2(os.O_NONBLOCK)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    old = signal.set_wakeup_fd(theirs)
    try:
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        os.write(writer, b"x")
        assert waking.poll(poller, None) == [(reader, select.POLLIN)]
        os.read(reader, 1)
        assert waking.poll(Late(), 5000) == []
        assert os.read(mine, 16) == bytes([signal.SIGUSR1])
        assert signal.set_wakeup_fd(theirs) == theirs
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGUSR1, before)
        for fd in (reader, writer, mine, theirs):
            os.close(fd)


def test_other_threads_just_wait():
    found: list[list[tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: found.append(waking.poll(select.poll(), 1)))
    thread.start()
    thread.join()
    assert found == [[]]
