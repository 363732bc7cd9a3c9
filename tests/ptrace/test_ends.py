"""What becomes of a program whose supervisor dies, and of calls whose callers do."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys as python

import pytest

import trapline
from trapline import on

HOOKS = """
import os
from trapline import on

@on("getppid")
def hold(call):
    os.write(2, b"held\\n")
    import threading
    threading.Event().wait()
"""


def test_the_program_dies_with_its_supervisor(trapline, engine, tmp_path, victim, sys):
    """A call that a hook was to refuse must not happen because nobody is there to refuse it."""
    (tmp_path / "hooks.py").write_text(HOOKS)
    reader, writer = os.pipe()
    words = ["fork " + sys("pause"), sys("getppid"), sys("rmdir", f"s:{tmp_path}/kept")]
    (tmp_path / "kept").mkdir()
    script = f"'{victim('caller')}' '{sys('pause')}' & exec '{victim('caller')}' '{words[1]}' '{words[2]}'"
    process = subprocess.Popen(
        [trapline, "run", "--engine", engine, "-s", str(tmp_path / "hooks.py"), "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[writer],
    )  # fmt: skip
    os.close(writer)
    # A shell asks for its parent too.
    assert process.stderr.readline() == b"held\n"
    process.kill()
    process.communicate(timeout=60)
    # Everybody who has the other end is gone.
    assert select.select([reader], [], [], 60)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGALRM])
def test_who_is_to_die_does_not_wait_for_a_hook(engine, victim, sys, number):
    @on("getppid")
    def hook(call):
        os.kill(call.pid, number)
        while call.waits():
            os.sched_yield()
        return call.reply(1)

    done = trapline.run(
        [victim("caller"), sys("getppid"), sys("exit_group", 3)], hooks=[hook], engine=engine, timeout=60
    )
    assert done.returncode == -number
    assert done.stats.gone == 1


def test_a_signal_that_is_blocked_or_handled_waits_for_the_hook(engine, tmp_path):
    @on("getppid")
    def hook(call):
        import time

        os.kill(call.pid, signal.SIGTERM)
        os.kill(call.pid, signal.SIGUSR1)
        time.sleep(0.2)  # several looks of the tracer at what is pending; right without it as well
        assert call.waits()
        return call.reply(5)

    code = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "signal.signal(signal.SIGUSR1, lambda *a: print('handled', flush=True))\n"
        "print(os.getppid(), signal.sigpending(), flush=True)\n"
    )
    done = trapline.run(
        [python.executable, "-c", code], hooks=[hook], engine=engine, capture_output=True, text=True
    )
    assert done.stdout.split() == ["handled", "5", "{<Signals.SIGTERM:", "15>}"]


def test_a_session_that_cannot_trace_says_so(engine, victim, trapline):
    import shutil

    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    # Who traces trapline and what it starts leaves nothing for it to trace.
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", trapline, "run", "--engine", engine, "--", "true"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 125
    assert "PTRACE_SEIZE" in done.stderr
    assert "trapline doctor" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_profile_that_refuses_ptrace_is_told_with_the_way_out(engine, victim, trapline):
    done = subprocess.run(
        [victim("outer_filter"), "101:1", "--", trapline, "run", "--engine", engine, "--", "true"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 125
    assert "SYS_PTRACE" in done.stderr


def test_a_profile_that_refuses_seccomp_is_told(engine, victim, trapline):
    done = subprocess.run(
        [victim("outer_filter"), "317:1", "--", trapline, "run", "--engine", engine, "--", "true"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 125
    assert "SECCOMP_SET_MODE_FILTER" in done.stderr


def test_it_works_where_somebody_has_a_listener_already(engine, trapline, never_matches):
    """Unlike notify: there may be but one listener in a tree, and any number of filters."""
    inner = [trapline, "run", "--engine", engine, "-e", "getppid:retval=7", "--", "sh", "-c", "echo $PPID"]
    done = subprocess.run(
        [trapline, "run", "--engine", "notify", "-s", never_matches, "--", *inner],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "7\n"), done
