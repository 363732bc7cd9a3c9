from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trapline.bpf import action
from trapline.bpf.analysis import constant_allow, longest_path
from trapline.bpf.disassembler import disassemble
from trapline.bpf.instruction import LOAD_WORD, MAX_INSTRUCTIONS, RETURN
from trapline.bpf.interpreter import (
    OPCODES,
    InvalidProgramError,
    SeccompData,
    check,
    run,
)

from . import kernel

ALLOW = (RETURN, 0, 0, action.RET_ALLOW)
needs_kernel = pytest.mark.skipif(not kernel.can_install(), reason="seccomp filters cannot be installed here")


def takes(program) -> bool:
    try:
        check(program)
    except InvalidProgramError:
        return False
    return True


ks = st.one_of(st.integers(0, 70), st.sampled_from([15, 16, 31, 32, 64, 0xFFFFF000, 0x7FFFFFFF, 0xFFFFFFFF]))
known = st.sampled_from(sorted(OPCODES))
instructions = st.tuples(
    st.one_of(known, known, known, st.integers(0, 0xFF), st.integers(0, 0xFFFF)),
    st.integers(0, 6) | st.integers(0, 255),
    st.integers(0, 6) | st.integers(0, 255),
    ks,
)
# Small offsets and few words of memory, so that a good share is valid.
tame = st.one_of(
    st.tuples(st.just(LOAD_WORD), st.just(0), st.just(0), st.sampled_from([0, 4, 8, 60])),
    st.tuples(st.sampled_from([0x02, 0x03, 0x60, 0x61]), st.just(0), st.just(0), st.integers(0, 3)),
    st.tuples(st.sampled_from([0x15, 0x25, 0x35, 0x45, 0x1D]), st.integers(0, 4), st.integers(0, 4), ks),
    st.tuples(st.sampled_from([0x05, 0x06, 0x16]), st.just(0), st.just(0), st.integers(0, 4)),
    st.tuples(
        st.sampled_from([0x07, 0x87, 0x80, 0x81, 0x00, 0x01, 0x34, 0x64, 0x74, 0x3C, 0x84]),
        *[st.just(0)] * 2,
        ks,
    ),
)
programs = st.one_of(
    st.lists(instructions, max_size=8).map(lambda body: [*body, ALLOW]),
    st.lists(tame, max_size=12).map(lambda body: [*body, ALLOW]),
    st.lists(tame, min_size=1, max_size=6),
)


@needs_kernel
@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(programs, min_size=100, max_size=100))
def test_the_checker_agrees_with_the_kernel_about_generated_programs(batch):
    batch = [[(0x06, 0, 0, 0x7FFF0000), *program] for program in batch]
    answers = kernel.verdicts([program[1:] for program in batch])
    assert set(answers) <= {0, kernel.EINVAL}
    for program, verdict in zip(batch, answers, strict=True):
        assert takes(program) == (verdict == 0), program


@needs_kernel
def test_the_checker_agrees_with_the_kernel_about_every_opcode():
    batch = [[(code, 0, 0, k), ALLOW] for code in range(0x200) for k in (0, 4, 16, 31, 32, 64, 0xFFFFF000)]
    # Each accepted filter costs memory that the child keeps: so in parts.
    for at in range(0, len(batch), 500):
        part = batch[at : at + 500]
        for program, verdict in zip(part, kernel.verdicts(part), strict=True):
            assert takes([ALLOW, *program]) == (verdict == 0), program


@needs_kernel
def test_the_checker_agrees_with_the_kernel_about_scratch_memory_and_ends():
    load, store, jump, branch = (0x60, 0, 0, 0), (0x02, 0, 0, 0), (0x05, 0, 0, 1), (0x15, 0, 1, 7)
    batch = [
        [load, ALLOW],
        [store, load, ALLOW],
        [jump, store, load, ALLOW],
        [branch, store, load, ALLOW],
        [store, branch, ALLOW, load, ALLOW],
        [store, ALLOW, load, ALLOW],
        [ALLOW, load, ALLOW],
        [jump, ALLOW, ALLOW, load, ALLOW],
        [store, jump, ALLOW, load, ALLOW],
        [store],
        [(0x0E, 0, 0, 0)],
        [(0x16, 0, 0, 0)],
        [(0x05, 0, 0, 0), ALLOW],
        [(0x05, 0, 0, 1), ALLOW],
        [(0x05, 0, 0, 0xFFFFFFFF), ALLOW],
        [(0x15, 1, 0, 0), ALLOW],
        [ALLOW] * (MAX_INSTRUCTIONS - 1),
        [ALLOW] * MAX_INSTRUCTIONS,
    ]
    for program, verdict in zip(batch, kernel.verdicts(batch), strict=True):
        assert takes([ALLOW, *program]) == (verdict == 0), program[:5]


