"""The supervisor dies: nobody may be left waiting for it."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import subprocess

import pytest

HOOKS = """
import os, sys
from trapline import on

@on({names})
def hold(call):
    # A shell asks for its parent, too.
    if call.name == "getppid" and call.process.comm != "sh":
        os.write(2, b"held\\n")
        import threading
        threading.Event().wait()
"""


@pytest.fixture
def marked(tmp_path):
    """A pipe that ends when the last process of a tree has ended: its writing end is inherited by all."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def ends(reader, seconds=30):
    """Whether everybody who holds the other end closes it."""
    while select.select([reader], [], [], seconds)[0]:
        if not os.read(reader, 65536):
            return True
    return False


def end_by_force(prefix):
    """Do not leave what hangs to the tests that follow; return where in the kernel each was, "0" for running."""
    places = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if f"TRAPLINE_TEST={prefix}".encode() in file.read().split(b"\0"):
                        with open(f"/proc/{entry}/wchan") as file:
                            places.append(file.read())
                        os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue
    return places


def start(trapline, script, command, writer, mark, **options):
    return subprocess.Popen(
        [trapline, "run", "-s", script, "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[writer],
        env={**os.environ, "TRAPLINE_TEST": mark},
        **options,
    )


def test_pending_and_later_calls_get_enosys(trapline, tmp_path, victim, sys, marked):
    reader, writer = marked
    (tmp_path / "hooks.py").write_text(HOOKS.format(names='"getppid", "getuid"'))
    words = [sys("getppid"), sys("getuid"), sys("getgid"), "thread " + sys("getuid"), "fork " + sys("getuid")]
    process = start(trapline, str(tmp_path / "hooks.py"), [victim("caller"), *words], writer, "enosys")
    os.close(writer)
    assert process.stderr.readline() == b"held\n"
    process.kill()
    assert process.wait() == -9
    assert ends(reader), end_by_force("enosys")
    gone = str(-errno.ENOSYS)
    assert process.stdout.read().decode().split() == [gone, gone, str(os.getgid()), gone, gone]
    process.stdout.close()
    process.stderr.close()


def test_many_threads_and_processes_that_wait_are_all_released(trapline, tmp_path, victim, marked):
    reader, writer = marked
    (tmp_path / "hooks.py").write_text(HOOKS.format(names='"getppid"'))
    command = ["sh", "-c", f"for i in 1 2 3 4; do '{victim('threads')}' 16 & done; wait"]
    process = start(trapline, str(tmp_path / "hooks.py"), command, writer, "many")
    os.close(writer)
    for _ in range(64):
        assert process.stderr.readline() == b"held\n"
    process.kill()
    process.wait()
    assert ends(reader), end_by_force("many")
    process.stdout.close()
    process.stderr.close()


def test_a_program_that_is_stopped_while_the_supervisor_dies_ends_after_it_continues(
    trapline, tmp_path, victim, sys, marked
):
    reader, writer = marked
    (tmp_path / "hooks.py").write_text(HOOKS.format(names='"getuid"'))
    words = ["sys 39", "stop", sys("getuid")]
    process = start(trapline, str(tmp_path / "hooks.py"), [victim("caller"), *words], writer, "stopped")
    os.close(writer)
    program = int(process.stdout.readline())
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG)
    while _state(program) != "T":
        os.sched_yield()
    process.kill()
    process.wait()
    os.kill(program, signal.SIGCONT)
    assert ends(reader), end_by_force("stopped")
    assert process.stdout.read().split() == [str(-errno.ENOSYS).encode()]
    process.stdout.close()
    process.stderr.close()


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("function", ["recvmsg", "close", "eventfd"])
def test_a_death_between_clone_and_exec_leaves_no_child_behind(trapline, tmp_path, victim, marked, function):
    """The supervisor kills itself at a chosen call of its C library just after the child was made."""
    reader, writer = marked
    (tmp_path / "hooks.py").write_text(HOOKS.format(names='"*"'))
    library = victim("dies_in", "library", (), f"-DFUNCTION={function}")
    env = {
        **os.environ,
        "TRAPLINE_TEST": "between",
        "LD_PRELOAD": f"{library} {os.environ.get('LD_PRELOAD', '')}",
    }
    process = subprocess.Popen(
        [trapline, "run", "-s", str(tmp_path / "hooks.py"), "--", "/bin/echo", "ran"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[writer], env=env,
    )  # fmt: skip
    os.close(writer)
    assert process.wait(60) == -9
    assert ends(reader), end_by_force("between")


@pytest.mark.parametrize("names", ['"*"', '"execve", "execveat", "openat"', '"getppid"'])
def test_a_death_at_any_moment_leaves_nobody_behind(trapline, tmp_path, victim, names):
    """Killed after a random time, from before the start to the middle of the program's life."""
    (tmp_path / "hooks.py").write_text(
        f"from trapline import on\n\n\n@on({names})\ndef hook(call):\n    call.path\n"
    )
    command = ["sh", "-c", "for i in 1 2 3; do /bin/echo $i; (exec /bin/true) & done; wait"]
    chance = random.Random(20)
    for attempt in range(int(os.environ.get("TRAPLINE_DEATHS", "25"))):
        reader, writer = os.pipe()
        process = start(trapline, str(tmp_path / "hooks.py"), command, writer, "moment")
        os.close(writer)
        pause = chance.uniform(0.02, 0.25)
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        if not ends(reader, 10):
            # Under "*" every call of the shell fails with ENOSYS now, and dash may try to wait for its children for
            # ever. Then it runs; nobody may sleep in the kernel for an answer.
            places = end_by_force("moment")
            assert names == '"*"', f"attempt {attempt}: killed after {pause} seconds, and left in {places}"
            assert set(places) <= {"0", ""}, f"attempt {attempt}: killed after {pause} seconds"
        process.stdout.close()
        process.stderr.close()
        os.close(reader)
