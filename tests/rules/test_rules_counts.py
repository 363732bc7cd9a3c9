"""Counts: of all threads and processes together, and exact."""

from __future__ import annotations

from trapline import on

GETPPID = 110


def test_counts_are_exact_over_threads_and_processes(every, ruled):
    some = "getppid:when=2000..7000+2:retval=7777"
    chance = "getppid:when=8001+:p=0.25:seed=3:retval=7777"
    lines = ruled(["many", GETPPID, 8, 3, 500], [some, chance, "getppid:count"], every)
    stats = ruled.done.stats.rules
    assert stats[some] == 2501
    assert int(lines[0]) == stats[some] + stats[chance]
    # The second rule has seen what the first has left, whoever came in which order.
    assert stats["getppid:count"] == 12000 - int(lines[0])


def test_counts_go_on_over_execve(every, calls, sys):
    word = sys("getgid").replace(" ", "_")
    rules = ["getgid:when=3:retval=7777", "getgid:count"]
    lines = calls([sys("getgid"), f"exec {word} {word} {word}"], rules, every)
    assert lines[2] == "7777"
    assert calls.done.stats.rules == {rules[0]: 1, rules[1]: 3}


def test_counting_changes_nothing(every, calls, sys):
    native = [sys("getuid"), sys("mkdir", "s:/proc/x", 0), "sys 999"]
    assert calls(native, ["*:count", "mkdir:count"], every)[1:] == ["-2", "-38"]
    assert calls.done.stats.rules["mkdir:count"] == 1
    assert calls.done.stats.rules["*:count"] > 3


def test_a_constant_with_count_is_counted(every, calls, sys):
    rules = ["getuid:retval=5:count", "getgid:error=EIO:count"]
    assert calls([sys("getuid"), sys("getuid"), sys("getgid")], rules, every) == ["5", "5", "-5"]
    assert calls.done.stats.rules == {rules[0]: 2, rules[1]: 1}


def test_the_same_rule_twice_counts_for_both(every, calls, sys):
    assert calls([sys("getgid")], ["getgid:count", "getgid:count"], every)
    assert calls.done.stats.rules == {"getgid:count": 2}


def test_a_name_twice_in_a_rule_counts_once(every, calls, sys):
    assert calls([sys("getgid")], ["getgid,getgid:count"], every)
    assert calls.done.stats.rules == {"getgid,getgid:count": 1}


def test_hooks_see_only_what_rules_leave(every, calls, sys):
    @on("getgid")
    def hook(call):
        return call.reply(8)

    lines = calls([sys("getgid")] * 4, ["getgid:when=2+2:retval=5"], every, hooks=[hook])
    assert lines == ["8", "5", "8", "5"]
    assert calls.done.stats.calls == {"getgid": 2}


def test_counts_are_there_while_the_program_runs(every, victim, sys):
    import subprocess

    import trapline

    session = trapline.Session(
        [victim("caller"), sys("getgid"), "wait 0", sys("getgid")],
        rules=["getgid:count"], engine=every, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with session:
        assert session.stdout is not None
        assert session.stdin is not None
        assert session.stdout.read(1)
        assert session.stats.rules == {"getgid:count": 1}
        session.stdin.write(b"x")
        session.stdout.read()
        assert session.wait(60) == 0
        assert session.stats.rules == {"getgid:count": 2}


def test_many_rules_for_one_call_all_act(every, calls, sys):
    rules = [f"getgid:when={number}:retval={number}" for number in range(300, 0, -1)]
    assert calls([sys("getgid")] * 3, rules, every) == ["1", "2", "3"]
