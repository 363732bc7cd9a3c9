"""Rules that give results, and in which order rules and hooks are asked."""

from __future__ import annotations

import os

import pytest

from trapline import on, on_return


def test_error_and_retval_are_what_the_caller_gets(every, calls, sys):
    rules = ["getuid:retval=0", "getppid:error=EIO", "getgid,getegid:retval=-4096", "times:error=123"]
    words = [sys(name) for name in ("getuid", "getppid", "getgid", "getegid", "times", "geteuid")]
    assert calls(words, rules, every) == ["0", "-5", "-4096", "-4096", "-123", str(os.geteuid())]


@pytest.mark.parametrize("value", ["1", "0x7fffffffffffffff", "-9223372036854775808", "-1", "-4095"])
@pytest.mark.parametrize("condition", ["", ":when=1+"])
def test_retval_has_64_bits(every, calls, sys, value, condition):
    assert calls([sys("getuid")], [f"getuid{condition}:retval={value}"], every) == [str(int(value, 0))]


def test_a_result_is_given_as_often_as_a_site_is_rewritten(with_agent, ruled):
    """The first times a call traps; once its site is hot, it comes from a block."""
    rules = ["getppid:when=2+2:retval=7777"]
    assert ruled(["hits", 110, 200], rules, with_agent) == [" ".join(map(str, range(2, 201, 2))) + " "]
    assert ruled(["hits", 110, 200], ["getppid:retval=7777"], with_agent) == [
        " ".join(map(str, range(1, 201))) + " "
    ]


def test_the_first_rule_with_a_result_ends_it_and_rules_come_before_hooks(every, calls, sys):
    @on("getuid", "getgid")
    def hook(call):
        return call.reply(99)

    rules = ["getuid:delay_enter=1us", "getuid:retval=5", "getuid:retval=6", "getgid:delay_enter=1us"]
    assert calls([sys("getuid"), sys("getgid")], rules, every, hooks=[hook]) == ["5", "99"]


def test_a_constant_behind_a_condition_is_for_the_calls_that_the_condition_leaves(every, calls, sys):
    rules = ["getuid:when=2:error=EIO", "getuid:retval=7", "getuid:error=EPERM", "*:count", "getgid:retval=8"]
    words = [sys("getuid"), sys("getuid"), sys("getuid"), sys("getgid")]
    assert calls(words, rules, every) == ["7", "-5", "7", "8"]


def test_a_rule_for_all_calls_counts_before_and_behind_one_for_some(every, calls, sys):
    before = ["*:count", "getuid:retval=7", "syscall_999:retval=9"]
    assert calls([sys("getuid"), "sys 999", sys("getuid")], before, every) == ["7", "9", "7"]
    assert calls.done.stats.rules["*:count"] >= 3


def test_the_calls_that_a_path_decides_keep_their_other_rules_in_order(every, calls, sys, tmp_path):
    """openat is the supervisor's with all its rules, mkdir the agent's; each rule counts for both."""
    (tmp_path / "secret").write_text("")
    rules = [
        "openat,mkdir:when=1:error=EINTR",
        f"openat:path={tmp_path}/secret:error=EACCES",
        "openat,mkdir:when=2+2:error=EIO",
        "openat,mkdir:count",
    ]
    words = [sys("mkdir", "s:a", 0), *[sys("openat", -100, "s:secret", 0)] * 2, sys("mkdir", "s:b", 0)]
    # What the dynamic linker opens comes first, and gets the EINTR.
    alone = calls(["fork " + word for word in words], ["openat,mkdir:count"], every, cwd=tmp_path)
    assert alone[0] == "0"
    opened = calls.done.stats.rules["openat,mkdir:count"] - 4
    rules[0] = f"openat,mkdir:when={opened + 1}:error=EINTR"
    rules[2] = f"openat,mkdir:when={opened + 1}+:error=EIO"
    for name in "ab":
        if (tmp_path / name).exists():
            (tmp_path / name).rmdir()
    lines = calls(words, rules, every, cwd=tmp_path)
    assert lines == ["-4", "-13", "-13", "-5"]
    assert calls.done.stats.rules == {
        rules[0]: 1, rules[1]: 2, rules[2]: 1, rules[3]: opened,
    }  # fmt: skip


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
def test_when_counts_the_matching_calls(every, ruled, when, which):
    (line,) = ruled(["hits", 102, 8], [f"getuid:when={when}:retval=7777"], every)
    assert set(map(int, line.split())) == which


