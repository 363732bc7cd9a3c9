"""The agent enters programs that run already, and leaves them as they were."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trapline
from trapline import on
from trapline.engines.base import STARTABLE

AGENTS = [name for name in ("sud", "rewrite") if name in STARTABLE]
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
        path = command[0] if os.path.isabs(command[0]) else build(command[0])
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


def threads_of(pid: int) -> dict[str, dict[str, str]]:
    """The status of each thread; one may end while they are asked."""
    found = {}
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[task] = fields(f"/proc/{pid}/task/{task}/status")
    return found


def outside(pid: int) -> dict[str, Any]:
    """What the kernel says of a process, apart from what changes by itself."""
    # Masks are checked by the threads themselves: in some calls the kernel shows that of the call.
    kept = ("SigIgn", "SigCgt", "ShdPnd", "SigPnd", "Seccomp", "NoNewPrivs", "TracerPid")
    tasks = {task: {name: told[name] for name in kept} for task, told in threads_of(pid).items()}
    descriptors = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {"tasks": tasks, "descriptors": descriptors, "maps": [(words[0], words[1]) for words in maps]}


def wait_until_asleep(pid: int) -> None:
    """Wait until all threads of the victim but three are in a call that waits."""

    def awake() -> int:
        return sum(told["State"][0] != "S" for told in threads_of(pid).values())

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
            pytest.skip(
                "this kernel does not tell of a thread's dispatch (PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG)"
            )
        modes.add(config[0])
        assert _ptrace(DETACH, task, None, None) == 0
    return modes


@on("getppid")
def answer_77(call: Any) -> Any:
    return call.reply(77)


@on("*")
def see_all(call: Any) -> None:
    return None


@on("getppid", "poll", "fork", "clone")
def answer_nothing(call: Any) -> None:
    return None


@on("newfstatat", "openat", "clone", "clone3", "vfork", "wait4", "execve")
def see_some(call: Any) -> None:
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


def code(pid: int) -> dict[str, bytes]:
    """The code of a process, by where it is."""
    found = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            place, access, *rest = line.split()
            if "x" in access and rest[-1] != "[vsyscall]":
                start, end = (int(word, 16) for word in place.split("-"))
                memory.seek(start)
                found[place] = memory.read(end - start)
    return found


def test_patches_are_taken_back(start: Start) -> None:
    process = start(sys.executable, "-c", "import os\n" + ECHO.format("os.getppid()"))
    before = code(process.pid)
    with trapline.Session.attach(process.pid, hooks=[answer_77], engine="rewrite") as session:
        for _ in range(100):
            assert ask(process) == b"77\n"
        while not session.stats.sites["patched"]:
            ask(process)
        assert code(process.pid) != before
    assert ask(process) == f"{os.getpid()}\n".encode()
    assert code(process.pid) == before


def test_a_program_that_dispatches_by_itself_goes_on_with_that(agent: str, start: Start) -> None:
    process = start("own/dispatching")
    for turn in range(1, 13, 4):
        assert ask(process) == f"{1000 + turn} 0\n".encode()
        with trapline.Session.attach(process.pid, hooks=[see_all], engine=agent):
            for inner in (1, 2):
                assert ask(process) == f"{1000 + turn + inner} 0\n".encode()
        assert ask(process) == f"{1000 + turn + 3} 0\n".encode()
    assert dispatch(process.pid) == {1}


CYCLES = 200 if os.environ.get("TRAPLINE_EXACT") == "all" else 40


def test_a_busy_program_loses_nothing(agent: str, start: Start) -> None:
    """Six threads, forks and a timer that interrupts them."""
    process = start("busy", "6")
    for _ in range(CYCLES):
        with trapline.Session.attach(process.pid, hooks=[answer_nothing], engine=agent) as session:
            while session.stats.received < 10:
                time.sleep(0.001)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    assert process.stdout.readline() == b"0 wrong\n"


BUSY_PYTHON = """
import subprocess, sys, tempfile, threading
over = False
def work(number):
    while not over:
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * 5000)
            file.seek(0)
            assert len(file.read()) == 5000
        if number == 0:
            assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.read()
