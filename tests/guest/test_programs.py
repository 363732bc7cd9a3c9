"""Whole programs as guests: they say what they say natively."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "applet",
    [
        ["echo", "a", "b"],
        ["ls", "-la", "/etc"],
        ["sha256sum", "/bin/ls"],
        ["sh", "-c", "i=0; while [ $i -lt 50 ]; do i=$((i+1)); done; echo $i; exit 3"],
        ["awk", "BEGIN { for (i = 0; i < 1000; i++) s += i; print s; exit 2 }"],
    ],
    ids=lambda words: words[0],
)
def test_busybox_applets(same, busybox, applet):
    same(busybox, *applet)


def test_a_filter_reads_what_it_is_given(same, busybox):
    same(busybox, "sort", "-r", input=b"one\ntwo\nthree\n" * 1000)


def test_a_dynamic_program(same):
    same("/bin/ls", "-la", "/usr")


@pytest.mark.parametrize("kind", ["dynamic", "static", "static-pie"])
def test_a_program_whose_memory_grows_moves_and_goes(same, victim, kind):
    same(victim("guest/memory", kind))


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_program_with_16_threads(same, victim, kind):
    same(victim("guest/sixteen", kind))


def test_threads_that_map_memory_at_once(same, victim):
    same(victim("guest/mappers", "static"))


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_program_that_sends_itself_signals(same, victim, kind):
    same(victim("guest/handlers", kind))


def test_a_go_program_with_goroutines(same, go_program):
    same(go_program)


def test_sqlite_over_a_database_file(run, tmp_path):
    sqlite = shutil.which("sqlite3")
    if sqlite is None:
        pytest.skip("there is no sqlite3 here")
    script = (
        "create table t(a integer primary key, b text);"
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)"
        " insert into t select i, hex(i * i) from n;"
        "update t set b = b || 'x' where a % 7 = 0; delete from t where a % 11 = 0;"
        "select count(*), sum(length(b)), max(b) from t; pragma integrity_check;"
    )
    native = subprocess.run([sqlite, str(tmp_path / "native.db"), script], capture_output=True, timeout=60)
    assert run(sqlite, str(tmp_path / "guest.db"), script) == (0, native.stdout, b"")
    check = subprocess.run(
        [sqlite, str(tmp_path / "guest.db"), "select count(*) from t"], capture_output=True
    )
    assert check.stdout == b"1819\n"


def test_a_script_is_run_by_its_interpreter(same, busybox, tmp_path):
    script = tmp_path / "script"
    script.write_text(f"#!{busybox} sh\necho $0 $1\n")
    script.chmod(0o755)
    same(str(script), "x")


def test_hooks_and_rules_of_the_command_line(run, busybox, tmp_path):
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "from trapline import on\n"
        "@on('openat', 'open')\n"
        "def serve(call):\n"
        "    if call.path == '/etc/motd': return call.reply_fd(b'from a hook\\n')\n"
    )
    assert run(busybox, "cat", "/etc/motd", options=("-s", str(hooks))) == (0, b"from a hook\n", b"")
    rules = ("-e", "getuid,geteuid:retval=4321", "--stats")
    status, output, said = run(busybox, "id", "-u", options=rules)
    assert (status, output) == (0, b"4321\n")
    assert b"trapline: engine" in said


def test_what_cannot_be_executed_has_the_usual_status(run, tmp_path):
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    assert run(str(tmp_path / "missing"))[0] == 127
    assert run(str(tmp_path / "text"))[0] == 126


def test_a_fault_is_reported_and_ends_the_guest(run, victim):
    status, _, said = run(victim("guest/wild", "static"))
    assert status == 128 + signal.SIGSEGV
    assert b"guest got SIGSEGV" in said
    assert b"rax" in said


def test_a_guest_that_runs_for_ever_is_interrupted(trapline, guest_engine, victim):
    """Ctrl-C ends it, and Python with it."""
    child = subprocess.Popen(
        [trapline, "guest", "--engine", guest_engine, "--", victim("guest/forever", "static")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    child.send_signal(signal.SIGINT)
    try:
        child.communicate(timeout=20)
    finally:
        child.kill()
    assert child.returncode == -signal.SIGINT


def test_a_guest_that_waits_for_ever_is_interrupted(trapline, guest_engine, busybox):
    child = subprocess.Popen(
        [trapline, "guest", "--engine", guest_engine, "--", busybox, "sh", "-c", "echo begun; read x"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=20)
    finally:
        child.kill()
    assert child.returncode == -signal.SIGINT
    for pipe in (child.stdin, child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()


def test_time_is_up(run, victim):
    status, _, said = run(victim("guest/forever", "static"), options=("--timeout", "0.3"))
    assert status == 125
    assert b"still runs" in said


@pytest.fixture(scope="session")
def go_program(tmp_path_factory, go_environment):
    if shutil.which("go") is None:
        pytest.skip("Go is not here (golang)")
    program: Path = tmp_path_factory.mktemp("go") / "goroutines"
    source = Path(__file__).parent.parent / "victims" / "guest" / "goroutines.go"
    subprocess.run(["go", "build", "-o", program, source], check=True, env=go_environment)
    return str(program)
