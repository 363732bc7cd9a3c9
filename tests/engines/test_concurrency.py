"""Many threads at one time: nobody waits for anybody else's hook, and no call is lost or decided twice."""

from __future__ import annotations

import os
import threading

import trapline
from trapline import on


def test_64_hooks_run_at_one_time(engine, victim):
    """None of them gets out before all are in."""
    barrier = threading.Barrier(64)

    @on("getppid")
    def hook(call):
        barrier.wait(60)
        return call.reply(1)

    done = trapline.run([victim("threads"), "64"], hooks=[hook], engine=engine, timeout=100)
    assert done.returncode == 0
    assert not barrier.broken


def test_hooks_that_wait_do_not_hold_up_another_thread(engine, victim, sys):
    """63 hooks wait for what only the hook of a later call gives them."""
    release = threading.Event()
    entered = threading.Semaphore(0)

    @on("getppid")
    def waits(call):
        entered.release()
        release.wait(60)
        return call.reply(1)

    with trapline.Session([victim("threads"), "63"], hooks=[waits], engine=engine) as session:
        for _ in range(63):
            assert entered.acquire(timeout=60)
        release.set()
        assert session.wait(60) == 0


def test_more_calls_than_workers_are_all_answered_in_turn(engine, victim):
    at_one_time, most = 0, 0
    lock = threading.Lock()

    @on("getppid")
    def hook(call):
        nonlocal at_one_time, most
        with lock:
            at_one_time += 1
            most = max(most, at_one_time)
        os.sched_yield()
        with lock:
            at_one_time -= 1
        return call.reply(1)

    done = trapline.run([victim("threads"), "200"], hooks=[hook], engine=engine, workers=3, timeout=100)
    assert done.returncode == 0
    assert most <= 3
    assert done.stats.workers <= 3
    assert done.stats.received == 200


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def stressed(engine, victim, *, threads, calls, hertz, forks, mode="restart"):
    count = 0

    @on("getpriority")
    def hook(call):
        nonlocal count
        count += 1
        return call.reply(call.args.who + 1)

    done = trapline.run(
        [victim("stress"), *map(str, (threads, calls, hertz, forks)), mode],
        hooks=[hook], engine=engine, capture_output=True, text=True, timeout=140,
    )  # fmt: skip
    assert done.returncode == 0, done
    good, interrupted, wrong, signals = map(int, done.stdout.split())
    expected = threads * calls + (threads * (calls // forks) * 10 if forks else 0)
    assert (good, wrong) == (expected, 0), done
    assert count == done.stats.calls["getpriority"] == expected
    return interrupted, signals


def test_no_call_is_lost_doubled_or_stuck_among_64_threads_signals_and_forks(engine, victim):
    interrupted, signals = stressed(engine, victim, threads=64, calls=120, hertz=1000, forks=60)
    assert interrupted == 0
    assert signals > 0


def test_no_call_is_lost_where_handlers_do_not_restart(engine, victim):
    stressed(engine, victim, threads=16, calls=200, hertz=1000, forks=100, mode="interrupt")


def test_memory_is_flat_over_calls(engine, victim):
    stressed(engine, victim, threads=8, calls=500, hertz=0, forks=0)
    before = resident()
    for _ in range(5):
        stressed(engine, victim, threads=8, calls=1500, hertz=0, forks=0)
    # 60,000 calls: a leak of 40 bytes each would show.
    assert resident() - before < 2400
