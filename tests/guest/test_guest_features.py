"""What programs expect of a kernel besides reading and writing, on every engine beside native."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_timers(same, victim, kind):
    same(victim("guest/timers", kind))


@pytest.mark.parametrize("kind", ["dynamic", "static-pie"])
def test_events_watches_shared_memory_and_broken_pipes(same, victim, tmp_path, kind):
    same(victim("guest/channels", kind), str(tmp_path))


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_deep_big_and_alternate_stacks_and_jumps_off_them(same, victim, kind):
    same(victim("guest/stacks", kind, (), "-Wno-infinite-recursion"))


def test_calls_that_signals_interrupt(same, victim):
    same(victim("guest/interrupts", "static"))


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_program_of_another_libc(same, musl, kind):
    same(musl[kind])


@pytest.fixture(scope="session")
def musl(tmp_path_factory):
    compiler = shutil.which("musl-gcc")
    if compiler is None:
        pytest.skip("there is no musl-gcc here (musl-tools)")
    source = Path(__file__).parent.parent / "victims" / "guest" / "sixteen.c"
    folder: Path = tmp_path_factory.mktemp("musl")
    for kind, options in (("dynamic", []), ("static", ["-static"])):
        subprocess.run([compiler, *options, "-O1", "-o", folder / kind, source], check=True)
    return {kind: str(folder / kind) for kind in ("dynamic", "static")}


PYTHON = """
import json, os, signal, threading, time
found = []
threads = [threading.Thread(target=found.append, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
os.kill(os.getpid(), signal.SIGUSR1)
reader, writer = os.pipe2(os.O_CLOEXEC)
print(json.dumps(sorted(found)), os.path.basename(os.readlink("/proc/self/exe")))
os.closerange(3, 1000)
os._exit(os.write(1, b"end\\n"))
"""

PERL = """
use Time::HiRes "ualarm";
my %h; $h{$_ % 7}++ for 1..10000; print join(",", map {"$_=$h{$_}"} sort keys %h), "\\n";
$SIG{ALRM} = sub { die "alarm\\n" }; eval { ualarm(20000); 1 while 1 }; print $@; exit 5;
"""


@pytest.mark.parametrize(
    "words",
    [
        ["perl", "-e", PERL],
        ["sort", "--parallel=4", "-k2n", "-t:", "/etc/passwd"],
        ["awk", "-F:", "{ s += $3 } END { print s, NR; exit 3 }", "/etc/passwd"],
        ["bash", "-c", "for ((i = 0; i < 500; i++)); do ((s += i)); done; echo $s; trap 'echo got' USR1; "
         "kill -USR1 $$; exit 6"],
        ["tar", "-cf", "-", "-C", "/etc", "--sort=name", "hostname", "hosts"],
        ["git", "--version"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_programs_that_everybody_has(same, words):
    path = shutil.which(words[0])
    if path is None:
        pytest.skip(f"{words[0]} is not here")
    same(path, *words[1:])


def test_python_in_python(same):
    same(sys.executable, "-c", PYTHON)


def test_standard_error_that_the_guest_has_closed_is_still_trapline_s(run):
    status, _, said = run("/bin/ls", "/", options=("--stats",))
    assert status == 0
    assert b"trapline: engine" in said


def test_a_second_process_is_refused_and_that_is_said_once(run):
    shell = shutil.which("bash")
    assert shell is not None
    status, _, said = run(shell, "-c", "/bin/true; /bin/true")
    assert status != 0
    assert said.count(b"is refused: a guest is no process of its own") == 1
    assert b"Function not implemented" in said


def test_another_program_is_refused(run):
    status, _, said = run("/usr/bin/env", "true")
    assert status == 126
    assert said.count(b"trapline: execve is refused") == 1
    assert b"Operation not permitted" in said


def test_another_program_is_run_as_a_command_under_the_same_rules(run, same_as_execve):
    same_as_execve("/usr/bin/env", "A=5", "sh", "-c", "echo $A; exit 3")
    same_as_execve("/usr/bin/env", "no such program")
    same_as_execve("/usr/bin/env", "sh", "-c", "kill -9 $$")
    same_as_execve("/bin/busybox", "env", "-i", "A=5", "env")
    same_as_execve("/bin/bash", "-c", "exec -a other sh -c 'echo $0 $1' word two")
    words = ("--execve", "run", "-e", "getuid,geteuid:retval=4321")
    assert run("/usr/bin/env", "id", "-u", options=words) == (0, b"4321\n", b"")


@pytest.fixture
def same_as_execve(same):
    return partial(same, options=("--execve", "run"))
