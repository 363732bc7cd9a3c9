"""Rules of every kind, and conditions, on engines inside the program: the same as on any."""

from __future__ import annotations

import collections
import re
import subprocess

import pytest

from trapline.engines.base import STARTABLE


def caller(victim, *words):
    return [victim("caller"), *words]


def test_an_error_and_a_result_without_any_condition(under, victim):
    done = under(
        caller(victim, "sys 110", "sys 102", "thread sys 110"),
        rules=("getppid:retval=77", "getuid:error=EIO"),
    )
    assert done.stdout.split() == ["77", "-5", "77"]


@pytest.mark.parametrize("value", ["0", "-1", "4294967296", "9223372036854775807", "-9223372036854775808"])
def test_a_result_of_any_size(under, victim, value):
    assert under(caller(victim, "sys 110"), rules=(f"getppid:retval={value}",)).stdout.split() == [value]


WHEN = {
    "3": [3],
    "3+": [3, 4, 5, 6, 7, 8, 9, 10],
    "2+3": [2, 5, 8],
    "2..4": [2, 3, 4],
    "2..8+2": [2, 4, 6, 8],
    "1+1": list(range(1, 11)),
}


@pytest.mark.parametrize("when", WHEN)
def test_a_rule_for_some_of_the_calls_counts_over_all_processes_and_threads(under, victim, when):
    words = ["sys 110", "fork sys 110", "thread sys 110", "sys 110", "vfork sys 110"] * 2
    done = under(caller(victim, *words), rules=(f"getppid:retval=-77:when={when}",))
    got = done.stdout.split()
    assert [number for number, line in enumerate(got, 1) if line == "-77"] == WHEN[when]


def test_a_hot_call_meets_its_rule_every_time(under, build):
    done = under([build("code/race"), "8", "100", "50", "hooked"], rules=("getppid:retval=77",))
    assert re.match(r"40000 returned|0 returned", done.stdout), done
    assert "0 with something wrong around" in done.stdout


def test_counting_is_exact_among_threads(under, build):
    done = under(
        [build("code/race"), "4", "20", "25", "hooked"], rules=("getppid:retval=-77:when=1001..1500",)
    )
    # Each thread asks once itself; 4 + 2000 calls in all, of which 500 got the rule's result.
    parents = int(done.stdout.split()[0])
    assert 1500 <= parents <= 1504, done.stdout


def test_a_path_decides(under, victim, tmp_path):
    (tmp_path / "good").write_text("text")
    words = [f"sys 2 s:{tmp_path}/good 0", f"sys 2 s:{tmp_path}/bad.txt 0x41 0600"]
    done = under(caller(victim, *words), rules=(f"open,openat:path={tmp_path}/*.txt:error=EROFS",))
    assert done.stdout.split()[1] == "-30"
    assert int(done.stdout.split()[0]) > 2


def test_a_delay_delays(under, victim):
    import time

    began = time.monotonic()
    done = under(caller(victim, "sys 110"), rules=("getppid:delay_enter=300ms:when=1", "getppid:retval=5"))
    assert done.stdout.split() == ["5"]
    assert time.monotonic() - began >= 0.3


def test_rules_act_before_hooks_and_hooks_see_the_rest(under, victim):
    hooks = "@on('getppid')\ndef hook(call): return call.reply(6)"
    done = under(caller(victim, "sys 110", "sys 110", "sys 110"), hooks, rules=("getppid:retval=5:when=2",))
    assert done.stdout.split() == ["6", "5", "6"]


CONDITIONS = """
import os

@on("close", when=arg("fd") == 1001)
def equal(call): return call.reply(1)

@on("close", when=(arg("fd") >= 2000) & (arg("fd") < 2010))
def between(call): return call.reply(2)

@on("openat", when=arg("flags").has(os.O_DIRECTORY))
def directory(call): return call.reply(3) if call.args.dfd == -77 else None

@on("*", when=arg(0) == 0x123456789ABCDEF)
def wide(call): return call.reply(4)
"""


def test_conditions_are_decided_exactly(under, victim):
    words = [
        "sys 3 1000",
        "sys 3 1001",
        "sys 3 0xdeadbeef000003e9",
        "sys 3 1999",
        "sys 3 2000",
        "sys 3 2009",
        "sys 3 2010",
        "sys 257 -77 s:x 0x10000",
        "sys 257 -77 s:x 0",
        "sys 110 0x123456789ABCDEF",
        "sys 700 0x123456789ABCDEF",
        "sys 700 0x89ABCDEF",
        "thread sys 3 1001",
    ]
    done = under(caller(victim, *words), CONDITIONS)
    assert done.stdout.split() == ["-9", "1", "1", "-9", "2", "2", "-9", "3", "-9", "4", "4", "-38", "1"]


MATRIX = """
import os
from trapline import Errno

@on("getuid")
def decided(call): return call.reply(11)

@on("getgid")
def refused(call): return call.fail(Errno.EACCES)

@on("open")
def served(call):
    return call.reply_fd(b"served") if call.path == "/served" else None

@on("close", when=arg("fd") > 500)
def conditional(call): return call.reply(call.args.fd)

@on("syscall_800")
def unknown(call): return call.reply(call.raw[0] + call.raw[5])
"""


def test_one_hooks_file_does_the_same_on_every_engine(trapline, victim, tmp_path):
    (tmp_path / "hooks.py").write_text(f"from trapline import arg, on\n{MATRIX}")
    words = [
        "sys 102",
        "thread sys 104",
        "sys 2 s:/served 0",
        "cat $",
        "sys 3 501",
        "fork sys 3 600",
        "sys 3 499",
    ]
    words += ["sys 800 1 2 3 4 5 6", "vfork sys 102", "int80 24"]
    answers = collections.defaultdict(list)
    for engine in STARTABLE:
        command = [
            trapline,
            "run",
            "--engine",
            engine,
            "-s",
            str(tmp_path / "hooks.py"),
            "-e",
            "getppid:retval=9",
        ]
        done = subprocess.run(
            [*command, "--", victim("caller"), *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        answers[(done.returncode, done.stdout, done.stderr)].append(engine)
    assert len(answers) == 1, answers
