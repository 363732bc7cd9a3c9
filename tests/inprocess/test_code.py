"""Code that is patched, moved, replaced, shared, entered in the middle, or faults."""

from __future__ import annotations


def test_a_syscall_over_the_edge_of_two_pages_works_at_every_offset(exact):
    exact("code/straddle")


def test_code_made_at_run_time_may_be_freed_and_replaced_by_other_code(exact):
    exact("code/jit")


def test_code_in_shared_memory_is_what_its_other_mappings_say(exact):
    exact("code/shared_text")


def test_protection_of_text_and_its_moves_are_as_natively(exact):
    exact("code/protect")


def test_a_library_that_was_unloaded_leaves_its_addresses_to_other_code(exact):
    exact("code/library")


def test_each_process_has_its_own_code_after_a_fork(exact):
    exact("code/fork")


def test_a_jump_to_any_instruction_around_a_hot_call_goes_on_from_there(exact):
    exact("code/middle")


def test_a_million_calls_of_threads_that_race_through_sites_all_return_what_they_should(exact):
    exact("code/race", "8", "2000", "63", asked=("4", "40", "20"))


def test_instructions_of_every_kind_may_stand_around_a_call(exact):
    exact("code/shapes")


def test_instructions_that_fault_beside_a_call_fault_where_they_are(exact):
    exact("code/faults")
