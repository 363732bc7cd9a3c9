"""Threads and processes, made in every way."""

from __future__ import annotations


def test_tasks_made_by_clone_and_clone3_are_as_natively(exact):
    exact("threads/clone")


def test_a_child_of_vfork_may_overwrite_the_stack_that_it_shares(exact):
    exact("threads/vfork")


def test_thousands_of_threads_come_and_go(exact):
    exact("threads/many", asked=("150", "50"))


def test_calls_need_no_stack(exact):
    exact("threads/stacks")


def test_forks_from_threads_and_handlers_are_as_natively(exact):
    exact("threads/forks")
