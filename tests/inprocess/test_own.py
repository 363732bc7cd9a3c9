"""Programs that filter, dispatch or trace system calls themselves."""

from __future__ import annotations

import pytest


def test_a_filter_of_its_own_traps_to_its_own_handler(exact):
    exact("own/trap_filter")


def test_dispatch_of_its_own_works_with_its_own_selector(exact):
    exact("own/dispatch")


@pytest.mark.limit("sud", "a filter sees where the agent makes the call")
@pytest.mark.limit("rewrite", "a filter sees where the agent makes the call")
@pytest.mark.limit("trap", "a filter sees where the agent makes the call")
def test_a_filter_of_its_own_sees_the_programs_instruction_pointer(exact):
    exact("own/pointer_filter")


@pytest.mark.not_on("trap", "strict mode is refused to a program that has a filter")
@pytest.mark.not_on("ptrace", "strict mode is refused to a program that has a filter")
def test_a_program_may_lock_itself_in(exact):
    exact("own/sandbox")


def test_a_listener_of_its_own_answers_its_child(exact):
    exact("own/listener")


def test_text_that_cannot_be_changed_any_more_still_makes_calls(exact):
    exact("own/hardened")


def test_restartable_sequences_stay_whole(exact):
    exact("own/rseq", asked=("2000",))


@pytest.mark.traces
def test_it_may_trace_the_calls_of_a_child(exact):
    exact("own/tracer_calls")


@pytest.mark.traces
def test_it_may_break_step_and_follow_a_child(exact):
    exact("own/tracer_events")
