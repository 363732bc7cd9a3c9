"""Delays: measured as lower bounds only, and against what else happens meanwhile."""

from __future__ import annotations

import os
import threading

import pytest

import trapline
from trapline import UnsupportedByEngineError, on

GETPPID = 110


def test_a_delay_lasts_as_long_as_it_says(every, ruled):
    lines = ruled(["times", GETPPID, 3], ["getppid:delay_enter=60ms:when=2+"], every)
    results, times = zip(*[map(int, line.split()) for line in lines], strict=True)
    assert set(results) == {os.getpid()}
    assert min(times[1:]) >= 60_000_000


def test_delays_of_several_rules_and_sides_add_up(with_results, ruled):
    rules = [
        "getppid:delay_enter=20ms",
        "getppid:delay_exit=20ms",
        "getppid:delay_enter=10ms:delay_exit=10ms",
    ]
    (line,) = ruled(["times", GETPPID, 1], rules, with_results)
    result, time = map(int, line.split())
    assert result == os.getpid()
    assert time >= 60_000_000


def test_a_delay_on_return_keeps_the_result_and_the_call_has_happened(with_results, ruled):
    (line,) = ruled(["pipe"], ["write:when=1:delay_exit=700ms"], with_results)
    result, arrived, time = map(int, line.split())
    assert (result, arrived) == (1, 1)
    assert time >= 700_000_000


def test_a_delay_on_return_holds_what_a_rule_gives(with_results, ruled):
    rules = ["getppid:delay_exit=20ms", "getppid:error=EIO:delay_exit=20ms"]
    (line,) = ruled(["times", GETPPID, 1], rules, with_results)
    result, time = map(int, line.split())
    assert result == -5
    assert time >= 40_000_000


def test_delays_beside_a_path_are_the_same(with_results, calls, sys, tmp_path):
    rules = [
        f"mkdir:path={tmp_path}/*:delay_enter=1ms:delay_exit=1ms",
        "mkdir:when=3:error=EIO:delay_exit=1ms",
    ]
    words = [sys("mkdir", f"s:{name}", 0) for name in ("a", "/proc/x", "b")]
    assert calls(words, rules, with_results, cwd=tmp_path) == ["0", "-2", "-5"]
    assert calls.done.stats.rules == {rules[0]: 2, rules[1]: 1}
    rule = f"mkdir:path={tmp_path}/*:delay_exit=80ms"
    assert calls([sys("mkdir", "s:c", 0)], [rule], with_results, cwd=tmp_path) == ["0"]
    assert calls.done.stats.seconds >= 0.08


def test_an_engine_that_sees_no_results_refuses_a_delay_on_return():
    with pytest.raises(
        UnsupportedByEngineError, match=r"rule 'write:delay_exit=1ms' needs.*Use --engine rewrite"
    ) as caught:
        trapline.run(["true"], rules=["write:delay_exit=1ms"], engine="notify")
    assert caught.value.capability == "result"
    assert trapline.run(["true"], rules=["write:delay_exit=1ms"]).stats.engine != "notify"


def test_delays_do_not_wait_for_each_other(every, victim):
    """32 delayed calls with 2 workers: all of them are under way before the first is over."""
    done = trapline.run(
        [victim("threads"), "32", "times"],
        rules=["getppid:delay_enter=1500ms"],
        workers=2,
        capture_output=True,
        engine=every,
        timeout=60,
    )
    times = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(times) == 32
    assert max(began for began, _ in times) < min(ended for _, ended in times)
    assert all(ended - began >= 1_500_000_000 for began, ended in times)


@pytest.mark.parametrize("side", ["delay_enter", "delay_exit"])
def test_a_delayed_call_can_be_killed(every, victim, sys, side):
    if every == "notify" and side == "delay_exit":
        return
    asked = threading.Event()

    @on("getppid")
    def hook(call):
        asked.set()

    session = trapline.Session(
        [victim("caller"), sys("getppid"), sys("getuid")],
        hooks=[hook],
        rules=[f"getuid:{side}=1000s"],
        engine=every,
    )
    with session:
        assert asked.wait(60)
        session.send_signal(15)
        assert session.wait(60) == -15


