"""What is recorded is there: under load, when threads and programs end, and when the tracer is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from trapline.capture import Capture
from trapline.session import Session
from trapline.trace.file import CALL, DROPPED, SIGNAL, STATUS, read

PYTHON = "/usr/bin/python3"


@pytest.fixture
def record(tmp_path):
    """Run a command and return the events that were recorded."""

    def run(engine, *command, **options):
        path = str(tmp_path / "record")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            with Session(list(command), engine=engine, capture=Capture(fd, **options), stdout=-3) as session:
                session.wait()
        finally:
            os.close(fd)
        assert session.capture_error == 0
        return list(read(path))

    return run


def counts(events):
    return Counter(event.name for event in events if event.kind == CALL)


def seen(path, name):
    """How often a call is in a record that grows: the program may run before anything is written."""
    there = path.exists() and path.stat().st_size > 24
    return counts(read(str(path)))[name] if there else 0


@pytest.mark.parametrize(("threads", "calls", "processes"), [(1, 200000, 1), (4, 20000, 2), (16, 1000, 4)])
def test_no_call_is_lost(recording, record, victim, threads, calls, processes):
    events = record(recording, victim("storm"), str(threads), str(calls), str(processes))
    assert counts(events)["getppid"] == threads * calls * processes
    assert not [event for event in events if event.kind == DROPPED]


def test_calls_of_a_thread_are_in_order_and_do_not_overlap(recording, record, victim):
    last = {}
    for event in record(recording, victim("storm"), "4", "2000", "2"):
        if event.kind == CALL and event.result is not None and event.name not in ("execve", "rt_sigreturn"):
            assert last.get(event.tid, 0) <= event.start <= event.end
            last[event.tid] = event.end


def test_more_threads_than_rings_come_and_go(record, victim):
    events = record("rewrite", victim("storm"), "6000", "3")
    assert counts(events)["getppid"] == 18000


def test_what_is_dropped_is_counted(record, victim):
    events = record("rewrite", victim("storm"), "2", "300000", drop=True)
    dropped = sum(event.result for event in events if event.kind == DROPPED)
    assert counts(events)["getppid"] + dropped >= 600000


def test_a_program_that_is_killed_has_lost_nothing_that_it_did(recording, record):
    events = record(recording, "sh", "-c", "echo one; umask 077; kill -9 $$")
    names = [event.name for event in events if event.kind == CALL]
    assert names[-3:] == ["write", "umask", "kill"] or names[-2:] == ["umask", "kill"]
    assert events[-1].kind == STATUS
    assert events[-1].result == -signal.SIGKILL


def test_a_call_that_never_returns_is_there(record, victim, trapline, tmp_path):
    path = tmp_path / "record"
    command = [
        trapline,
        "trace",
        "--format",
        "raw",
        "-o",
        str(path),
        "--",
        victim("storm"),
        "1",
        "5",
        "1",
        "hang",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "hangs\n"
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        while not Path(f"/proc/{child}/syscall").read_text().startswith("34 "):
            pass
        # Ends the program too.
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    last = [event for event in read(str(path)) if event.kind == CALL][-1]
    assert (last.name, last.result) == ("pause", None)


def test_the_file_of_a_killed_tracer_can_be_read(victim, trapline, tmp_path):
    path = tmp_path / "record"
    command = [
        trapline,
        "trace",
        "--format",
        "raw",
        "-o",
        str(path),
        "--",
        victim("storm"),
        "1",
        "1000",
        "1",
        "hang",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "hangs\n"
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        try:
            while seen(path, "getppid") < 1000:
                assert process.poll() is None
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)
    assert counts(read(str(path)))["getppid"] == 1000
    # As if it had been killed while it wrote.
    os.truncate(path, os.path.getsize(path) - 7)
    assert counts(read(str(path)))["getppid"] > 0


def test_ptrace_records_the_same(record):
    script = "import os; r, w = os.pipe(); os.write(w, b'q' * 100); os.read(r, 60); os.execv('/bin/true', ['true'])"
    found = []
    for engine in ("ptrace", "rewrite"):
        events = [event for event in record(engine, PYTHON, "-Sc", script) if event.kind == CALL]
        # What it maps depends on addresses.
        found.append(
            [(event.name, event.error) for event in events if event.name not in ("mmap", "munmap", "brk")]
        )
        write = next(event for event in events if event.name == "write")
        assert write.read(write.args[1], 100) == b"q" * 33
        assert [event.result for event in events if event.name == "execve"] == [0, 0]
        assert events[-1].name == "exit_group"
        assert events[-1].result is None
    assert found[0] == found[1]


def test_ptrace_records_that_handlers_are_entered(record):
    script = (
        "import os, signal; signal.signal(10, print); signal.signal(12, signal.SIG_IGN);"
        "os.kill(os.getpid(), 10); os.kill(os.getpid(), 12)"
    )
    events = [event for event in record("ptrace", PYTHON, "-Sc", script) if event.kind == SIGNAL]
    assert [(event.nr, int.from_bytes(event.memory[0][1][:4], "little")) for event in events] == [(10, 10)]
    assert events[0].pid == events[0].tid


def test_what_is_rare_is_recorded_where_other_calls_cost_the_least(victim):
    def engine(*names):
        with open(os.devnull, "wb") as file:
            session = Session(["true"], capture=Capture(file.fileno(), names))
        return session.engine

    assert engine("mknod", "mknodat") == "ptrace"
    assert engine("mknod", "openat") == engine("*") == "rewrite"


def test_only_what_is_asked_for_is_recorded(recording, record):
    events = record(recording, "cat", "/etc/hostname", names=("openat", "close"))
    assert set(counts(events)) == {"openat", "close"}


def test_memory_before_and_after_is_kept(recording, record):
    script = (
        "import os; r, w = os.pipe(); os.write(w, b'q' * 100); os.read(r, 60); os.open('/etc/hostname', 0)"
    )
    events = record(recording, PYTHON, "-Sc", script, limit=50, paths=True)
    write = next(event for event in events if event.kind == CALL and event.name == "write")
    assert write.read(write.args[1], 100) == b"q" * 51
    pipe = next(event for event in events if event.kind == CALL and event.name == "pipe2")
    assert len(pipe.read(pipe.args[0], 8)) == 8
    last = [event for event in events if event.kind == CALL and event.name == "openat"][-1]
    assert last.path == os.path.realpath("/etc/hostname")


def test_handlers_that_are_entered_are_recorded(recording, record):
    script = "import os, signal; signal.signal(10, print); os.kill(os.getpid(), 10)"
    events = record(recording, PYTHON, "-Sc", script)
    assert [event.nr for event in events if event.kind == SIGNAL] == [10]
    assert not [
        event for event in record(recording, PYTHON, "-Sc", script, signals=False) if event.kind == SIGNAL
    ]


def test_the_program_cannot_tell(recording, trapline, victim, tmp_path):
    command = ["sh", "-c", "cat /etc/passwd | wc -l; exit 7"]
    native = subprocess.run(command, capture_output=True)
    traced = subprocess.run(
        [trapline, "trace", "--engine", recording, "-o", "/dev/null", "--", *command], capture_output=True
    )
    assert (traced.returncode, traced.stdout, traced.stderr) == (
        native.returncode,
        native.stdout,
        native.stderr,
    )


def test_a_full_disk_ends_the_record_and_not_the_program(trapline, victim):
    done = subprocess.run(
        [trapline, "trace", "--format", "raw", "-o", "/dev/full", "--", "true"],
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 125)
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("attaching", ["rewrite", "sud"])
def test_a_running_process_is_traced_until_ctrl_c(attaching, trapline, tmp_path):
    path = tmp_path / "record"
    script = "import os, sys\nfor line in sys.stdin: print(os.umask(int(line)), flush=True)"
    with subprocess.Popen([PYTHON, "-Suc", script], stdin=-1, stdout=-1, text=True) as program:

        def ask(number):
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            assert program.stdout.readline()

        ask(1)
        # A shell may have left SIGINT ignored.
        command = ["env", "--default-signal=INT", trapline, "trace", "--engine", attaching, "--format", "raw"]
        with subprocess.Popen(
            [*command, "-o", str(path), "-p", str(program.pid)], stderr=subprocess.PIPE
        ) as us:
            while not seen(path, "umask"):
                ask(2)
            us.send_signal(signal.SIGINT)
            assert us.wait(60) == 0
        before = seen(path, "umask")
        ask(3)
        assert seen(path, "umask") == before
        assert "trapline" not in Path(f"/proc/{program.pid}/maps").read_text()
        program.stdin.close()
        assert program.wait(60) == 0
