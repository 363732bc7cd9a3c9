"""Many guests one after another, and this process around them."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from trapline import on
from trapline.errors import UsageError
from trapline.guest import Guest, GuestFault, Linux

MINE = "mov eax, 110\nsyscall\nret"


@on("getppid")
def orphan(call):
    return call.reply(77)


def counts() -> tuple[int, int, int]:
    """Descriptors, threads, and lines of the memory map."""
    gc.collect()
    # The kernel may still have threads that Python has joined; a library that other tests use has some of its own.
    until = time.monotonic() + 2
    while len(os.listdir("/proc/self/task")) > threading.active_count() and time.monotonic() < until:
        pass
    with open("/proc/self/maps") as file:
        lines = len(file.readlines())
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), lines


def is_mapped(address: int) -> bool:
    with open("/proc/self/maps") as maps:
        ends = [line.split()[0].split("-") for line in maps]
    return any(int(low, 16) <= address < int(high, 16) for low, high in ends)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def test_guests_leave_nothing_behind(guest_engine, assemble):
    """125 guests on each of 8 engines are a thousand."""
    code = assemble(MINE)

    def live() -> None:
        with Guest(engine=guest_engine, hooks=[orphan], rules=["getuid:retval=5"]) as g:
            made = g.arena.load_code(code)
            assert [g.call(made) for _ in range(20)] == [77] * 20

    for _ in range(5):
        live()
    before, memory = counts(), resident()
    for _ in range(125):
        live()
    after = counts()
    assert after[:2] == before[:2]
    assert after[2] <= before[2] + 20
    assert resident() - memory < 2000  # pages: what malloc keeps


def test_programs_leave_nothing_behind(guest_engine, busybox, tmp_path):
    script = (
        "import gc, os, sys, threading\n"
        "from trapline.guest import Guest\n"
        "def state():\n"
        "    gc.collect()\n"
        "    # The kernel may still have threads that Python has joined.\n"
        "    while len(os.listdir('/proc/self/task')) > threading.active_count(): pass\n"
        "    return (len(os.listdir('/proc/self/fd')), len(os.listdir('/proc/self/task')),\n"
        "            open('/proc/self/maps').read().count(chr(10)))\n"
        "def live():\n"
        "    with Guest(engine=sys.argv[1]) as guest:\n"
        "        guest.load(sys.argv[2], [sys.argv[2], 'true'])\n"
        "        assert guest.run() == 0\n"
        "for _ in range(3): live()\n"
        "before = state()\n"
        "for _ in range(20): live()\n"
        "after = state()\n"
        "assert after[:2] == before[:2] and after[2] <= before[2] + 10, (before, after)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, guest_engine, busybox], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_four_programs_at_once(guest_engine, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(300_000))
    failures: list[object] = []

    def live(number: int) -> None:
        try:
            with Guest(engine=guest_engine, personality=Linux(own_files=True)) as g:
                g.load("/bin/cp", ["cp", str(source), str(tmp_path / f"copy{number}")])
                if g.run(timeout=60):
                    failures.append(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=live, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for number in range(4):
        assert (tmp_path / f"copy{number}").read_bytes() == source.read_bytes()


def test_handlers_of_python_run_while_a_guest_does(guest, assemble):
    got = []
    before = signal.signal(signal.SIGALRM, lambda *_: got.append(threading.current_thread()))
    try:
        g = guest()
        flag = g.arena.map(4096)

        def ring(*_):
            got.append(threading.current_thread())
            g.arena.memory(flag, 1)[:] = b"\1"

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        code = g.arena.load_code(assemble("1: cmp byte ptr [rdi], 0\nje 1b\nmov eax, 5\nret"))
        assert g.call(code, flag, timeout=20) == 5
    finally:
        signal.signal(signal.SIGALRM, before)
    assert got == [threading.main_thread()]


def test_a_handler_that_raises_ends_the_call(guest, assemble):
    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    @on("getppid")
    def begin(call):
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.signal(signal.SIGALRM, stop)
    g = guest(hooks=[begin])
    endless = g.arena.load_code(assemble("mov eax, 110\nsyscall\n1: jmp 1b"))
    try:
        with pytest.raises(StopError):
            g.call(endless, timeout=20)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert g.call(g.arena.load_code(assemble("mov eax, 5\nret"))) == 5


def test_a_hook_that_waits_is_interrupted(guest, assemble):
    """On the main thread it ends; on one of the guest's it is left, and the guest is of no use until it is through."""
    over, waited = threading.Event(), threading.Event()

    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    @on("getppid")
    def wait(call):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            over.wait()
        finally:
            waited.set()

    before = signal.signal(signal.SIGALRM, stop)
    g = guest(hooks=[wait])
    code = g.arena.load_code(assemble(MINE))
    five = g.arena.load_code(assemble("mov eax, 5\nret"))
    try:
        with pytest.raises(StopError):
            g.call(code)
        if not waited.is_set():
            assert "trap" in g.engine
            with pytest.raises(UsageError, match="still waits"):
                g.call(five)
        over.set()
        waited.wait()
    finally:
        over.set()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("guest_engine", ["trap", "rewrite:trap"], indirect=True)
