"""Registers, flags, vectors and instructions: nothing tells a call that is caught from one that is not."""

from __future__ import annotations

import pytest


def test_registers_and_flags_are_those_that_the_kernel_leaves(exact):
    exact("machine/registers")


def test_vector_and_floating_point_state_survives_calls_forks_and_handlers(exact):
    exact("machine/vectors")


def test_single_steps_over_calls_are_reported_where_they_are_natively(exact):
    exact("machine/step")


def test_nothing_below_the_stack_pointer_of_a_leaf_function_is_written(exact):
    exact("machine/red_zone")


def test_numbers_without_a_call_and_garbage_in_upper_halves_are_as_natively(exact):
    exact("machine/numbers")


def test_int80_keeps_every_register_and_may_block_all_signals(exact):
    exact("machine/int80")


def test_vsyscalls_answer(exact):
    exact("machine/vsyscall")


def test_sysenter_and_32_bit_code_in_a_64_bit_program_are_as_natively(exact):
    exact("machine/sysenter")


def test_segments_and_their_bases_are_the_programs_own(exact):
    exact("machine/segments")


@pytest.mark.limit("rewrite", "one of the three slots of the descriptor table is the agent's there")
def test_all_three_slots_for_thread_local_storage_can_be_used(exact):
    exact("machine/tls_slots")


def test_prefixes_of_the_instruction_and_pages_that_end_behind_it_change_nothing(exact):
    exact("machine/prefixes")


def test_a_program_begins_with_the_registers_stack_and_signals_of_a_native_one(exact):
    exact("machine/entry")