over = True
for thread in threads: thread.join()
print("done")
"""


def test_python_at_work_loses_nothing(agent: str, start: Start) -> None:
    """Threads come and go, and children, and programs that those execute."""
    process = start(sys.executable, "-c", BUSY_PYTHON, stderr=subprocess.PIPE)
    for _ in range(CYCLES):
        with trapline.Session.attach(process.pid, hooks=[see_some], engine=agent) as session:
            while session.stats.received < 10:
                time.sleep(0.001)
    out, error = process.communicate()
    assert (out, error, process.returncode) == (b"done\n", b"", 0)


def test_what_it_has_started_is_left_too(agent: str, start: Start) -> None:
    """A child, and a program that one has executed, go on without an agent."""
    script = (
        "echo ready; read x; (read y <&3; echo child) & sh -c 'read y <&4; echo program' & echo forked; wait"
    )
    (a, b), (c, d) = os.pipe(), os.pipe()
    process = start("/bin/bash", "-c", f"exec 3<&{a} 4<&{c}; {script}", pass_fds=(a, c))
    with trapline.Session.attach(process.pid, hooks=[see_some], engine=agent):
        assert ask(process) == b"forked\n"
        tree = [
            process.pid,
            *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()),
        ]
        assert len(tree) == 3
    assert process.stdout is not None
    for pid in tree:
        assert b"memfd" not in Path(f"/proc/{pid}/maps").read_bytes()
        assert not any("memfd" in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    os.write(b, b"\n")
    assert process.stdout.readline() == b"child\n"
    os.write(d, b"\n")
    assert process.stdout.readline() == b"program\n"
    for fd in (a, b, c, d):
        os.close(fd)
    assert process.wait(60) == 0


def test_after_the_supervisor_s_death_rules_go_on_and_calls_are_their_own(agent: str, start: Start) -> None:
    """It was there before us, so it does not fail with us; what it executes then has no agent."""
    program = ECHO.format(
        "(os.getppid(), os.getuid(), subprocess.run(['id', '-u'], capture_output=True).stdout)"
    )
    process = start(sys.executable, "-c", "import os, subprocess\n" + program)
    supervisor = (
        "import os, trapline\n"
        "@trapline.on('getppid')\n"
        "def hook(call): return call.reply(77)\n"
        f"session = trapline.Session.attach({process.pid}, hooks=[hook], rules=['getuid:retval=7'], engine={agent!r})\n"
        "print('attached', flush=True)\n"
        "session.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"attached\n"
        assert ask(process).startswith(b"(77, 7, ")
        other.kill()
    assert ask(process) == f"({os.getpid()}, 7, b'{os.geteuid()}\\n')\n".encode()
    with pytest.raises(trapline.EngineStartError, match="already"):
        trapline.Session.attach(process.pid, hooks=[answer_77], engine=agent)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0


FILTERED = """
import ctypes, os, struct
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))
prctl = ctypes.CDLL(None).prctl
prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(program), 0, 0) == 0
"""


def test_what_the_agent_must_not_enter_is_left_to_ptrace(agent: str, start: Start) -> None:
    process = start(sys.executable, "-c", FILTERED + ECHO.format("os.getppid()"))
    with pytest.raises(trapline.EngineStartError, match="seccomp filter of its own"):
        trapline.Session.attach(process.pid, hooks=[answer_77], engine=agent)
    with trapline.Session.attach(process.pid, hooks=[answer_77]) as session:
        assert session.engine == "ptrace"
        assert ask(process) == b"77\n"


def test_a_32_bit_program_is_said_to_be_one(agent: str, start: Start, victim: Callable[..., str]) -> None:
    process = start(victim("busy", "32"), "1")
    with pytest.raises(trapline.EngineStartError, match="32-bit"):
        trapline.Session.attach(process.pid, hooks=[answer_77], engine=agent)


def test_a_thread_is_no_process(start: Start) -> None:
    process = start("visited")
    thread = max(map(int, os.listdir(f"/proc/{process.pid}/task")))
    with pytest.raises(trapline.UsageError, match=f"a thread of process {process.pid}"):
        trapline.Session.attach(thread, hooks=[answer_77])


def test_auto_takes_the_cheapest(start: Start) -> None:
    process = start(sys.executable, "-c", "import os\n" + ECHO.format("os.getppid()"))
    with trapline.Session.attach(process.pid, hooks=[answer_77]) as session:
        assert session.engine == "rewrite"
        assert ask(process) == b"77\n"
