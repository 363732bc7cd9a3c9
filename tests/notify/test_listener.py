"""The kernel's side of the listener: signals before and after receipt, older kernels, descriptors under fire."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess

import pytest
from confined import in_child, refuse

import trapline
from trapline import on

NO_WAIT_KILLABLE = "317:1:32:22"  # seccomp(2) with that flag is EINVAL, as before Linux 5.19


def test_calls_are_received_while_a_hook_holds_the_interpreter(engine, victim):
    """What has been received survives a handled signal; what has not fails with EINTR. The victim tries until one does.

    The hook of one thread keeps the GIL until the victim has seen that of its other thread.
    """
    go_reader, go_writer = os.pipe()
    held_reader, held_writer = os.pipe()
    read = ctypes.PyDLL(None).read  # keeps the GIL, unlike os.read
    buffer = ctypes.create_string_buffer(1)
    order = []

    @on("getppid")
    def holder(call):
        order.append("first")
        os.write(held_writer, b"x")
        read(go_reader, buffer, 1)
        return call.reply(1)

    @on("getpgrp")
    def other(call):
        order.append("second")
        return call.reply(2)

    os.set_inheritable(go_writer, True)
    os.set_inheritable(held_reader, True)
    try:
        done = trapline.run(
            [victim("received"), str(go_writer), str(held_reader)], hooks=[holder, other], engine=engine,
            capture_output=True, timeout=60,
        )  # fmt: skip
    finally:
        for fd in (go_reader, go_writer, held_reader, held_writer):
            os.close(fd)
    assert done.stdout.decode().split() == ["received", "1", "2", "handled"], done
    assert order == ["first", "second"]


@pytest.mark.parametrize("kernel", ["waits", "does not wait"])
@pytest.mark.parametrize("restart", [True, False], ids=["SA_RESTART", "no SA_RESTART"])
def test_a_handled_signal_loses_no_call_and_doubles_none(engine, victim, kernel, restart):
    """1 kHz of signals; the hook counts what it decided, the victim what it got."""

    def session():
        count = 0

        @on("getpriority")
        def hook(call):
            nonlocal count
            count += 1
            return call.reply(call.args.who + 1)

        done = trapline.run(
            [victim("stress"), "4", "300", "1000", "0", "restart" if restart else "interrupt"],
            hooks=[hook], engine=engine, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return count, done.returncode, done.stdout, done.stderr, done.stats.gone

    if kernel == "waits":
        count, status, out, err, gone = session()
    else:
        count, status, out, err, gone = in_child(lambda: refuse(NO_WAIT_KILLABLE), session)
    assert status == 0, (out, err)
    good, interrupted, wrong, signals = map(int, out.split())
    assert wrong == 0
    assert good == 4 * 300
    assert signals > 0
    if kernel == "waits":
        assert count == good
    else:
        # A call that was interrupted after receipt is decided again, or fails: but never counts twice for the victim.
        assert good <= count <= good + gone + interrupted
    if restart:
        assert interrupted == 0


def test_without_the_flag_a_signal_makes_the_first_decision_void_and_the_second_count(engine, victim, sys):
    """The hook itself sends the signal; the restarted call comes under a new id and is decided again."""

    def session():
        seen = []

        @on("getppid")
        def hook(call):
            seen.append(call._id)
            if len(seen) == 1:
                os.kill(call.pid, signal.SIGUSR1)
                while call.waits():
                    os.sched_yield()
                return call.reply(1)
            return call.reply(2)

        done = trapline.run(
            [victim("restarts")], hooks=[hook], engine=engine, capture_output=True, text=True, timeout=60
        )
        return len(set(seen)), done.stdout, done.stats.gone

    assert in_child(lambda: refuse(NO_WAIT_KILLABLE), session) == (2, "2 1\n", 1)


def test_the_listener_wakes_on_the_same_cpu(trapline, never_matches, tmp_path):
    log = tmp_path / "log"
    command = [
        "strace",
        "-o",
        str(log),
        "-e",
        "trace=ioctl",
        trapline,
        "run",
        "-s",
        never_matches,
        "--",
        "true",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    assert done.returncode == 0
    lines = [line for line in log.read_text().splitlines() if "SET_FLAGS" in line or "0x21, 0x4, 0x8" in line]
    assert lines
    assert lines[0].endswith("= 0")
    assert "0x1)" in lines[0]


def test_a_kernel_without_that_wake_up_works_all_the_same(engine, victim, sys):
    def session():
        @on("getppid")
        def hook(call):
            return call.reply(5)

        done = trapline.run(
            [victim("caller"), sys("getppid")], hooks=[hook], engine=engine, capture_output=True
        )
        return done.stdout

    # ioctl number 0x40082104: refuse by a bit pattern that the other listener ioctls do not have is not possible
    # with one mask, so the number's lowest byte 4 does (RECV 0, SEND 1, ID_VALID 2, ADDFD 3).
    assert in_child(lambda: refuse("16:1:4:22"), session) == b"5\n"
