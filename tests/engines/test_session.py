"""``trapline.run`` and ``Session``: what :mod:`subprocess` does, under hooks."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

import trapline
from trapline import UsageError, on


@on("getppid")
def unmoved(call):
    return None


def test_output_and_error_output_are_captured_apart_or_together(engine):
    command = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    done = trapline.run(command, hooks=[unmoved], engine=engine, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr, done.args) == (7, b"out\n", b"err\n", command)
    assert isinstance(done, subprocess.CompletedProcess)
    together = trapline.run(command, engine=engine, stdout=trapline.PIPE, stderr=trapline.STDOUT, text=True)
    assert together.stdout == "out\nerr\n"
    assert together.stderr is None


def test_input_of_a_megabyte_passes_through(engine):
    data = os.urandom(1 << 20)
    assert (
        trapline.run(["cat"], input=data, stdout=trapline.PIPE, hooks=[unmoved], engine=engine).stdout == data
    )


def test_input_that_nobody_reads_is_no_error(engine):
    assert trapline.run(["true"], input=b"x" * (1 << 20), engine=engine).returncode == 0


def test_text_is_decoded_and_newlines_are_one(engine):
    done = trapline.run(["printf", r"a\r\nb\rc\303\244"], capture_output=True, text=True, engine=engine)
    assert done.stdout == "a\nb\ncä"
    assert (
        trapline.run(["cat"], input="ä", encoding="latin-1", stdout=trapline.PIPE, engine=engine).stdout
        == "ä"
    )
    assert (
        trapline.run(["printf", r"\377"], capture_output=True, errors="replace", engine=engine).stdout
        == "\ufffd"
    )


def test_stdin_stdout_and_files_go_where_they_are_sent(engine, tmp_path):
    (tmp_path / "in").write_text("from a file")
    with open(tmp_path / "in") as source, open(tmp_path / "out", "w") as sink:
        trapline.run(["cat"], stdin=source, stdout=sink, engine=engine)
    assert (tmp_path / "out").read_text() == "from a file"
    assert trapline.run(["cat"], stdin=trapline.DEVNULL, stdout=trapline.PIPE, engine=engine).stdout == b""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_standard_descriptors_that_are_closed_here_do_not_mix_up_the_program_s(
    engine, trapline, tmp_path, closed
):
    """The listener, the channel or a pipe may then get a number below 3."""
    shut = "; ".join(f"os.close({fd})" for fd in closed)
    code = (
        f"import os, trapline; {shut}; h = trapline.on('getppid')(lambda call: None); "
        "done = trapline.run(['sh', '-c', 'read -r x; echo $x; echo err >&2'], hooks=[h], "
        "input=b'through\\n', capture_output=True); "
        f"open('{tmp_path}/result', 'w').write(repr((done.returncode, done.stdout, done.stderr)))"
    )
    python = os.path.join(os.path.dirname(trapline), "python")
    subprocess.run([python, "-c", code], timeout=60, check=False)
    assert (tmp_path / "result").read_text() == repr((0, b"through\n", b"err\n"))


def test_check_raises_with_output(engine):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        trapline.run(["sh", "-c", "echo out; exit 3"], check=True, capture_output=True, engine=engine)
    assert (caught.value.returncode, caught.value.stdout) == (3, b"out\n")


def test_cwd_and_env_are_the_program_s(engine, tmp_path):
    done = trapline.run(
        ["/bin/sh", "-c", "pwd; echo $WHO"],
        cwd=tmp_path,
        env={"WHO": "me"},
        capture_output=True,
        engine=engine,
    )
    assert done.stdout.decode() == f"{tmp_path}\nme\n"


def test_a_program_is_looked_up_in_the_path_of_its_own_environment(engine, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    done = trapline.run(["tool"], env={"PATH": f"/nowhere:{tmp_path}"}, capture_output=True, engine=engine)
    assert done.stdout == b"found\n"


def test_a_timeout_kills_everything(engine, tmp_path):
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    script = f"exec 3> {tmp_path}/alive; sleep 1000 & sleep 1000"
    with pytest.raises(subprocess.TimeoutExpired):
        trapline.run(["sh", "-c", script], timeout=0.5, capture_output=True, hooks=[unmoved], engine=engine)
    # Nobody holds the other end any more: reading ends instead of being told to wait.
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_timeout_ends_a_program_whose_call_waits_for_a_hook(engine, victim, sys):
    release = threading.Event()

    @on("getppid")
    def hook(call):
        release.wait(60)

    with pytest.raises(subprocess.TimeoutExpired):
        trapline.run([victim("caller"), sys("getppid")], timeout=0.5, hooks=[hook], engine=engine)
    release.set()


def test_a_daemon_that_is_left_behind_is_waited_for_and_hooked(engine, tmp_path):
    @on("rmdir")
    def hook(call):
        return call.reply(0)

    (tmp_path / "kept").mkdir()
    os.mkfifo(tmp_path / "gate")
    daemon = f"read -r x < {tmp_path}/gate; rmdir {tmp_path}/kept && touch {tmp_path}/done"
    session = trapline.Session(["sh", "-c", f"setsid sh -c '{daemon}' & exit 4"], hooks=[hook], engine=engine)
    with session:
        while session.poll() is None:
            os.sched_yield()
        with pytest.raises(TimeoutError):
            session.wait(0.01)
        assert session.returncode == 4
        (tmp_path / "gate").write_text("go\n")
        assert session.wait(60) == 4
    assert (tmp_path / "done").exists()
    assert (tmp_path / "kept").exists()


def test_poll_tells_whether_the_command_runs(engine):
    with trapline.Session(["cat"], stdin=trapline.PIPE, hooks=[unmoved], engine=engine) as session:
        assert session.poll() is None
        session.stdin.close()
        assert session.wait(60) == 0
        assert session.poll() == 0


def test_statistics_count_what_happened(engine, calls, sys):
    @on("getppid", "getuid")
    def hook(call):
        return call.reply(1)

    calls([sys("getppid")] * 3 + [sys("getuid")], [hook], rules=["getgid:when=1:retval=4"], engine=engine)
    stats = calls.done.stats
    assert stats.calls == {"getppid": 3, "getuid": 1}
    assert (stats.received, stats.answered, stats.gone) == (4, 4, 0)
    assert stats.engine == engine
    assert set(stats.as_dict()) >= {"calls", "received", "seconds"}


def test_sessions_leave_no_descriptor_and_no_thread_behind(engine):
    def threads():
        return len(os.listdir("/proc/self/task"))

    trapline.run(["true"], hooks=[unmoved], engine=engine)
    descriptors, before = len(os.listdir("/proc/self/fd")), threads()
    for _ in range(30):
        trapline.run(["true"], hooks=[unmoved], engine=engine)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    # A worker is on its way out for a moment after it has said so.
    deadline = time.monotonic() + 30
    while threads() > before and time.monotonic() < deadline:
        os.sched_yield()
    assert threads() <= before


def test_sessions_in_threads_at_one_time_do_not_disturb_each_other(engine, victim, sys):
    results = []

    def session(number):
        @on("getppid")
        def hook(call):
            return call.reply(number)

        done = trapline.run(
            [victim("caller"), *[sys("getppid")] * 20], hooks=[hook], engine=engine, capture_output=True
        )
        results.append(done.stdout.split() == [str(number).encode()] * 20)

    threads = [threading.Thread(target=session, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_a_session_may_be_started_by_another_thread_while_signals_arrive(engine):
    ticks = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: ticks.append(number))
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            stop.wait(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        for _ in range(20):
            assert (
                trapline.run(
                    ["sh", "-c", "echo hi"], hooks=[unmoved], capture_output=True, engine=engine
                ).stdout
                == b"hi\n"
            )
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert ticks


def test_a_child_that_is_reaped_elsewhere_is_no_catastrophe(engine):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert trapline.run(["true"], engine=engine, timeout=60).returncode in (0, 255)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": "ls -l"}, "list"),
        ({"command": []}, "list"),
        ({"command": ["a\0b"]}, "NUL"),
        ({"workers": 0}, "workers"),
        ({"workers": 5000}, "workers"),
        ({"engine": "magic"}, "no engine"),
        ({"on_hook_error": "fail:ENOSUCH"}, "on_hook_error"),
        ({"on_hook_error": "ignore"}, "on_hook_error"),
        ({"hooks": [print]}, "decorate"),
    ],
)
def test_options_that_cannot_be_understood_say_so(options, said):
    with pytest.raises(UsageError, match=said):
        trapline.run(options.pop("command", ["true"]), **options)


def test_engines_that_are_not_built_say_so(monkeypatch):
    monkeypatch.setattr("trapline.engines.choose.STARTABLE", ("notify",))
    with pytest.raises(trapline.UnsupportedByEngineError, match="ptrace"):
        trapline.run(["true"], engine="ptrace")


def test_commands_that_cannot_be_executed_say_why(engine, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"\x7fELF nonsense")
    wrong.chmod(0o755)
    for command, error in (
        (["/no/such"], 2),
        (["no-such-command"], 2),
        ([str(plain)], 13),
        ([str(wrong)], 8),
        ([""], 2),
    ):
        with pytest.raises(trapline.CommandError) as caught:
            trapline.run(command, hooks=[unmoved], engine=engine)
        assert caught.value.errno == error
    with pytest.raises(trapline.CommandError) as caught:
        trapline.run(["true"], cwd="/no/such/folder", engine=engine)
    assert caught.value.filename == "/no/such/folder"


def test_an_exec_that_a_hook_refuses_is_an_error_of_the_command(engine):
    @on("execve")
    def hook(call):
        return call.fail(13)

    with pytest.raises(trapline.CommandError) as caught:
        trapline.run(["true"], hooks=[hook], engine=engine)
    assert caught.value.errno == 13


def test_a_hook_that_never_returns_does_not_hold_up_the_end(cli, tmp_path, victim, sys):
    """The program is killed; its hook still waits; trapline ends all the same."""
    script = tmp_path / "hook.py"
    script.write_text(
        "import os, signal, threading\nfrom trapline import on\n\n\n"
        '@on("getppid")\ndef forever(call):\n'
        "    os.kill(call.pid, signal.SIGKILL)\n    threading.Event().wait()\n"
    )
    done = cli("run", "-s", str(script), "--", victim("caller"), sys("getppid"))
    assert done.returncode == 137


def test_a_plain_hook_beside_an_async_one_that_never_returns_does_not_hold_up_the_end(
    cli, tmp_path, victim, sys
):
    script = tmp_path / "hook.py"
    script.write_text(
        "import os, signal, threading\nfrom trapline import on\n\n\n"
        '@on("getppid")\nasync def first(call):\n    pass\n\n\n'
        '@on("getppid")\ndef forever(call):\n'
        "    os.kill(call.pid, signal.SIGKILL)\n    threading.Event().wait()\n"
    )
    done = cli("run", "-s", str(script), "--", victim("caller"), sys("getppid"))
    assert done.returncode == 137


def test_io_uring_is_refused_unless_asked_for(engine, calls, sys):
    import errno

    refused = calls([sys("io_uring_setup", 4, "b:256")], engine=engine)
    assert refused == [str(-errno.EPERM)]
    allowed = calls([sys("io_uring_setup", 4, "b:256")], allow_io_uring=True, engine=engine)
    native = subprocess.run(
        [calls.done.args[0], sys("io_uring_setup", 4, "b:256")], capture_output=True, text=True
    )
    assert allowed == native.stdout.splitlines()


def test_a_hook_that_computes_for_long_holds_up_no_other_thread(engine):
    began, may_end = threading.Event(), threading.Event()

    @on("rmdir")
    def busy(call):
        began.set()
        while not may_end.is_set():
            sum(range(1000))
        return call.reply(0)

    @on("getpgrp")
    def quick(call):
        if began.is_set():
            may_end.set()

    program = """if True:
        import os, threading
        thread = threading.Thread(target=os.rmdir, args=["/nowhere"])  # which lets other threads of Python run
        thread.start()
        while thread.is_alive():
            os.getpgrp()
        """
    done = trapline.run(
        ["/usr/bin/env", "python3", "-c", program], hooks=[busy, quick], engine=engine, timeout=100
    )
    assert done.returncode == 0


def test_a_program_may_have_another_name_than_its_file(engine):
    words = ["other", "-c", "echo $0"]
    done = trapline.run(words, executable="/bin/sh", engine=engine, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "other\n")
    assert done.args == words
    with pytest.raises(trapline.CommandError, match="/nowhere"):
        trapline.run(words, executable="/nowhere", engine=engine)
