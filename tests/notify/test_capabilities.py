"""What the engine cannot do, and what it holds."""

from __future__ import annotations

import contextlib
import os

import pytest

import trapline
from trapline import on


def test_what_notify_cannot_do_is_refused_by_name_at_start(engine, victim):
    @trapline.on_return("read")
    def log_result(call):
        return None

    @on("write", changes_args=True)
    def shout(call):
        return None

    for hook, name in ((log_result, "log_result"), (shout, "shout")):
        with pytest.raises(trapline.UnsupportedByEngineError, match=name) as caught:
            trapline.run(["true"], hooks=[hook], engine=engine)
        assert caught.value.engine == engine
        assert "engine" in str(caught.value)


def test_write_arg_on_notify_says_what_to_declare(engine, calls, sys):
    @on("getppid")
    def hook(call):
        with pytest.raises(trapline.UnsupportedByEngineError, match="changes_args=True"):
            call.write_arg("arg0", 1)
        return call.reply(1)

    assert calls([sys("getppid")], [hook], engine=engine) == ["1"]


@on("personality")
def unmoved(call):
    return None


def holds_a_listener():
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # listing has a descriptor of its own, closed by now
            if "seccomp" in os.readlink(f"/proc/self/fd/{fd}"):
                return True
    return False


def test_a_process_that_the_supervisor_forks_holds_no_listener_and_ends_nothing(engine):
    with trapline.Session(["cat"], hooks=[unmoved], engine=engine, stdin=trapline.PIPE) as session:
        assert holds_a_listener()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, b"held" if holds_a_listener() else b"free")
                # What the exception handling of a forked copy would do.
                session.__exit__(ValueError, ValueError(), None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with open(reader, "rb") as said:
            assert said.read() == b"free"
        assert session.poll() is None
        session.stdin.close()
        assert session.wait() == 0


def test_a_later_program_that_keeps_its_vdso_ends_the_session(engine):
    @on("clock_gettime", "gettimeofday", "time")
    def hook(call):
        return None

    # Who is traced already cannot be met at its execve.
    command = ["sh", "-c", "date; exec strace -f -o /dev/null date"]
    with pytest.raises(trapline.EngineStartError, match="cannot hide the vDSO"):
        trapline.run(command, hooks=[hook], engine=engine, capture_output=True)
    kept = trapline.run(command, hooks=[hook], engine=engine, capture_output=True, hide_vdso=False)
    assert kept.returncode == 0
