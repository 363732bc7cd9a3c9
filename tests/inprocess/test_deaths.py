"""Either side dies: nobody is left waiting for it."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess

import pytest

HOLD = """
import os, threading

@on("getppid")
def hold(call):
    os.write(2, b"held\\n")
    threading.Event().wait()

@on("getuid")
def other(call):
    return call.reply(5)
"""


@pytest.fixture
def held(trapline, inside, tmp_path):
    """Start a command whose getppid never gets an answer; returns the process and a pipe that ends with the tree."""
    (tmp_path / "hooks.py").write_text(f"from trapline import on\n{HOLD}")
    reader, writer = os.pipe()
    started = []

    def start(*command):
        process = subprocess.Popen(
            [trapline, "run", "--engine", inside, "-s", str(tmp_path / "hooks.py"), "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
        )
        os.close(writer)
        started.append(process)
        return process, reader

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    os.close(reader)


def test_calls_get_enosys_once_the_supervisor_is_dead(held, victim):
    calls = ["sys 110", "sys 102", "sys 104", "thread sys 102", "fork sys 102", "sys 110"]
    process, tree = held(victim("caller"), *calls)
    assert process.stderr.readline() == b"held\n"
    process.kill()
    assert process.wait() == -9
    assert os.read(tree, 1) == b""
    gone = str(-errno.ENOSYS)
    # Under ptrace, who dies takes the program along.
    assert process.stdout.read().decode().split() in (
        [gone, gone, str(os.getgid()), gone, gone, gone],
        [],
    )


def test_many_threads_that_wait_are_all_released_when_the_supervisor_dies(held, victim):
    process, tree = held(victim("threads"), "32")
    for _ in range(32):
        assert process.stderr.readline() == b"held\n"
    process.kill()
    process.wait()
    assert os.read(tree, 1) == b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_may_be_killed_while_its_hook_runs(held, victim, number):
    process, tree = held(victim("caller"), "sys 39", "sys 110")
    program = int(process.stdout.readline())
    assert process.stderr.readline() == b"held\n"
    os.kill(program, number)
    assert os.read(tree, 1) == b""
    process.kill()


HANDLED = """
import os, signal, time

held = []

@on("getppid")
def hook(call):
    held.append(call)
    if len(held) == 1:
        os.kill(call.pid, signal.SIGUSR1)
    return call.reply(9)
"""


def test_a_handled_signal_during_a_hook_comes_when_the_call_is_over(under, victim):
    done = under([victim("restarts")], HANDLED)
    assert done.stdout == "9 1\n"
    assert done.stderr == ""


def test_a_death_at_any_moment_leaves_nobody_behind(trapline, inside, tmp_path, victim):
    (tmp_path / "hooks.py").write_text(
        "from trapline import on\n\n\n@on('openat', 'getpid', 'mmap')\ndef hook(call):\n    call.pid\n"
    )
    command = ["sh", "-c", "for i in 1 2 3; do /bin/echo $i; (exec /bin/true) & done; wait"]
    chance = random.Random(7)
    for _ in range(int(os.environ.get("TRAPLINE_DEATHS", "10"))):
        reader, writer = os.pipe()
        words = [trapline, "run", "--engine", inside, "-s", str(tmp_path / "hooks.py"), "--", *command]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writer],
        )
        os.close(writer)
        try:
            process.wait(chance.uniform(0.02, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        assert os.read(reader, 1) == b""
        os.close(reader)


# A tracer is told of each new thread, and has to let it go on.
@pytest.mark.parametrize("inner", ["rewrite", "sud", "trap"])
def test_a_program_goes_on_while_the_supervisor_is_stopped(trapline, inner):
    program = (
        "import os, sys, threading\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read(1)\n"
        # Each a site that becomes hot; nobody says how it could be rewritten.
        "calls = (os.getppid, os.getpgrp, os.getuid, os.getegid)\n"
        "work = lambda: [call() for _ in range(2000) for call in calls]\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
        "print('done', flush=True)\n"
        "sys.stdin.read(1)\n"
    )
    command = [trapline, "run", "--engine", inner, "--", "/usr/bin/python3", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGSTOP)
            process.stdin.write(b"x")
            assert process.stdout.readline() == b"done\n"
        finally:
            process.send_signal(signal.SIGCONT)
        process.stdin.write(b"x")
        assert process.wait(60) == 0