def test_a_refusal_says_where_and_why():
    with pytest.raises(InvalidProgramError, match=r"instruction 1: divides by zero") as caught:
        check([(LOAD_WORD, 0, 0, 0), (0x34, 0, 0, 0), ALLOW])
    assert caught.value.position == 1
    with pytest.raises(InvalidProgramError, match="0 instructions"):
        check([])
    with pytest.raises(InvalidProgramError, match="does not fit"):
        check([(0x06, 0, 0, 1 << 32)])


def reference(code: int, a: int, b: int) -> int:
    """Return what an ALU operation gives, written down once more and differently."""
    wide = {
        0x00: a + b,
        0x10: a - b,
        0x20: a * b,
        0x40: a | b,
        0x50: a & b,
        0x60: a * 2 ** (b % 32),
        0x70: a // 2 ** (b % 32),
        0xA0: a ^ b,
        0x80: -a,
    }
    return wide[code & 0xF0] % 2**32


words = st.one_of(
    st.sampled_from([0, 1, 2, 31, 32, 33, 1 << 31, (1 << 32) - 1]), st.integers(0, (1 << 32) - 1)
)


@given(st.sampled_from([0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xA0, 0x80]), words, words)
def test_arithmetic_is_that_of_32_bits(op, a, b):
    # X := nr, A := arch, A := A op X
    program = [
        (LOAD_WORD, 0, 0, 0),
        (0x07, 0, 0, 0),
        (LOAD_WORD, 0, 0, 4),
        (0x0C | op, 0, 0, 0),
        (0x16, 0, 0, 0),
    ]
    if op == 0x80:
        program[3] = (0x84, 0, 0, 0)
    check(program)
    assert run(program, SeccompData(b, a)).action == reference(op, a, b)


def test_division_by_a_zero_register_ends_with_zero():
    program = [(0x00, 0, 0, 7), (0x3C, 0, 0, 0), ALLOW]
    check(program)
    assert run(program, SeccompData(0, 0)).action == action.RET_KILL_THREAD


def test_every_load_and_store_does_its_part():
    program = [
        (0x80, 0, 0, 0),  # ld len
        (0x02, 0, 0, 3),  # st M[3]
        (0x61, 0, 0, 3),  # ldx M[3]
        (0x00, 0, 0, 2),  # ld #2
        (0x0C, 0, 0, 0),  # add x
        (0x07, 0, 0, 0),  # tax
        (0x03, 0, 0, 4),  # stx M[4]
        (0x01, 0, 0, 9),  # ldx #9
        (0x87, 0, 0, 0),  # txa
        (0x1D, 0, 1, 0),  # jeq x
        (0x60, 0, 0, 4),  # ld M[4]
        (0x16, 0, 0, 0),
    ]
    check(program)
    result = run(program, SeccompData(0, 0))
    assert result.action == 66
    assert result.path == list(range(12))


def test_seccomp_data_is_laid_out_as_in_the_kernel():
    data = SeccompData(-1, "i386", [1 << 40 | 2], 3 << 32 | 4)
    assert data.words == [0xFFFFFFFF, 0x40000003, 4, 3, 2, 256, *[0] * 10]
    with pytest.raises(ValueError, match="at most 6"):
        SeccompData(0, 0, [0] * 7)


def test_only_number_and_architecture_decide_what_is_cached():
    by_number = [(LOAD_WORD, 0, 0, 0), (0x15, 0, 1, 39), (RETURN, 0, 0, action.errno(1)), ALLOW]
    assert not constant_allow(by_number, 39, 0)
    assert constant_allow(by_number, 40, 0)
    by_argument = [(LOAD_WORD, 0, 0, 16), *by_number[1:]]
    assert not constant_allow(by_argument, 40, 0)
    assert not constant_allow([(RETURN, 0, 0, action.RET_LOG)], 0, 0)
    masked = [(LOAD_WORD, 0, 0, 4), (0x54, 0, 0, 1), (0x15, 0, 1, 1), ALLOW, (RETURN, 0, 0, 0)]
    assert constant_allow(masked, 0, 3)
    assert not constant_allow(masked, 0, 2)
    assert not constant_allow([(0x00, 0, 0, 1), ALLOW], 0, 0)


@given(st.lists(instructions, max_size=12))
def test_anything_can_be_disassembled(program):
    assert len(disassemble(program).splitlines()) == len(program)


def test_the_longest_path_is_counted_over_both_sides_of_a_jump():
    assert longest_path([(0x15, 1, 0, 0), ALLOW, (0x05, 0, 0, 0), ALLOW]) == 3
