"""Signals while hooks decide."""

from __future__ import annotations

import ctypes
import os
import signal
import threading

import trapline
from trapline import on


def test_a_handled_signal_waits_for_the_reply(engine, victim):
    seen = []

    @on("getppid")
    def hook(call):
        seen.append(call.waits())
        os.kill(call.pid, signal.SIGUSR1)
        seen.append(call.waits())
        return call.reply(1)

    done = trapline.run(
        [victim("restarts")], hooks=[hook], engine=engine, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1 1\n"
    assert seen == [True, True]


def test_a_fatal_signal_does_not_wait_for_the_reply(engine, victim, sys):
    @on("getppid")
    def hook(call):
        os.kill(call.pid, signal.SIGTERM)
        while call.waits():
            os.sched_yield()
        return call.reply(1)

    done = trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine, timeout=60)
    assert done.returncode == -15
    assert done.stats.gone == 1


def test_descriptors_arrive_whole_while_the_supervisor_gets_signals(engine, victim):
    """Under notify, ADDFD with SEND that one interrupts leaves the caller with neither descriptor nor error (6.18)."""
    ticks = 0

    def tick(number, frame):
        nonlocal ticks
        ticks += 1

    @on("openat")
    def hook(call):
        path = call.path
        if path and path.startswith("/virtual/"):
            return call.reply_fd(path.encode())

    before = signal.signal(signal.SIGPROF, tick)
    stop = threading.Event()

    def fire():
        while not stop.wait(0.001):
            for task in os.listdir("/proc/self/task"):
                ctypes.CDLL(None).syscall(234, os.getpid(), int(task), int(signal.SIGPROF))

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        done = trapline.run(
            [victim("opener"), "4", "400"],
            hooks=[hook],
            engine=engine,
            capture_output=True,
            text=True,
            timeout=100,
        )
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGPROF, before)
    assert done.stdout == "1600 right\n", done
    assert ticks > 0


def test_descriptors_arrive_while_the_program_gets_signals(engine, victim):
    @on("openat")
    def hook(call):
        path = call.path
        if path and path.startswith("/virtual/"):
            return call.reply_fd(path.encode())

    done = trapline.run(
        [victim("opener"), "4", "300", "1000"],
        hooks=[hook],
        engine=engine,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "1200 right\n", done


def test_the_session_ends_when_the_last_task_is_gone(engine):
    """No call is ever made on the listener: its hang-up alone has to be noticed."""

    @on("personality")
    def hook(call):
        return None

    for _ in range(20):
        assert trapline.run(["true"], hooks=[hook], engine=engine, timeout=60).returncode == 0
