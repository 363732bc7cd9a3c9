"""Hooks that are coroutine functions."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

import trapline
from trapline import Errno, HookError, on


def test_an_async_hook_decides_like_any_other(engine, calls, sys):
    @on("getppid")
    async def hook(call):
        await asyncio.sleep(0)
        return call.reply(call.args.arg0 + 1)

    assert calls([sys("getppid", 4), sys("getppid", 5)], [hook], engine=engine) == ["5", "6"]


def test_an_async_hook_may_fail_serve_and_leave_alone(engine, calls, sys, tmp_path):
    @on("openat", "mkdir")
    async def hook(call):
        await asyncio.sleep(0)
        if call.path == "/virtual":
            return call.reply_fd(b"from a coroutine")
        return call.fail(Errno.EDOM) if call.path == "/refused" else None

    words = [
        sys("openat", -100, "s:/virtual", 0),
        "cat $",
        sys("mkdir", "s:/refused", 0),
        sys("mkdir", f"s:{tmp_path}/x", 0),
    ]
    assert calls(words, [hook], engine=engine)[1:] == ["from a coroutine", "-33", "0"]
    assert (tmp_path / "x").is_dir()


def test_plain_and_async_hooks_keep_their_order(engine, calls, sys):
    asked = []

    @on("getppid")
    def first(call):
        asked.append("plain")

    @on("getppid")
    async def second(call):
        asked.append("async")

    @on("getppid")
    def third(call):
        asked.append("plain again")
        return call.reply(3)

    @on("getppid")
    async def fourth(call):
        asked.append("never")

    assert calls([sys("getppid")], [first, second, third, fourth], engine=engine) == ["3"]
    assert asked == ["plain", "async", "plain again"]


@pytest.mark.parametrize(
    "shape", ["function", "partial", "method", "callable object", "partial of an object"]
)
def test_whatever_is_awaitable_is_awaited(engine, calls, sys, shape):
    async def function(call, extra=1):
        return call.reply(extra)

    class Holder:
        async def method(self, call):
            return call.reply(1)

        async def __call__(self, call):
            return call.reply(1)

    if shape == "method":

        class Decorated:
            @on("getppid")
            async def method(self, call):
                return call.reply(1)

        hook = Decorated().method
    else:
        made = {
            "function": function,
            "partial": functools.partial(function, extra=1),
            "callable object": Holder(),
            "partial of an object": functools.partial(Holder()),
        }
        hook = on("getppid")(made[shape])
    assert calls([sys("getppid")], [hook], engine=engine) == ["1"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_async_hook_that_raises_anything_ends_the_session(engine, victim, sys, error):
    @on("getppid")
    async def hook(call):
        raise error("on purpose")

    with pytest.raises(HookError) as caught:
        trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine, timeout=20)
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize(("policy", "expected"), [("fail:ENXIO", "-6"), ("continue", None)])
@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
def test_an_async_hook_that_raises_may_be_told_to_go_on(engine, calls, sys, capfd, error, policy, expected):
    import os

    @on("getppid")
    async def hook(call):
        call.reply(77)
        raise error("on purpose")

    lines = calls([sys("getppid"), sys("getppid")], [hook], engine=engine, on_hook_error=policy)
    assert lines == [expected or str(os.getpid())] * 2
    assert capfd.readouterr().err.count("a hook for getppid raised") == 2


def test_an_async_hook_that_returns_something_else_is_told(engine, victim, sys):
    @on("getppid")
    async def hook(call):
        return 5

    with pytest.raises(HookError, match="a hook returns None or a decision"):
        trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine, timeout=20)


def test_any_number_of_async_hooks_wait_at_one_time(engine, victim):
    """More than there are workers: all 200 threads have to be in the hook before one gets out."""
    arrived = 0
    everybody = None

    @on("getppid")
    async def hook(call):
        nonlocal arrived, everybody
        everybody = everybody or asyncio.Event()
        arrived += 1
        if arrived == 200:
            everybody.set()
        await everybody.wait()
        return call.reply(1)

    done = trapline.run([victim("threads"), "200"], hooks=[hook], engine=engine, workers=4, timeout=60)
    assert done.returncode == 0
    assert arrived == 200
    assert done.stats.workers <= 4


def test_many_threads_that_begin_at_once_share_one_event_loop(engine, victim):
    loops = set()

    @on("getppid")
    async def hook(call):
        loops.add(asyncio.get_running_loop())
        return call.reply(1)

    for _ in range(10):
        loops.clear()
        trapline.run([victim("threads"), "32"], hooks=[hook], engine=engine, timeout=60)
        assert len(loops) == 1
        assert not [thread for thread in threading.enumerate() if thread.name == "trapline-hooks"]


def test_a_program_killed_while_async_hooks_wait_ends_the_session_without_error(engine, victim):
    """Nobody is left to answer, and that is no failure of the hook."""
    all_wait = threading.Event()
    waiting = 0

    @on("getppid")
    async def hook(call):
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            all_wait.set()
        await asyncio.Event().wait()

    with trapline.Session([victim("threads"), "20"], hooks=[hook], engine=engine) as session:
        assert all_wait.wait(60)
        session.send_signal(9)
        assert session.wait(60) == -9


def test_threads_that_die_with_calls_still_queued_are_no_hook_s_failure(engine, victim):
    @on("getppid")
    async def hook(call):
        await asyncio.sleep(0)
        return call.reply(1)

    for _ in range(40):
        done = trapline.run([victim("threads"), "24", "exit"], hooks=[hook], engine=engine, timeout=60)
        assert done.returncode == 0
