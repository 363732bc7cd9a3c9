"""Taking hold of programs that run already, and letting go of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys as python
import time

import pytest

import trapline
from trapline import on, on_return
from trapline.engines.base import ENGINES, STARTABLE


@pytest.fixture(params=[name for name in STARTABLE if "attach" in ENGINES[name]])
def attaching(request):
    """Every engine that can attach."""
    return request.param


@pytest.fixture(autouse=True)
def _leaves_nothing(leaves_nothing):
    """No test here may leave a process or a descriptor behind."""


@pytest.fixture
def program():
    """Start a program that talks over pipes; it ends with the test."""
    started = []

    def start(*command, ready=b"ready\n"):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == ready
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(60)
        for file in (process.stdin, process.stdout, process.stderr):
            file.close()


def status(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(line.split()[1] for line in file if line.startswith(name))


def is_held(pid):
    """Whether it has a tracer or an agent."""
    with open(f"/proc/{pid}/maps") as file:
        return status(pid, "TracerPid") != "0" or "memfd:trapline" in file.read()


ECHO = "print('ready', flush=True)\nfor line in open(0): print({}, flush=True)"


def test_hooks_act_while_attached_and_not_after(attaching, program):
    @on("getppid")
    def hook(call):
        return call.reply(77)

    process = program(python.executable, "-c", "import os\n" + ECHO.format("os.getppid()"))

    def ask():
        process.stdin.write(b"\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    for _ in range(3):
        with trapline.Session.attach(process.pid, hooks=[hook], engine=attaching) as session:
            assert session.pid == process.pid
            assert ask() == 77
            assert is_held(process.pid)
        assert ask() == os.getpid()
        assert not is_held(process.pid)
        assert status(process.pid, "Seccomp:") == "0"
        assert session.stats.calls == {"getppid": 1}
    process.stdin.close()
    assert process.wait(60) == 0


def test_threads_children_and_new_programs_belong_to_it(attaching, program):
    seen = []

    @on_return("getpgid", "getpriority")
    def hook(call):
        seen.append((call.name, call.pid == process.pid, call.process.comm))

    code = (
        "import os, subprocess, sys, threading\n"
        "def ask(): os.getpgid(0)\n"
        "gate = threading.Event()\n"
        "old = threading.Thread(target=lambda: (gate.wait(), ask()))\n"
        "old.start()\n"
        "print('ready', flush=True)\n"
        "open(0).readline(); gate.set(); old.join()\n"
        "new = threading.Thread(target=ask); new.start(); new.join()\n"
        "if os.fork() == 0: os.getpriority(os.PRIO_PROCESS, 0); os._exit(0)\n"
        "os.wait(); subprocess.run(['nice', 'true'])\n"
    )
    process = program(python.executable, "-c", code)
    session = trapline.Session.attach(process.pid, hooks=[hook], engine=attaching)
    process.stdin.write(b"\n")
    process.stdin.close()
    assert session.wait(60) == 0
    assert [own for name, own, _ in seen if name == "getpgid"] == [True, True]
    assert any(name == "getpriority" and not own for name, own, _ in seen)
    assert any(comm == "nice" for _, _, comm in seen)


def test_a_busy_program_loses_nothing_over_many_cycles(attaching, program, victim):
    process = program(victim("busy"), "6")
    counts = []

    @on("getppid", "poll")
    def before(call):
        return None

    @on_return("getppid", "read", "nanosleep", "clock_nanosleep", "fork", "clone")
    def after(call):
        return None

    for _ in range(25):
        with trapline.Session.attach(process.pid, hooks=[before, after], engine=attaching) as session:
            while session.stats.received < 50:
                time.sleep(0.001)
        counts.append(session.stats.received)
    process.stdin.close()
    out = process.stdout.read().decode().splitlines()
    assert process.wait(60) == 0
    assert out[0] == "0 wrong"
    assert out[1:] == ["TracerPid:\t0", "SigBlk:\t0000000000000000", "NoNewPrivs:\t0", "Seccomp:\t0"]
    assert min(counts) >= 50


def test_a_call_that_has_begun_goes_on_and_one_that_waits_for_a_hook_is_performed(attaching, program):
    held = []

    @on("getppid")
    def hold(call):
        held.append(call.tid)
        while call.waits():
            time.sleep(0.001)

    code = "import os\n" + ECHO.format("os.getppid()")
    process = program(python.executable, "-c", code)  # it is in a read now
    with trapline.Session.attach(process.pid, hooks=[hold], engine=attaching):
        process.stdin.write(b"\n")
        process.stdin.flush()
        while not held:
            time.sleep(0.001)
    assert int(process.stdout.readline()) == os.getpid()


@pytest.mark.parametrize("how", ["eintr", "restart", "stop", "ignored"])
def test_letting_go_in_the_middle_of_a_call_does_not_show(attaching, victim, how):
    """Attached again and again, while the victim's call is interrupted by its own signals."""
    native = subprocess.run([victim("interrupted"), how], capture_output=True, text=True).stdout
    process = subprocess.Popen([victim("interrupted"), how], stdout=subprocess.PIPE, text=True)

    @on("read", "clock_nanosleep")
    def before(call):
        return None

    @on_return("read", "clock_nanosleep")
    def after(call):
        return None

    try:
        while process.poll() is None:
            with trapline.Session.attach(process.pid, hooks=[before, after], engine=attaching):
                pass
    except trapline.EngineStartError:
        pass  # it has ended
    assert process.communicate(timeout=60)[0] == native


