"""Rules: hooks without Python."""

from __future__ import annotations

import errno
import os

import pytest

import trapline
from trapline import UsageError, on
from trapline.errors import UnknownSyscallError


def test_error_and_retval_are_what_the_caller_gets(engine, calls, sys):
    rules = ["getuid:retval=0", "getppid:error=EIO", "getgid,getegid:retval=-4096", "times:error=123"]
    words = [sys(name) for name in ("getuid", "getppid", "getgid", "getegid", "times", "geteuid")]
    assert calls(words, rules=rules, engine=engine) == [
        "0",
        "-5",
        "-4096",
        "-4096",
        "-123",
        str(os.geteuid()),
    ]


@pytest.mark.parametrize("value", ["1", "0x7fffffffffffffff", "-9223372036854775808", "-1"])
def test_retval_has_64_bits(engine, calls, sys, value):
    assert calls([sys("getuid")], rules=[f"getuid:retval={value}"], engine=engine) == [str(int(value, 0))]


def test_the_first_rule_with_a_result_ends_it_and_rules_come_before_hooks(engine, calls, sys):
    @on("getuid", "getgid")
    def hook(call):
        return call.reply(99)

    rules = ["getuid:delay_enter=1us", "getuid:retval=5", "getuid:retval=6", "getgid:delay_enter=1us"]
    assert calls([sys("getuid"), sys("getgid")], [hook], rules=rules, engine=engine) == ["5", "99"]


