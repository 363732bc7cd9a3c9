"""Seeded probability: which calls are hit is known before the program runs, and looks random."""

from __future__ import annotations

import itertools
import math

import pytest

GETPPID = 110
WORD = 2**64 - 1


def mix(x: int) -> int:
    for _ in range(2):
        x = (x ^ x >> 32) * 0xD6E8FEB86659FD93 & WORD
    return x ^ x >> 32


def expected(p: float, seed: int, count: int) -> list[int]:
    """Return which calls are hit, by the definition in the documentation."""
    stream = mix((seed + 0x9E3779B97F4A7C15) & WORD)
    misses = int((1 - p) * 2.0**64)
    return [
        number
        for number in range(1, count + 1)
        if mix((stream + number * 0x9E3779B97F4A7C15) & WORD) >= misses
    ]


@pytest.mark.parametrize(
    ("p", "seed"), [("0.3", 7), ("0.3", 8), ("0.5", 0), ("0.01", 2**64 - 1), ("1e-2", 1), ("1", 5)]
)
def test_the_same_seed_hits_the_same_calls_on_every_engine(every, ruled, p, seed):
    (line,) = ruled(["hits", GETPPID, 400], [f"getppid:p={p}:seed={seed}:retval=7777"], every)
    assert list(map(int, line.split())) == expected(float(p), seed, 400)


def test_without_a_seed_it_is_the_number_of_the_rule(every, ruled):
    rules = ["getgid:count", "getppid:p=0.2:retval=7777"]
    (line,) = ruled(["hits", GETPPID, 200], rules, every)
    assert list(map(int, line.split())) == expected(0.2, 2, 200)


def test_a_chance_is_taken_of_what_when_leaves(every, ruled):
    (line,) = ruled(["hits", GETPPID, 300], ["getppid:when=10..200+2:p=0.4:seed=9:retval=7777"], every)
    assert list(map(int, line.split())) == [n for n in expected(0.4, 9, 200) if n >= 10 and n % 2 == 0]


def test_as_many_of_many_calls_are_hit_as_the_seed_says(every, ruled):
    rule = "getppid:p=0.01:seed=42:retval=7777"
    hit = len(expected(0.01, 42, 100_000))
    assert ruled(["many", GETPPID, 4, 1, 25_000], [rule], every) == [str(hit)]
    assert ruled.done.stats.rules == {rule: hit}
    assert abs(hit - 1000) < 5 * math.sqrt(990)


def test_different_seeds_are_independent():
    """Of 50 streams: each hits as often as it should, and two of them together as often as chance has it."""
    count, p = 4000, 0.1
    streams = [set(expected(p, seed, count)) for seed in range(50)]
    for stream in streams:
        assert abs(len(stream) - count * p) < 5 * math.sqrt(count * p * (1 - p))
    both = sum(len(one & other) for one, other in itertools.pairwise(streams))
    mean = 49 * count * p * p
    assert abs(both - mean) < 5 * math.sqrt(mean)


def test_neighbours_in_one_stream_are_independent():
    hits = set(expected(0.1, 1, 40_000))
    both = sum(number + 1 in hits for number in hits)
    assert abs(both - 400) < 5 * math.sqrt(400)
