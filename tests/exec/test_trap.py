"""The trap engine: its filter outlives an execve, so what cannot be followed is not executed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
WHY = "cannot be executed under this engine: "


@pytest.fixture
def execs(victim: Callable[..., str]) -> str:
    return victim("execs")


def test_a_32_bit_program_is_refused_and_so_is_a_script_for_it(
    execs: str, victim: Callable[..., str], hooked: Run, tmp_path: Path
) -> None:
    old = victim("execs", "32")
    script = tmp_path / "script"
    script.write_text(f"#! {old} after\n")
    script.chmod(0o755)
    done = hooked("trap", ["sh", "-c", f"'{old}' after; echo $?; '{script}'; echo $?; '{execs}' after"])
    assert done.stdout.splitlines()[:2] == ["126", "126"]
    assert done.stdout.splitlines()[2].startswith(f"{execs}: hooked, ")
    assert [line for line in done.stderr.splitlines() if line.startswith("trapline")] == [
        done.stderr.splitlines()[0]
    ]
    assert done.stderr.splitlines()[0].endswith(WHY + "it is a 32-bit program")


def test_a_program_without_room_for_the_agent_is_killed(execs: str, hooked: Run) -> None:
    done = hooked("trap", ["sh", "-c", f"'{execs}' memory 10; echo $?; '{execs}' after"])
    assert done.stdout.splitlines()[0] == str(128 + signal.SIGKILL)
    assert done.stdout.splitlines()[1].startswith(f"{execs}: hooked, ")
    assert WHY + "there is no room in its memory" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes set-user-ID programs of somebody else's")
def test_a_set_user_id_program_is_refused(execs: str, hooked: Run, public_folder: Path) -> None:
    program = public_folder / "refused"
    shutil.copy(execs, program)
    program.chmod(0o4755)
    done = hooked("trap", [*NOBODY, "sh", "-c", f"'{program}' after; echo $?"])
    assert done.stdout == "126\n"
    assert WHY + "it gets privileges from its file" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_without_privileges_it_sets_no_new_privs_and_a_set_user_id_program_gains_nothing(
    execs: str, trapline: str, marking: str, public_folder: Path
) -> None:
    program = public_folder / "gains-nothing"
    shutil.copy(execs, program)
    program.chmod(0o4755)
    # Only the bounding set keeps root from installing a filter without no_new_privs.
    words = [trapline, "run", "--engine", "trap", "-s", marking, "--", "sh", "-c",
             f"grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; '{program}' after"]  # fmt: skip
    bound = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]
    done = subprocess.run([*bound, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout.split()[:4] == ["NoNewPrivs:", "1", "Seccomp:", "2"], done
    assert f"{program}: hooked, " in done.stdout
    assert done.stderr == ""


def test_nobody_is_traced(execs: str, hooked: Run) -> None:
    script = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.ptrace(0, 0, 0, 0), os.strerror(ctypes.get_errno()), flush=True)\n"
        "os.execv(sys.argv[1], [sys.argv[1], 'after'])\n"
    )
    done = hooked("trap", ["/usr/bin/python3", "-c", script, execs])
    assert done.stdout.splitlines()[0] == "-1 Operation not permitted"
    assert done.stdout.splitlines()[1].startswith(f"{execs}: hooked, ")
    assert done.stderr.endswith(WHY + "another program traces it\n")


def test_the_agent_is_at_the_same_place_in_every_program_and_elsewhere_in_the_next_session(
    hooked: Run,
) -> None:
    command = [
        "sh",
        "-c",
        "for i in 1 2; do grep memfd:trapline /proc/self/maps | head -1 | cut -d- -f1; done",
    ]
    first, second = [hooked("trap", command).stdout.split() for _ in range(2)]
    assert len(set(first)) == len(set(second)) == 1
    assert first != second


def test_after_the_supervisors_death_calls_that_nobody_hooks_go_on(
    trapline: str, marking: str, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys\n"
        "ready = os.getppid() == 4242\n"
        "os.kill(int(open('/proc/self/stat').read().split()[3]), signal.SIGKILL)\n"
        "while int(open('/proc/self/stat').read().split()[3]) != 1: pass\n"
        "try:\n"
        "    os.getppid() > 0\n"
        "except OSError: pass\n"
        "open(sys.argv[1], 'w').write(f'{ready} {len(os.listdir(\"/\")) > 3}')\n"
        "os.rename(sys.argv[1], sys.argv[1] + '.done')\n"
    )
    target = tmp_path / "result"
    words = [
        trapline,
        "run",
        "--engine",
        "trap",
        "-s",
        marking,
        "--",
        sys.executable,
        "-c",
        script,
        str(target),
    ]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        assert process.wait(60) == -signal.SIGKILL
    done = Path(f"{target}.done")
    while not done.exists():
        os.sched_yield()
    assert done.read_text() == "True True"
