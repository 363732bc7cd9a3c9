"""What a program does to descriptors, memory, limits and privileges, it does not do to its hooks."""

from __future__ import annotations

import resource

import pytest

RULE = ("getppid:retval=77",)


@pytest.mark.parametrize("name", ["protect/descriptors", "protect/mappings"])
def test_whatever_the_program_does_to_what_is_not_its_own_its_hooks_stay(under, build, name):
    done = under([build(name)], rules=RULE)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-2:] == ["ok", "77"]
    assert done.returncode == 0


def test_every_descriptor_that_the_limit_allows_is_the_programs(under, build):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= 1024:
        pytest.skip("the hard limit of descriptors is too low to have a soft one below it")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        done = under([build("protect/descriptors")], rules=RULE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (done.stderr, done.stdout.splitlines()[-2:]) == ("", ["ok", "77"])


def test_limits_can_be_lowered_and_memory_locked(exact):
    exact("protect/limits")


def test_addresses_that_programs_count_on_are_free(exact):
    exact("protect/addresses")


@pytest.mark.not_on("ptrace", "its status says that it is traced")
def test_readers_of_proc_self_find_what_they_find_natively(exact):
    exact("protect/readers")


def test_programs_may_give_up_root_namespaces_and_privileges(exact):
    exact("protect/privileges")
