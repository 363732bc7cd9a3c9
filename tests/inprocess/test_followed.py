"""What real test suites found: tracers of running programs, signals that wait, lists of descriptors."""

from __future__ import annotations

import pytest


@pytest.mark.traces
def test_a_child_may_attach_to_the_busy_threads_of_its_parent(exact):
    exact("own/attached")


@pytest.mark.traces
def test_a_thread_that_only_makes_calls_may_be_traced(exact):
    exact("own/yielding")


@pytest.mark.traces
def test_a_traced_program_is_said_to_run_without_hooks_once(under, build):
    done = under([build("own/attached")], rules=("ustat:error=EPERM",))
    assert done.stdout == "ok\n"
    assert done.stderr.count("another program traces it") == 1
    assert done.stderr.count("\n") == 1


def test_whoever_closes_all_that_is_listed_comes_to_an_end(exact):
    exact("protect/emptied")


def test_signals_that_are_sent_while_blocked_wait_until_they_are_unblocked(exact):
    exact("signals/sent_blocked")


def test_a_handler_may_make_its_stack_read_only(exact):
    exact("signals/frozen_stack")


def test_the_time_stamp_counter_may_be_forbidden(exact):
    exact("machine/counter")


def test_only_the_program_itself_registers_for_barriers(exact, monkeypatch):
    monkeypatch.setenv("TRAPLINE_REWRITE", "at-once")
    exact("own/barriers")


def test_tasks_that_want_no_tracer_are_followed(exact):
    exact("threads/untraced")