def test_conditions_and_rules_hold_without_a_filter(attaching, program):
    code = "import os\n" + ECHO.format(
        "[os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PGRP, 0), os.getuid(), "
        "os.path.exists('/etc/hosts')]"
    )
    process = program(python.executable, "-c", code)

    @on("getpriority", when=trapline.arg("which") == os.PRIO_PGRP)
    def hook(call):
        return call.reply(20 - 7)

    rules = ["getuid:retval=7", "newfstatat,stat,statx:path=/etc/*:error=ENOENT"]
    with trapline.Session.attach(process.pid, hooks=[hook], rules=rules, engine=attaching) as session:
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"[0, 7, 7, False]\n"
        assert session.stats.calls == {"getpriority": 1}


def test_arguments_change_and_calls_are_performed_there_too(attaching, program, tmp_path):
    (tmp_path / "other").write_text("other")
    code = ECHO.format("open('/no/such/file').read()")
    process = program(python.executable, "-c", code)

    @on("openat", changes_args=True)
    def hook(call):
        if call.path == "/no/such/file":
            call.write_arg("filename", str(tmp_path / "other"))
            assert call.perform() > 2

    with trapline.Session.attach(process.pid, hooks=[hook], engine=attaching):
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"other\n"


def test_files_are_handed_over_there_too(attaching, program):
    process = program(python.executable, "-c", ECHO.format("open('/no/such/file').read()"))

    @on("openat")
    def hook(call):
        return call.reply_fd(b"served") if call.path == "/no/such/file" else None

    with trapline.Session.attach(process.pid, hooks=[hook], engine=attaching):
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"served\n"


def test_the_end_of_a_child_is_its_parent_s_to_wait_for(attaching, program):
    @on("getppid")
    def hook(call):
        return None

    for code, expected in (("exit 5", 5), ("kill -TERM $$", -15)):
        process = program("sh", "-c", f"echo ready; read -r x; {code}")
        session = trapline.Session.attach(process.pid, hooks=[hook], engine=attaching)
        process.stdin.close()
        assert session.wait(60) == expected
        assert process.wait(60) == expected


def test_the_end_of_a_stranger_is_known(attaching, program):
    """Somebody else's child: its end is told to its tracer first, and then to its parent."""

    @on("getppid")
    def hook(call):
        return None

    process = program(
        "sh",
        "-c",
        "exec 3<&0; sh -c 'echo $$ >&2; echo ready; read -r x <&3; exit 9' & wait $!; echo said $?",
    )
    inner = int(process.stderr.readline())
    session = trapline.Session.attach(inner, hooks=[hook], engine=attaching)
    process.stdin.close()
    assert session.wait(60) == 9
    assert process.stdout.read() == b"said 9\n"