def test_results_of_rules_reach_hooks_that_want_results(with_results, calls, sys):
    seen = []

    @on_return("getuid", "getgid", "getppid", "getegid")
    def log(call):
        seen.append((call.name, call.result, call.error))
        return call.reply(9) if call.name == "getegid" else None

    rules = [
        "getuid:retval=5",
        "getgid:when=1:error=EIO",
        "getppid:count",
        "getegid:error=EPERM",
        "*:path=/nowhere:count",
    ]
    words = [sys("getuid"), sys("getgid"), sys("getppid"), sys("getegid")]
    lines = calls(words, rules, with_results, hooks=[log])
    assert [line for at, line in enumerate(lines) if at != 2] == ["5", "-5", "9"]
    assert seen == [
        ("getuid", 5, None),
        ("getgid", -5, 5),
        ("getppid", int(lines[2]), None),
        ("getegid", -1, 1),
    ]
    assert calls.done.stats.calls == {"getuid": 1, "getgid": 1, "getppid": 1, "getegid": 1}


def test_what_a_hook_decides_reaches_hooks_that_want_results_once(with_results, calls, sys):
    seen = []

    @on("getuid", "getgid", "getppid")
    def decide(call):
        if call.name == "getppid":
            call.perform()
            return None
        return call.reply(5)

    @on_return("getuid", "getppid")
    def log(call):
        seen.append(call.name)

    words = [sys("getuid"), sys("getgid"), sys("getppid"), sys("mkdir", "s:/proc/no", 0)]
    assert calls(words, ["getuid,getgid,getppid:count"], with_results, hooks=[decide, log])[:2] == ["5", "5"]
    assert seen == ["getuid", "getppid"]


def test_a_call_that_a_hook_has_performed_happens_once(with_results, calls, sys, tmp_path):
    @on("mkdir")
    def decide(call):
        assert call.perform() == 0

    assert calls([sys("mkdir", "s:once", 0)], (), with_results, hooks=[decide], cwd=tmp_path) == ["0"]


def test_conditions_of_hooks_hold_beside_rules(every, calls, sys):
    from trapline import arg

    asked = []

    @on("mkdir", when=arg("mode") == 0o700)
    def hook(call):
        asked.append(call.args.mode)
        return call.reply(3)

    @on("*", when=arg(2) == 0x717)
    def everywhere(call):
        asked.append(call.name)

    @on("*", when=arg("pathname") == 1)
    def nobody(call):
        asked.append(call)

    rules = ["mkdir:count", "getuid:count", "*:path=/nowhere*:error=EPERM"]
    words = [
        sys("mkdir", "s:/proc/x", 0),
        sys("mkdir", "s:/proc/x", 0o700),
        sys("getuid", 0, 0, 0x717),
        sys("getuid"),
    ]
    words.append(sys("mkdir", "s:/nowhere/x", 0o700))
    assert calls(words, rules, every, hooks=[hook, everywhere, nobody])[:2] == ["-2", "3"]
    assert asked == [0o700, "getuid"]


def test_star_rules_leave_the_rest_of_the_program_able_to_run(every, calls, sys):
    assert calls([sys("getuid")], ["*:delay_enter=1us:when=1..3"], every) == [str(os.getuid())]


@pytest.mark.parametrize("condition", ["", ":when=1+", ":p=1", ":delay_enter=1us"])
@pytest.mark.parametrize("number", [999, 1500, 66000])
def test_a_rule_for_an_unknown_number_works(every, calls, number, condition):
    words = [f"sys {number}", "sys 998", f"sys {number + 1}"]
    assert calls(words, [f"syscall_{number}{condition}:retval=5"], every) == ["5", "-38", "-38"]


def test_calls_by_the_32_bit_convention_have_their_own_numbers(every, calls):
    rules = ["getpid:when=2:retval=5", "getuid,getuid32:retval=6", "getgid,getgid32:error=EIO"]
    words = ["int80 20", "int80 20", "int80 199", "int80 200"]
    assert calls(words, rules, every)[1:] == ["5", "6", "-5"]


def test_calls_inside_socketcall_are_told_apart(every, calls):
    rules = ["socket:when=2+:error=EACCES", "connect:retval=7", "semget:error=EPERM"]
    socket = "int80 102 1 h:010000000100000000000000"
    lines = calls([socket, socket, "int80 102 3 h:00", "int80 117 65538 0 0 0"], rules, every)
    assert int(lines[0]) > 2
    assert lines[1:] == ["-13", "7", "-1"]


def test_plain_results_need_nobody_and_are_not_counted(every, calls, sys):
    rules = ["getuid:error=EIO", "getgid:retval=3", "getegid:retval=0", "getgid:retval=4"]
    assert calls([sys("getuid"), sys("getgid"), sys("getegid")], rules, every) == ["-5", "3", "0"]
    assert calls.done.stats.rules == {}


def test_rules_in_an_agent_never_leave_the_program(with_agent, calls, sys):
    rules = [
        "getuid:when=1:error=EIO",
        "getgid:p=1:retval=3",
        "getegid:delay_enter=1us:delay_exit=1us",
        "*:count",
    ]
    lines = calls([sys("getuid"), sys("getgid"), sys("getegid")], rules, with_agent)
    assert lines == ["-5", "3", str(os.getegid())]
    assert calls.done.stats.received == 0
