"""The arena by itself."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from trapline.errors import UsageError
from trapline.guest import Arena, ArenaError

PAGE = 4096


def test_a_tebibyte_is_reserved_and_costs_nothing():
    with Arena() as arena:
        assert arena.size == 1 << 40
        assert arena.start in arena
        assert arena.end not in arena
        assert list(arena) == []


def test_what_is_mapped_is_found_protected_and_freed(arena):
    at = arena.map(3 * PAGE, "rw", name="data")
    assert at in arena
    arena.memory(at, 5)[:] = b"hello"
    assert arena.read(at, 5) == b"hello"
    arena.protect(at + PAGE, PAGE, "r")
    areas = [(area.start - at, area.end - at, area.protection) for area in arena]
    assert areas == [(0, PAGE, 3), (PAGE, 2 * PAGE, 1), (2 * PAGE, 3 * PAGE, 3)]
    arena.protect(at + PAGE, PAGE, "rw")
    assert [(area.start, area.end) for area in arena] == [(at, at + 3 * PAGE)]
    arena.free(at + PAGE, PAGE)
    assert arena.find(at + PAGE) is None
    assert arena.find(at).end == at + PAGE
    assert arena.read(at, 3 * PAGE) == b"hello" + bytes(PAGE - 5)


def test_memory_is_a_view_that_respects_protection(arena):
    at = arena.map(PAGE, "r")
    with pytest.raises(TypeError):
        arena.memory(at, 4)[:] = b"abcd"
    arena.protect(at, PAGE, "")
    with pytest.raises(ArenaError):
        arena.memory(at, 4)
    with pytest.raises(ArenaError):
        arena.memory(at + PAGE, 4)


def test_nothing_is_mapped_outside(arena):
    for at in (arena.start - PAGE, arena.end, arena.end - PAGE):
        with pytest.raises(ArenaError):
            arena.map(2 * PAGE, "rw", at=at)
    with pytest.raises(ArenaError):
        arena.protect(arena.start, PAGE, "r")


def test_room_is_found_at_the_hint_or_elsewhere(arena):
    hint = arena.start + 64 * PAGE
    assert arena.gap(4 * PAGE, hint) == hint
    arena.map(4 * PAGE, "rw", at=hint)
    other = arena.gap(4 * PAGE, hint)
    assert other != hint
    assert not arena.overlapping(other, other + 4 * PAGE)


def test_a_full_arena_says_so():
    with Arena(16 * PAGE) as small:
        small.map(10 * PAGE)
        with pytest.raises(ArenaError, match="no room left"):
            small.map(10 * PAGE)
        small.map(6 * PAGE)


def test_an_arena_is_at_the_address_that_is_asked_for():
    with Arena(PAGE, base=0x7000000000) as arena:
        assert arena.start == 0x7000000000
        with pytest.raises(ArenaError, match="Something of this process"):
            Arena(PAGE, base=0x7000000000)


def test_sizes_are_whole_pages():
    for size in (0, -PAGE, 5):
        with pytest.raises(UsageError):
            Arena(size)


def test_a_limit_on_addresses_gives_a_smaller_arena_or_a_clear_error():
    script = (
        "import resource\n"
        "from trapline.guest import Arena\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), resource.RLIM_INFINITY))\n"
        "print(Arena().size >> 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))\n"
        "try: Arena()\n"
        "except OSError as error: print('ulimit' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("2\nTrue\n", "")
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
