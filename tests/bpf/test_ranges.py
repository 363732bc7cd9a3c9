from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trapline.bpf import ranges
from trapline.bpf.analysis import longest_path
from trapline.bpf.assembler import Assembler
from trapline.bpf.interpreter import SeccompData, check, run
from trapline.errors import UsageError

TOP = 1 << 64
WORD = 1 << 32
# Where searches go wrong: both ends, and around each change of the high word.
EDGES = [0, 1, WORD - 1, WORD, WORD + 1, 7 * WORD - 1, 7 * WORD, TOP - WORD - 1, TOP - WORD, TOP - 2, TOP - 1]
addresses = st.one_of(
    st.sampled_from(EDGES),
    st.integers(0, TOP - 1),
    st.integers(0, 40),
    st.integers(0, 3).flatmap(lambda high: st.integers(high * WORD, high * WORD + 20)),
    st.integers(WORD - 20, WORD + 20),
)
some_ranges = st.lists(
    st.tuples(addresses, addresses | st.just(TOP)).map(lambda pair: (min(pair), max(pair))), max_size=60
)


def program_for(spans, bits=64):
    asm = Assembler()
    ranges.emit(
        asm,
        ranges.tree(spans, bits),
        {"low": 8, "high": 12},
        {True: asm.returning(1), False: asm.returning(0)},
    )
    program = asm.assemble()
    check(program)
    return program


def inside(program, ip):
    return bool(run(program, SeccompData(0, 0, (), ip)).action)


def interesting(spans):
    points = set(EDGES)
    for start, end in spans:
        points |= {start - 1, start, start + 1, end - 1, end, end + 1}
        points |= {start ^ WORD, end ^ WORD, (start + end) // 2}
    return [point for point in points if 0 <= point < TOP]


@given(some_ranges, st.lists(addresses, max_size=20))
@example([(0, TOP)], [])
@example([(TOP - 1, TOP)], [])
@example([(0, 1)], [])
@example([(WORD - 1, WORD + 1)], [])
@example([(WORD, 2 * WORD), (3 * WORD, 4 * WORD)], [])
@example([(WORD + 5, 2 * WORD + 5), (2 * WORD + 7, 2 * WORD + 9)], [])
def test_the_search_agrees_with_plain_intervals(spans, extra):
    program = program_for(spans)
    for ip in interesting(spans) + extra:
        assert inside(program, ip) == ranges.contains(spans, ip), hex(ip)


@given(st.lists(st.tuples(st.integers(0, WORD), st.integers(0, WORD)).map(sorted).map(tuple), max_size=30))
def test_the_search_over_one_word_agrees_too(spans):
    program = program_for(spans, 32)
    for ip in interesting(spans):
        if ip < WORD:
            assert inside(program, ip) == ranges.contains(spans, ip)


@given(some_ranges, some_ranges)
def test_sets_behave_like_sets(a, b):
    left, right = ranges.normalize(a), ranges.normalize(b)
    for point in interesting(a + b):
        in_a, in_b = ranges.contains(a, point), ranges.contains(b, point)
        assert ranges.contains(ranges.union(left, right), point) == (in_a or in_b)
        assert ranges.contains(ranges.intersection(left, right), point) == (in_a and in_b)
        assert ranges.contains(ranges.complement(left), point) == (not in_a)


@given(some_ranges)
def test_normalized_ranges_are_minimal(spans):
    merged = ranges.normalize(spans)
    flat = [at for pair in merged for at in pair]
    assert flat == sorted(set(flat))
    assert ranges.normalize(merged) == merged
    assert ranges.complement(ranges.complement(merged)) == merged


@pytest.mark.parametrize("count", [1, 2, 16, 256, 700, 1000])
@pytest.mark.parametrize("spread", [0x2000, 1 << 20, 1 << 33], ids=["one-word", "some-words", "every-word"])
def test_the_longest_path_grows_with_the_logarithm(count, spread):
    program = program_for([(0x10000 + n * spread, 0x10000 + n * spread + 0x1000) for n in range(count)])
    # One comparison per halving of the 2n bounds and one for the high word, two loads, a return, and a long
    # jump at each of the upper levels, where half the tree is out of a short jump's reach.
    upper = (len(program) // 255).bit_length()
    assert longest_path(program) <= (2 * count).bit_length() + 1 + 3 + upper
    assert len(program) <= 2.2 * count * (2 if spread >= 1 << 32 else 1) + 8


def test_nothing_and_everything_need_no_comparison():
    assert len(program_for([])) == 1
    assert len(program_for([(0, TOP)])) == 1
    assert len(program_for([(0, 5), (5, TOP)])) == 1


@pytest.mark.parametrize("span", [(5, 4), (-1, 4), (0, TOP + 1)])
def test_impossible_ranges_are_refused(span):
    with pytest.raises(UsageError, match="range"):
        ranges.tree([span])


def test_an_empty_range_holds_nothing():
    assert ranges.normalize([(5, 5)]) == ()
