"""Who makes a call, and who forked whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import trapline
from trapline import on


def test_pid_is_the_process_and_tid_the_thread(engine, calls, sys):
    seen = []

    @on("getppid")
    def hook(call):
        seen.append((call.pid, call.tid))

    pid = calls([sys("getpid"), sys("getppid"), "thread " + sys("getppid")], [hook], engine=engine)[0]
    assert seen[0] == (int(pid), int(pid))
    assert seen[1][0] == int(pid)
    assert seen[1][1] != int(pid)


def test_a_process_knows_its_parent_program_and_folder(engine, calls, sys, tmp_path):
    seen = []

    @on("getppid")
    def hook(call):
        process = call.process
        assert process is call.process
        parent = process.parent
        seen.append(
            (process.pid, parent and parent.pid, process.comm, process.exe, process.cwd, process.is_alive)
        )
        assert process.cmdline[0] == process.exe
        assert process.ppid == (parent.pid if parent else os.getpid())
        assert repr(process) == f"<Process {process.pid} {process.comm}>"

    words = [sys("getppid"), "fork fork " + sys("getppid"), sys("chdir", "s:/"), sys("getppid")]
    calls(words, [hook], engine=engine, cwd=tmp_path)
    victim = calls.done.args[0]
    (root, no_parent, comm, exe, cwd, alive), (grandchild, child, *_), last = seen
    assert no_parent is None
    assert (comm, exe, cwd, alive) == (os.path.basename(victim)[:15], victim, str(tmp_path), True)
    assert len({root, child, grandchild}) == 3
    assert last[4] == "/"


def test_parents_are_remembered_after_their_end(engine, calls, sys):
    processes = []

    @on("getppid")
    def hook(call):
        processes.append(call.process)

    calls(["fork fork " + sys("getppid")], [hook], engine=engine)
    process = processes[0]
    assert process.parent.parent.parent is None
    assert not process.is_alive
    assert process.comm == ""
    assert process.exe is None
    assert process.cmdline == ()


def test_a_process_is_the_same_before_and_after_exec_and_says_what_it_runs_now(engine, calls, sys):
    processes, names = [], []

    @on("getppid", "getuid")
    def hook(call):
        processes.append(call.process)
        names.append(call.process.cmdline[-1])

    getuid = sys("getuid").replace(" ", "_")
    calls([sys("getppid"), f"exec {getuid}"], [hook], engine=engine)
    assert processes[0] is processes[1]
    assert names == [f"exec {getuid}", sys("getuid")]


def test_an_orphan_has_a_new_parent_and_still_belongs_to_the_program(engine, tmp_path):
    """The shell leaves a background child behind; the session waits for it and its calls are still hooked."""
    seen = []

    @on("mkdir")
    def hook(call):
        seen.append(call.process.comm)
        return call.reply(0)

    script = f"(read -r line < {tmp_path}/gate; mkdir {tmp_path}/x) & exit 3"
    os.mkfifo(tmp_path / "gate")
    with trapline.Session(["sh", "-c", script], hooks=[hook], engine=engine) as session:
        os.waitid(os.P_PID, session.pid, os.WEXITED | os.WNOWAIT)
        with open(tmp_path / "gate", "w") as gate:
            gate.write("go\n")
        assert session.wait(60) == 3
    assert seen == ["mkdir"]
    assert not (tmp_path / "x").exists()


def test_kill_ends_everything_that_the_command_started(engine, tmp_path):
    os.mkfifo(tmp_path / "ready")
    script = f"setsid sh -c 'trap \"\" TERM INT HUP; echo $$ > {tmp_path}/ready; while :; do sleep 100; done' & wait"
    with trapline.Session(["sh", "-c", script], engine=engine) as session:
        with open(tmp_path / "ready") as ready:
            inner = int(ready.readline())
        session.kill()
        assert session.wait(60) == -9
    stat = Path(f"/proc/{inner}/stat")
    assert not stat.exists() or stat.read_text().rpartition(") ")[2][0] == "Z"


def test_a_session_that_is_left_by_an_exception_kills_its_program(engine):
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        trapline.Session(["sleep", "1000"], engine=engine) as session,
    ):
        raise RuntimeError("on purpose")
    assert session.returncode == -9


def test_a_program_in_a_new_pid_namespace_has_pids_as_seen_from_here(engine, calls, sys):
    if os.geteuid() != 0:
        pytest.skip("a new pid namespace needs root, or user namespaces")
    seen = []

    @on("getppid")
    def hook(call):
        seen.append((call.pid, os.path.exists(f"/proc/{call.pid}"), call.process.comm))

    lines = calls(["fork " + sys("getppid"), sys("getpid")], [hook], before=["unshare", "-pf"], engine=engine)
    assert lines[1] == "1"
    assert seen[0][1]
    assert seen[0][0] > 2
