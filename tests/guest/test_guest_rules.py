"""What the kernel says at the edges of its calls is what a guest is told, on every engine."""

from __future__ import annotations

import mmap

import pytest
from machine_calls import call_of

from trapline import Errno


def test_rules_of_mapping(same, victim, tmp_path):
    same(victim("guest/mapping_rules"), str(tmp_path / "file"))


def test_rules_of_signals(same, victim):
    same(victim("guest/signal_rules"))


@pytest.mark.parametrize("end", ["return", "exit", "abort"])
def test_rules_of_threads_and_locks(same, victim, end):
    """Whatever its threads wait for when it ends."""
    same(victim("guest/thread_rules"), end)


def test_large_pages_are_aligned_where_there_are_any(guest, assemble):
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000  # MAP_HUGETLB
    try:
        mmap.mmap(-1, 1 << 21, flags=flags).close()
        known = True
    except OSError:
        known = False
    g = guest()
    got = g.call(g.arena.load_code(assemble(call_of(9))), 0, 5, 3, flags)
    if known:
        assert got % (1 << 21) == 0
        assert got in g.arena
    else:
        assert got == -Errno.ENOMEM


def test_what_cannot_be_taken_back_is_not_done(guest, assemble):
    """Memory that is sealed could not be given back when the guest is closed."""
    g = guest()
    page = g.arena.map(4096)
    assert g.call(g.arena.load_code(assemble(call_of(462))), page, 4096, 0) == -Errno.ENOSYS
