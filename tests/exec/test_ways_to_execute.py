"""Every way to execute a program, under an agent: the next program has one too, and nothing that survives is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["dynamic", "static"])
def execs(request: pytest.FixtureRequest, victim: Callable[..., str]) -> str:
    return victim("execs", request.param)


def native(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("not hooked", "hooked")


@pytest.mark.parametrize(
    "mode",
    ["thread", "crowd", "thread-crowd", "failing-crowd", "pending", "storm", "fexecve", "memfd", "execveat", "spawn",
     "spawners", "failures", "closed"],
)  # fmt: skip
def test_the_next_program_is_hooked_and_finds_what_it_finds_natively(
    mode: str, execs: str, agent: str, hooked: Run
) -> None:
    done = hooked(agent, [execs, mode])
    assert (done.stdout, done.stderr, done.returncode) == (native([execs, mode]), "", 0)


def test_of_threads_that_execute_at_the_same_time_one_wins(execs: str, agent: str, hooked: Run) -> None:
    for _ in range(3):
        done = hooked(agent, [execs, "race"])
        assert (done.stdout, done.stderr, done.returncode) == (native([execs, "race"]), "", 0)


def test_a_script_is_hooked_through_its_interpreter(execs: str, agent: str, hooked: Run) -> None:
    done = hooked(agent, [execs, "script"])
    assert done.stdout.startswith(f"{execs}: hooked, ")
    assert (done.stderr, done.returncode) == ("", 0)


def test_fifty_programs_in_one_process_are_hooked(execs: str, agent: str, hooked: Run) -> None:
    done = hooked(agent, [execs, "chain", "50"])
    assert (done.stdout, done.stderr) == (native([execs, "chain", "0"]), "")


@pytest.mark.parametrize("limit", ["5", "16", "512"])
def test_a_limit_of_descriptors_below_the_agents_own_does_not_matter(
    limit: str, execs: str, agent: str, hooked: Run
) -> None:
    done = hooked(agent, [execs, "files", limit])
    assert (done.stdout, done.stderr) == (native([execs, "files", limit]), "")


def test_without_room_for_the_agent_the_program_runs_unhooked_and_that_is_said(
    execs: str, lenient: str, hooked: Run
) -> None:
    done = hooked(lenient, [execs, "memory", "10"])
    assert done.stdout.startswith("memory: not hooked, ")
    assert done.stderr.endswith(
        "runs without hooks: there is no room in its memory (a limit such as `ulimit -v`)\n"
    )
    assert (done.stderr.count("\n"), done.returncode) == (1, 0)
    roomy = hooked(lenient, [execs, "memory", "100"])
    assert (roomy.stdout, roomy.stderr) == (native([execs, "memory", "100"]), "")


def test_a_32_bit_program_runs_unhooked_without_our_descriptors(
    victim: Callable[..., str], lenient: str, hooked: Run
) -> None:
    old = victim("execs", "32")
    done = hooked(lenient, ["sh", "-c", f"'{old}' after; '{old}' after; ls /proc/self/fd | wc -l"])
    assert (
        done.stdout.splitlines()[:2]
        == native([old, "after"]).replace("hooked", "not hooked").splitlines() * 2
    )
    assert done.stderr.count("runs without hooks: it is a 32-bit program\n") == 1
    assert done.stderr.count("\n") == 1


def test_a_command_that_cannot_be_hooked_is_an_error(
    victim: Callable[..., str], agent: str, hooked: Run
) -> None:
    done = hooked(agent, [victim("execs", "32"), "after"])
    assert (done.stdout, done.returncode) == ("", 125)
    assert done.stderr.startswith(
        f"trapline: engine '{agent}' cannot enter the program: it is a 32-bit program. Use"
    )


TRACER = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    assert libc.ptrace(0, 0, 0, 0) == 0
    os.execv(sys.argv[1], [sys.argv[1], "after"])
while True:
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        break
    print(hex(status), flush=True)
    number = os.WSTOPSIG(status)
    assert libc.ptrace(7, child, 0, 0 if number == signal.SIGTRAP else number) == 0
print(hex(status))
"""