def test_a_path_rule_matches_every_spelling_and_nothing_else(engine, calls, sys, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("secret", "sub/secret", "open"):
        (tmp_path / name).write_text("")
    rule = f"open,openat:path={tmp_path}/*secret:error=EACCES"
    words = [
        sys("open", "s:secret", 0),
        sys("open", "s:./sub/../secret", 0),
        sys("open", "s:sub//secret", 0),
        sys("open", "s:open", 0),
        sys("openat", -100, f"e:{tmp_path}/secret", 0),
        sys("openat", -100, "s:/etc/hosts", 0),
        sys("openat", -100, "p:", 0),
    ]
    lines = calls(words, rules=[rule], engine=engine, cwd=tmp_path)
    assert lines == ["-13", "-13", "-13", "3", "-13", "4", str(-errno.EFAULT)]


def test_a_path_rule_looks_at_both_paths_of_a_call(engine, calls, sys, tmp_path):
    rule = f"rename,renameat2:path={tmp_path}/kept:error=EPERM"
    words = [
        sys("rename", "s:kept", "s:x"),
        sys("rename", "s:x", "s:kept"),
        sys("renameat2", -100, "s:x", -100, "s:kept", 0),
        sys("rename", "s:x", "s:y"),
    ]
    assert calls(words, rules=[rule], engine=engine, cwd=tmp_path) == ["-1", "-1", "-1", "-2"]


def test_a_colon_in_a_path_is_escaped(engine, calls, sys, tmp_path):
    rule = f"mkdir:path={tmp_path}/a\\:b:error=EPERM"
    assert calls([sys("mkdir", "s:a:b", 0)], rules=[rule], engine=engine, cwd=tmp_path) == ["-1"]


@pytest.mark.parametrize(
    ("when", "which"),
    [
        ("1", {1}),
        ("3", {3}),
        ("3+", {3, 4, 5, 6, 7, 8}),
        ("2+3", {2, 5, 8}),
        ("2..4", {2, 3, 4}),
        ("2..6+2", {2, 4, 6}),
        ("8..8", {8}),
        ("9", set()),
    ],
)
def test_when_counts_the_matching_calls(engine, calls, sys, when, which):
    lines = calls([sys("getuid")] * 8, rules=[f"getuid:when={when}:retval=7777"], engine=engine)
    assert {number for number, line in enumerate(lines, 1) if line == "7777"} == which


def test_when_counts_over_threads_and_processes_and_only_what_matches(engine, calls, sys, tmp_path):
    rule = f"mkdir:path={tmp_path}/*:when=3:error=EPERM"
    words = [
        sys("mkdir", "s:a", 0),
        sys("mkdir", "s:/proc/x", 0),
        "thread " + sys("mkdir", "s:b", 0),
        "fork " + sys("mkdir", "s:c", 0),
        sys("mkdir", "s:d", 0),
    ]
    lines = calls(words, rules=[rule], engine=engine, cwd=tmp_path)
    assert lines[0] == "0"
    assert lines[2:] == ["0", "-1", "0"]


def test_a_delay_lasts_as_long_as_it_says(engine, victim):
    done = trapline.run(
        [victim("threads"), "1", "times"],
        rules=["getppid:delay_enter=60ms"],
        capture_output=True,
        engine=engine,
    )
    began, ended = map(int, done.stdout.split())
    assert ended - began >= 60_000_000


def test_delays_do_not_wait_for_each_other(engine, victim):
    """32 delayed calls with 2 workers: all of them are under way before the first is over."""
    done = trapline.run(
        [victim("threads"), "32", "times"],
        rules=["getppid:delay_enter=1500ms"],
        workers=2,
        capture_output=True,
        engine=engine,
        timeout=60,
    )
    times = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(times) == 32
    assert max(began for began, _ in times) < min(ended for _, ended in times)
    assert all(ended - began >= 1_500_000_000 for began, ended in times)


def test_a_delayed_call_can_be_killed(engine, victim, sys):
    import threading

    asked = threading.Event()

    @on("getppid")
    def hook(call):
        asked.set()

    session = trapline.Session(
        [victim("caller"), sys("getppid"), sys("getuid")],
        hooks=[hook],
        rules=["getuid:delay_enter=1000s"],
        engine=engine,
    )
    with session:
        assert asked.wait(60)
        session.send_signal(15)
        assert session.wait(60) == -15


def test_a_delay_comes_before_its_own_result_and_the_next_rule(engine, calls, sys):
    rules = ["getuid:delay_enter=20ms:error=EIO", "getgid:delay_enter=1ms:when=2", "getgid:retval=3"]
    words = [sys("getuid"), sys("getgid"), sys("getgid")]
    assert calls(words, rules=rules, engine=engine) == ["-5", "3", "3"]
    stats = calls.done.stats
    assert stats.rules["getgid:delay_enter=1ms:when=2"] == 1


def test_star_rules_leave_the_rest_of_the_program_able_to_run(engine, calls, sys):
    rule = "*:delay_enter=1us:when=1..3"
    assert calls([sys("getuid")], rules=[rule], engine=engine) == [str(os.getuid())]


def test_a_rule_for_an_unknown_number_works(engine, calls):
    assert calls(["sys 999"], rules=["syscall_999:retval=5"], engine=engine) == ["5"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "is not CALL"),
        ("getuid", "is not CALL"),
        (":retval=0", "is not CALL"),
        ("getuid:retval", "KEY=VALUE"),
        ("getuid:retval=", "KEY=VALUE"),
        ("getuid:retval=x", "64-bit"),
        ("getuid:retval=9223372036854775808", "64-bit"),
        ("getuid:error=ENOSUCH", "unknown error"),
        ("getuid:error=0", "1 to 4095"),
        ("getuid:error=4096", "1 to 4095"),
        ("getuid:error=EIO:retval=0", "exclude"),
        ("getuid:error=EIO:error=EIO", "twice"),
        ("getuid:path=/x:error=EIO", "takes no path"),
        ("getuid:when=0:error=EIO", "when"),
        ("getuid:when=5..2:error=EIO", "when"),
        ("getuid:when=1+0:error=EIO", "when"),
        ("getuid:when=2", "does nothing"),
        ("getuid:delay_enter=fast", "no duration"),
        ("getuid:delay_enter=-1s", "no duration"),
        ("getuid:delay_enter=nan", "no duration"),
        ("getuid:delay_enter=inf", "no duration"),
        ("getuid:colour=red", "unknown key"),
    ],
)
def test_a_rule_that_cannot_be_understood_says_which_part(rule, said):
    with pytest.raises(UsageError, match=said):
        trapline.run(["true"], rules=[rule])


def test_a_rule_for_a_call_that_no_table_has_names_it():
    with pytest.raises(UnknownSyscallError, match="opnat"):
        trapline.run(["true"], rules=["opnat:error=EIO"])