def test_a_guest_whose_hook_was_left_to_wait_is_closed_at_once(guest_engine, assemble):
    """What the hook needs of it is given back when it is through."""
    over, through = threading.Event(), threading.Event()

    @on("getppid")
    def wait(call):
        os.kill(os.getpid(), signal.SIGUSR1)
        over.wait()
        through.set()

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        g = Guest(engine=guest_engine, hooks=[wait])
        with pytest.raises(KeyboardInterrupt):
            g.call(g.arena.load_code(assemble(MINE)))
        start = g.arena.start
        g.close()
        assert is_mapped(start)
        over.set()
        assert through.wait(30)
        while is_mapped(start):
            pass
    finally:
        over.set()
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_of_python_go_on(guest, assemble):
    """The guest says that it runs, and runs until another thread has waited a few times."""
    g = guest()
    page = g.arena.map(4096)
    shared = g.arena.memory(page, 2)
    over = threading.Event()

    def tick():
        while not shared[1] and not over.is_set():
            time.sleep(0.001)
        for _ in range(20):
            time.sleep(0.001)
        shared[0] = 1

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        text = "mov byte ptr [rdi+1], 1\n1: cmp byte ptr [rdi], 0\nje 1b\nmov eax, 5\nret"
        assert g.call(g.arena.load_code(assemble(text)), page, timeout=60) == 5
    finally:
        over.set()
        thread.join()
        shared.release()


def test_faulthandler_still_reports_faults_that_are_our_own(guest_engine):
    script = (
        "import ctypes, faulthandler, sys\n"
        "from trapline.guest import Guest, GuestFault, Linux\n"
        "faulthandler.enable()\n"
        "with Guest(engine=sys.argv[1]) as guest:\n"
        "    try: guest.call(guest.arena.load_code(bytes.fromhex('31c08b00c3')))\n"
        "    except GuestFault: print('guest', flush=True)\n"
        "    ctypes.string_at(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, guest_engine], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "guest\n"
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_faulthandler_enabled_between_two_runs_does_not_get_the_guests_faults(guest, assemble):
    g = guest()
    bad = g.arena.load_code(assemble("ud2"))
    was = faulthandler.is_enabled()
    with pytest.raises(GuestFault):
        g.call(bad)
    faulthandler.enable()
    try:
        with pytest.raises(GuestFault):
            g.call(bad)
    finally:
        if not was:
            faulthandler.disable()


def test_what_was_ours_of_signals_is_as_it_was(guest_engine, assemble):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with Guest(engine=guest_engine) as g:
        g.call(g.arena.load_code(assemble(MINE)))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
