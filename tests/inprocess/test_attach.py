"""The agent enters programs that run already, and leaves them as they were."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENGINES

import trapline
from trapline import on

AGENTS = [name for name in ("sud", "rewrite") if name in ENGINES]
ECHO = "print('ready', flush=True)\nfor line in open(0): print({}, flush=True)"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> str:
    """An engine that acts inside the program, and can be taken out of it."""
    return str(request.param)


@pytest.fixture
def start(build: Callable[..., str]) -> Iterator[Start]:
    """``start("visited", ...)`` runs that victim, or any command, which says when it is ready."""
    started = []

    def begin(*command: str, **options: Any) -> subprocess.Popen[bytes]:
        path = command[0] if "/" in command[0] else build(command[0])
        process = subprocess.Popen(
            [path, *command[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **options
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait(60)
        for file in (process.stdin, process.stdout):
            if file is not None:
                file.close()


def ask(process: subprocess.Popen[bytes], line: bytes = b"\n") -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    return process.stdout.readline()


def fields(path: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(path).read_text().splitlines() if ":\t" in line)


def outside(pid: int) -> dict[str, Any]:
    """What the kernel says of a process, apart from what changes by itself."""
    kept = ("SigIgn", "SigCgt", "SigBlk", "ShdPnd", "SigPnd", "Seccomp", "NoNewPrivs", "TracerPid")
    tasks = {}
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        told = fields(f"/proc/{pid}/task/{task}/status")
        tasks[task] = {name: told[name] for name in kept}
    descriptors = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {"tasks": tasks, "descriptors": descriptors, "maps": [(words[0], words[1]) for words in maps]}


def wait_until_asleep(pid: int) -> None:
    """Wait until all threads of the victim but three are in a call that waits."""

    def awake() -> int:
        tasks = os.listdir(f"/proc/{pid}/task")
        return sum(fields(f"/proc/{pid}/task/{task}/status")["State"][0] != "S" for task in tasks)

    while awake() > 3:
        time.sleep(0.001)


SEIZE, INTERRUPT, DETACH, GET_DISPATCH = 0x4206, 0x4207, 17, 0x4211
_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def dispatch(pid: int) -> set[int]:
    """The modes of dispatch that the threads of a process are in."""
    modes = set()
    for task in map(int, os.listdir(f"/proc/{pid}/task")):
        config = (ctypes.c_uint64 * 4)()
        assert _ptrace(SEIZE, task, None, None) == 0
        assert _ptrace(INTERRUPT, task, None, None) == 0
        os.waitpid(task, 0x40000000)
        if _ptrace(GET_DISPATCH, task, ctypes.sizeof(config), ctypes.addressof(config)) < 0:
            pytest.skip("this kernel does not tell of a thread's dispatch (PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG)")
        modes.add(config[0])
        assert _ptrace(DETACH, task, None, None) == 0
    return modes


@on("getppid")
def answer_77(call: Any) -> Any:
    return call.reply(77)


@on("*")
def see_all(call: Any) -> None:
    return None


NULL = {"unmatched": answer_77, "every": see_all}


@pytest.mark.parametrize("way", NULL)
@pytest.mark.parametrize("times", [1, 5])
def test_threads_that_wait_in_all_ways_know_nothing_of_it(
    agent: str, start: Start, way: str, times: int
) -> None:
    """Each wait goes on and ends as it would; handlers, stacks, masks and descriptors are the program's own."""
    process = start("visited")
    wait_until_asleep(process.pid)
    before, told = outside(process.pid), ask(process, b"a")
    hook = trapline.on("personality")(lambda call: None) if way == "unmatched" else see_all
    for _ in range(times):
        with trapline.Session.attach(process.pid, hooks=[hook], engine=agent):
            assert ask(process, b"b") == told
        assert ask(process, b"c") == told
    assert process.stdin is not None
    wait_until_asleep(process.pid)
    after = outside(process.pid)
    # Some of the waits may have ended meanwhile.
    before["tasks"] = {task: before["tasks"][task] for task in after["tasks"]}
    assert after == before
    process.stdin.close()
    assert process.stdout is not None
    assert process.stdout.read() == b"ok\n"
    assert process.wait(60) == 0


def test_no_thread_is_dispatched_afterwards(agent: str, start: Start) -> None:
    process = start("visited")
    with trapline.Session.attach(process.pid, hooks=[answer_77], engine=agent):
        pass
    assert dispatch(process.pid) == {0}
    assert b"memfd" not in Path(f"/proc/{process.pid}/maps").read_bytes()