def test_a_traced_program_is_left_to_its_tracer(execs: str, lenient: str, hooked: Run) -> None:
    done = hooked(lenient, ["/usr/bin/python3", "-c", TRACER, execs])
    assert done.stdout.splitlines()[:1] == ["0x57f"]
    assert done.stdout.splitlines()[1].startswith(f"{execs}: not hooked, ")
    assert done.stdout.splitlines()[2:] == ["0x0"]
    assert done.stderr.endswith("runs without hooks: another program traces it\n")


@pytest.mark.parametrize("debugger", ["gdb", "strace"])
def test_debuggers_work_inside(debugger: str, execs: str, lenient: str, hooked: Run, tmp_path: Path) -> None:
    if not shutil.which(debugger):
        pytest.skip(f"{debugger} is not installed")
    command = {
        "gdb": ["gdb", "-nx", "-batch", "-ex", "run", "--args", execs, "after"],
        "strace": ["strace", "-f", "-o", str(tmp_path / "log"), execs, "spawn"],
    }[debugger]
    done = hooked(lenient, command)
    expected = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seen, native = [
        sorted(re.sub(r"process \d+", "process", text).splitlines())
        for text in (done.stdout, expected.stdout)
    ]
    assert seen == native
    assert done.returncode == expected.returncode
    assert "runs without hooks: another program traces it\n" in done.stderr


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes set-user-ID programs of somebody else's")
@pytest.mark.parametrize("how", ["set-user-ID", "capabilities", "unreadable"])
def test_a_program_with_privileges_runs_unhooked_and_keeps_them(
    how: str, victim: Callable[..., str], lenient: str, hooked: Run, public_folder: Path
) -> None:
    program = public_folder / f"privileged-{how}"
    shutil.copy(victim("execs"), program)
    program.chmod(0o711 if how == "unreadable" else 0o4755 if how == "set-user-ID" else 0o755)
    if how == "capabilities":
        if not shutil.which("setcap"):
            pytest.skip("setcap is not installed")
        subprocess.run(["setcap", "cap_net_raw+ep", str(program)], check=True)
    script = f"'{program}' after; '{program}' after"
    done = hooked(lenient, [*NOBODY, "sh", "-c", script])
    assert done.stdout.count("after") == 0
    assert done.stdout.count(": not hooked, ") == 2
    assert done.stderr.count("\n") == 1
    assert (
        "it gets privileges from its file (set-user-ID or the like), or its user may not read it"
        in done.stderr
    )


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root makes set-user-ID programs of its own that gain nothing"
)
def test_a_set_user_id_program_that_gains_nothing_is_hooked(
    victim: Callable[..., str], agent: str, hooked: Run, public_folder: Path
) -> None:
    program = public_folder / "set-user-id-for-nothing"
    shutil.copy(victim("execs"), program)
    program.chmod(0o4755)
    for command in [[str(program), "after"], [*NOBODY, "--no-new-privs", str(program), "after"]]:
        done = hooked(agent, command)
        assert (done.stdout.count(": hooked, "), done.stderr) == (1, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_program_in_a_user_namespace_of_its_own_is_hooked(
    victim: Callable[..., str], agent: str, hooked: Run
) -> None:
    done = hooked(agent, [*NOBODY, "unshare", "-Ur", victim("execs"), "after"])
    assert (done.stdout.count(": hooked, "), done.stderr) == (1, "")


def test_more_processes_than_mailboxes_come_and_go(
    victim: Callable[..., str], agent: str, hooked: Run
) -> None:
    done = hooked(agent, [victim("mailboxes"), "4500", "50"])
    assert (done.stdout, done.stderr) == ("0 calls went unseen\n", "")


def test_more_threads_than_mailboxes_make_calls(victim: Callable[..., str], agent: str, hooked: Run) -> None:
    done = hooked(agent, [victim("mailboxes"), "0", "4500"])
    assert (done.stdout, done.stderr) == ("0 calls went unseen\n", "")
