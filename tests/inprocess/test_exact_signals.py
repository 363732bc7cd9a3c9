"""Signals: what handlers see and may do, masks, stacks, waits, storms, cancellation."""

from __future__ import annotations

import pytest


def test_handlers_see_the_interrupted_call_with_all_its_registers(exact):
    exact("signals/contexts")


def test_what_handlers_change_in_the_context_is_what_the_program_goes_on_with(exact):
    exact("signals/edits")


def test_a_frame_that_the_program_made_itself_is_returned_from(exact):
    exact("signals/restored")


def test_a_timer_finds_the_program_only_at_its_own_instructions(exact):
    exact("signals/rips", asked=("50",))


def test_handlers_nest_with_the_masks_of_each_level(exact):
    exact("signals/nested")


def test_sigaction_gives_back_what_was_set_for_every_signal(exact):
    exact("signals/actions")


def test_alternate_stacks_are_the_programs_own(exact):
    exact("signals/stacks")


def test_what_comes_with_a_signal_comes_whole_and_in_order(exact):
    exact("signals/info")


def test_every_signal_can_be_blocked_and_waits_meanwhile(exact):
    exact("signals/masks")


def test_calls_that_wait_with_a_mask_of_their_own_see_every_signal(exact):
    exact("signals/waits")


def test_handlers_may_be_left_by_jumps(exact):
    exact("signals/jumps")


def test_a_storm_of_timers_disturbs_no_call(exact):
    exact("signals/storm", asked=("100",))


def test_a_call_that_was_stopped_goes_on_with_the_time_that_is_left(exact):
    exact("signals/stopped")


def test_processes_end_by_signals_as_natively(exact):
    exact("signals/fatal")


def test_ignored_signals_and_children_are_ignored(exact):
    exact("signals/ignored")


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_threads_are_cancelled_in_calls_and_nothing_they_did_is_lost(exact, build, kind):
    rounds = "2" if exact.way in ("every", "result") else "10"
    exact.same([build("signals/cancel", *(["-static"] if kind == "static" else [])), rounds])


def test_every_queued_signal_arrives_once(exact):
    exact("signals/queue_storm", asked=("4", "100"))


def test_signals_that_are_blocked_or_ignored_end_no_call(exact):
    exact("signals/unseen")


def test_a_signal_that_comes_around_the_call_that_waits_for_it_is_taken(exact):
    exact("signals/awaited", asked=("300",))


def test_signals_that_an_engine_needs_may_be_sent_at_any_moment(exact):
    exact("signals/flood", asked=("200",))