def test_a_program_whose_calls_are_delayed_can_be_ended(every, victim, sys):
    session = trapline.Session(
        [victim("caller"), sys("getuid")], rules=["getuid:delay_enter=1000s"], engine=every
    )
    with session:
        session.kill()
        assert session.wait(60) == -9


def test_a_delay_comes_before_its_own_result_and_the_next_rule(every, calls, sys):
    rules = ["getuid:delay_enter=20ms:error=EIO", "getgid:delay_enter=1ms:when=2", "getgid:retval=3"]
    assert calls([sys("getuid"), sys("getgid"), sys("getgid")], rules, every) == ["-5", "3", "3"]
    assert calls.done.stats.rules == {rules[0]: 1, rules[1]: 1}


def test_a_signal_during_a_delay_costs_neither_call_nor_delay_nor_count(every, ruled):
    """The handler makes the delayed call too, as another one: the second, unless the signal came before the first."""
    rule = "getppid:delay_enter=300ms:when=1:retval=7777"
    (line,) = ruled(["alarm", GETPPID], [rule, "getppid:count"], every)
    result, handled, marked, time = map(int, line.split())
    assert handled == 1
    assert (result == 7777) + marked == 1
    assert time >= 300_000_000
    assert ruled.done.stats.rules == {rule: 1, "getppid:count": 1}


def test_a_storm_of_signals_changes_no_delay_result_or_count(every, ruled):
    rule = "getppid:delay_enter=5ms:retval=7777"
    assert ruled(["storm", GETPPID, 40], [rule, "getppid:count"], every) == ["40"]
    assert ruled.done.stats.rules == {rule: 40, "getppid:count": 0}


def test_a_handler_that_jumps_out_of_a_delayed_call_leaves_the_next_one_whole(every, ruled):
    rule = "getppid:delay_enter=250ms"
    (line,) = ruled(["jump", GETPPID], [rule], every)
    handled, result, time = map(int, line.split())
    assert handled == 1
    assert result == os.getpid()
    assert time >= 250_000_000
    assert ruled.done.stats.rules == {rule: 2}


def test_a_signal_ends_a_delay_on_return_with_the_result_in_place(with_agent, ruled):
    (line,) = ruled(["alarm", GETPPID], ["getppid:delay_exit=1000s:when=1"], with_agent)
    result, handled, _, time = map(int, line.split())
    assert (result, handled) == (os.getpid(), 1)
    assert time >= 90_000_000


def test_a_read_that_is_restarted_counts_once(with_agent, ruled):
    rule = "read:when=2+:count"
    native = ruled(["restart"], ["read:count"], with_agent)
    assert native == ["1 1"]
    before = ruled.done.stats.rules["read:count"] - 1
    assert ruled(["restart"], [f"read:when={before + 1}:retval=7777"], with_agent) == ["7777 0"]
    assert ruled(["restart"], [f"read:when={before + 2}:retval=7777", rule], with_agent) == ["1 1"]


def test_calls_by_the_32_bit_convention_are_delayed_too(every, calls):
    rules = ["getpid:delay_enter=60ms", "getgid,getgid32:delay_enter=1ms:error=EIO"]
    lines = calls(["int80 20", "sys 39", "int80 200"], rules, every)
    assert lines[0] == lines[1]
    assert lines[2] == "-5"
    assert calls.done.stats.seconds >= 0.12
    assert calls.done.stats.rules == {rules[0]: 2, rules[1]: 1}


def test_a_filter_of_the_program_that_traps_what_a_delay_needs_costs_the_delay_alone(with_agent, ruled):
    (line,) = ruled(["filtered", GETPPID], ["getppid:delay_enter=20ms:retval=7777"], with_agent)
    assert line == "7777"


def test_a_program_that_is_traced_by_another_during_a_delay_is_not_delayed_any_more(with_agent, ruled):
    """Its agent leaves it: the call that was yet to come is made, and one that has happened keeps its result."""
    if with_agent == "trap":
        return  # its filter stays, and so does the agent
    assert ruled(["traced", GETPPID], ["getppid:when=1:delay_enter=1000s"], with_agent) == ["1 0"]
    assert ruled(["traced", 1], ["write:when=1:delay_exit=1000s"], with_agent) == ["1 2"]
