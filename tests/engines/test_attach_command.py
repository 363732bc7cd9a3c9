"""``trapline attach``: what the command line does with a running process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOOP = "import os, sys\nfor line in sys.stdin:\n    os.write(1, line.encode())\n"
HOOKS = """
from trapline import on


@on("write")
def see(call):
    print("seen", flush=True)
"""


def ask(target: subprocess.Popen[str]) -> str:
    assert target.stdin is not None
    assert target.stdout is not None
    target.stdin.write("question\n")
    target.stdin.flush()
    return target.stdout.readline()


@pytest.mark.parametrize("attaching", ["rewrite", "sud", "ptrace"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_lets_go_of_a_process_that_goes_on_as_before(trapline, tmp_path, attaching, number):
    script = tmp_path / "hooks.py"
    script.write_text(HOOKS)
    target = subprocess.Popen(
        [sys.executable, "-u", "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert ask(target) == "question\n"
        attached = subprocess.Popen(
            [trapline, "attach", "-v", "--engine", attaching, "-s", str(script), str(target.pid)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert attached.stderr is not None
        assert attached.stdout is not None
        assert f"engine {attaching}" in attached.stderr.readline()
        assert ask(target) == "question\n"
        assert attached.stdout.readline() == "seen\n"
        attached.send_signal(number)
        _, said = attached.communicate(timeout=30)
        assert attached.returncode == 0
        assert said == f"trapline: let go of process {target.pid}\n"
        assert ask(target) == "question\n"
        with open(f"/proc/{target.pid}/maps") as maps:
            assert "trapline" not in maps.read()
    finally:
        target.communicate(timeout=30)
    assert target.returncode == 0


def test_a_process_that_is_not_there_is_said_so(cli):
    done = cli("attach", "4194304")
    assert done.returncode == 125
    assert "ESRCH" in done.stderr
    assert cli("attach", "self").returncode == 125
