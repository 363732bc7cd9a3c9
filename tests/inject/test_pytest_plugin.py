"""The fixtures that trapline brings to pytest."""

from __future__ import annotations

import socket
import subprocess

import pytest

PYTHON = "/usr/bin/python3"


def test_commands_in_the_block_meet_the_faults(faults):
    with faults("getppid:retval=77:when=2") as injected:
        done = subprocess.run(
            [PYTHON, "-c", "import os; print(os.getppid() == 77, os.getppid())"], capture_output=True
        )
    assert done.stdout == b"False 77\n"
    assert injected.count == 1
    assert (injected.hits[0]["call"], injected.hits[0]["number"]) == ("getppid", 2)
    done = subprocess.run(
        [PYTHON, "-c", "import os; print(os.getppid() == 77, os.getppid() == 77)"], capture_output=True
    )
    assert done.stdout == b"False False\n"


def test_shell_commands_meet_them_too(faults):
    with faults("mkdir:error=ENOSPC"):
        done = subprocess.run("mkdir x", shell=True, capture_output=True, text=True)
    assert "No space left on device" in done.stderr


def test_a_wrong_expression_is_refused_at_once(faults):
    from trapline.errors import UsageError

    with pytest.raises(UsageError, match="unknown error"), faults("read:error=ENOSUCH"):
        pass


def test_what_a_command_wrote_is_known(trace, tmp_path):
    t = trace(["sh", "-c", "echo hello > out; mkdir folder; cat /etc/hostname"], cwd=tmp_path)
    assert t.returncode == 0
    assert t.wrote(str(tmp_path / "out")) == [str(tmp_path / "out")]
    assert not t.wrote("/etc")
    assert "/etc/hostname" in t.opened("/etc")
    assert [path.rsplit("/", 1)[-1] for path in t.executed()] == ["sh", "mkdir", "cat"]
    assert t.calls("mkdir")[0].result == 0
    assert not t.connections()


def test_where_a_command_connects_to_is_known(trace):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port})).close()"
        assert trace([PYTHON, "-c", script]).connections() == [f"127.0.0.1:{port}"]


def test_a_sweep_fails_with_what_is_not_survived(sweep, victim):
    with pytest.raises(pytest.fail.Exception, match="openat:error=EACCES") as failure:
        sweep([victim("fragile")], names=("openat",))
    assert "3 of 3 faults are not survived" in str(failure.value)
    assert len(sweep([victim("fragile")], names=("openat",), report=True)) == 3
    assert sweep(["sort", "/etc/passwd"], names=("openat", "read")) == []