def test_a_stopped_program_stays_stopped(attaching, program):
    @on("getppid")
    def hook(call):
        return None

    process = program("sh", "-c", "echo ready; exec cat")
    os.kill(process.pid, signal.SIGSTOP)
    while status(process.pid, "State") != "T":
        time.sleep(0.001)
    with trapline.Session.attach(process.pid, hooks=[hook], engine=attaching):
        assert status(process.pid, "State") in ("t", "T")
    # On its way back into the stop from which it was let go it runs for a moment.
    while (state := status(process.pid, "State")) == "R":
        time.sleep(0.001)
    assert state == "T"
    os.kill(process.pid, signal.SIGCONT)
    process.stdin.write(b"goes on\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"goes on\n"


def test_a_hook_that_raises_lets_the_program_go_and_is_told(attaching, program):
    @on("getppid")
    def hook(call):
        raise LookupError("on purpose")

    process = program(python.executable, "-c", "import os\n" + ECHO.format("os.getppid()"))
    session = trapline.Session.attach(process.pid, hooks=[hook], engine=attaching)
    process.stdin.write(b"\n")
    process.stdin.flush()
    with pytest.raises(trapline.HookError, match="on purpose"):
        session.wait(60)
    assert int(process.stdout.readline()) == os.getpid()


def test_an_exception_lets_the_program_go(attaching, program):
    @on("getppid")
    def hook(call):
        return call.reply(1)

    process = program(python.executable, "-c", "import os\n" + ECHO.format("os.getppid()"))
    with pytest.raises(RuntimeError), trapline.Session.attach(process.pid, hooks=[hook], engine=attaching):
        raise RuntimeError("on purpose")
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert int(process.stdout.readline()) == os.getpid()


def test_after_letting_go_there_is_nothing_to_wait_for(attaching, program):
    @on("getppid")
    def hook(call):
        return None

    process = program("sh", "-c", "echo ready; exec cat")
    session = trapline.Session.attach(process.pid, hooks=[hook], engine=attaching)
    session.detach()
    session.detach()
    with pytest.raises(trapline.UsageError, match="let go"):
        session.wait()


def test_what_cannot_be_attached_to_says_why(attaching, program):
    @on("getppid")
    def hook(call):
        return None

    def refused(pid, error=trapline.EngineStartError):
        with pytest.raises(error) as caught:
            trapline.Session.attach(pid, hooks=[hook], engine=attaching)
        return str(caught.value)

    assert "it is gone" in refused(1 << 22)
    assert "cannot attach to itself" in refused(os.getpid(), trapline.UsageError)
    assert "not yours to trace" in refused(2)
    process = program("sh", "-c", "echo ready; exec cat")
    with trapline.Session.attach(process.pid, hooks=[hook], engine=attaching):
        assert "already" in refused(process.pid)
    with pytest.raises(trapline.UnsupportedByEngineError, match="attach"):
        trapline.Session.attach(process.pid, hooks=[hook], engine="notify")
    with pytest.raises(trapline.UsageError, match="runs already"):
        trapline.Session.attach(process.pid, hooks=[hook], engine=attaching, cwd="/")


def test_the_supervisor_s_death_lets_it_go_on(attaching, program, tmp_path):
    process = program(python.executable, "-c", "import os\n" + ECHO.format("os.getppid()"))
    script = (
        "import os, sys, trapline\n"
        "@trapline.on('getppid')\n"
        "def hook(call):\n"
        "    os.write(1, b'asked'); import threading; threading.Event().wait()\n"
        f"session = trapline.Session.attach({process.pid}, hooks=[hook], engine={attaching!r})\n"
        "os.write(1, b'held')\n"
        "session.wait()\n"
    )
    supervisor = subprocess.Popen([python.executable, "-c", script], stdout=subprocess.PIPE)
    assert supervisor.stdout.read(4) == b"held"
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert supervisor.stdout.read(5) == b"asked"
    supervisor.kill()
    supervisor.communicate()
    assert int(process.stdout.readline()) == os.getpid()
    process.stdin.close()
    assert process.wait(60) == 0
