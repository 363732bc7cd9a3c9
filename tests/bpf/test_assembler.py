from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trapline.bpf import action
from trapline.bpf.assembler import JUMP_EQ, JUMP_GE, JUMP_SET, Assembler, AssemblerError
from trapline.bpf.instruction import ALU_AND, JUMP, LOAD_WORD, MISC, RETURN, TAX, from_bytes, to_bytes
from trapline.bpf.interpreter import SeccompData, check, run
from trapline.bpf.program import Program, ProgramTooLongError


def answer(asm: Assembler, nr: int) -> int:
    program = asm.assemble()
    check(program)
    return run(program, SeccompData(nr, 0)).action


def test_labels_become_offsets():
    asm = Assembler()
    yes = asm.label()
    asm.load(0)
    asm.branch(JUMP_EQ, 39, yes, None)
    asm.ret(action.RET_ALLOW)
    asm.place(yes)
    asm.ret(action.errno(1))
    assert asm.assemble() == (
        (LOAD_WORD, 0, 0, 0),
        (JUMP_EQ, 1, 0, 39),
        (RETURN, 0, 0, action.RET_ALLOW),
        (RETURN, 0, 0, action.RET_ERRNO | 1),
    )


@pytest.mark.parametrize("filler", [0, 254, 255, 256, 257, 1000, 3000])
@pytest.mark.parametrize("far_first", [True, False])
def test_a_jump_reaches_targets_at_any_distance(filler, far_first):
    asm = Assembler()
    far, near = asm.label(), asm.label()
    asm.load(0)
    if far_first:
        asm.branch(JUMP_EQ, 1, far, near)
    else:
        asm.branch(JUMP_EQ, 1, near, far)
    asm.place(near)
    for _ in range(filler):
        asm.emit(MISC | TAX)
    asm.ret(100)
    asm.place(far)
    asm.emit(MISC | TAX)  # no return, so that it cannot be copied
    asm.ret(200)
    program = asm.assemble()
    check(program)
    assert run(program, SeccompData(1, 0)).action == (200 if far_first else 100)
    assert run(program, SeccompData(2, 0)).action == (100 if far_first else 200)
    longs = sum(code == JUMP for code, *_ in program)
    assert longs == (1 if filler + 1 > 255 else 0)


def test_a_far_return_is_copied_rather_than_jumped_to():
    asm = Assembler()
    near = asm.label()
    asm.load(0)
    asm.branch(JUMP_EQ, 1, asm.returning(7), near)
    asm.place(near)
    for _ in range(600):
        asm.emit(MISC | TAX)
    asm.ret(9)
    program = asm.assemble()
    check(program)
    assert not any(code == JUMP for code, *_ in program)
    assert run(program, SeccompData(1, 0)).path == [0, 1, 2]


def test_equal_returns_are_merged_and_dead_code_is_dropped():
    asm = Assembler()
    first, second = asm.label(), asm.label()
    asm.load(0)
    asm.branch(JUMP_EQ, 1, first, second)
    asm.emit(MISC | TAX)  # nothing leads here
    asm.place(first)
    asm.ret(5)
    asm.place(second)
    asm.ret(5)
    asm.place(asm.label())
    asm.ret(6)
    program = asm.assemble()
    assert program[-1] == (RETURN, 0, 0, 5)
    assert len(program) <= 2


def test_a_word_that_every_path_holds_is_not_loaded_again():
    asm = Assembler()
    a, b = asm.label(), asm.label()
    asm.load(16)
    asm.branch(JUMP_EQ, 1, a, b)
    asm.place(a)
    asm.load(16)
    asm.branch(JUMP_GE, 5, asm.returning(1), b)
    asm.place(b)
    asm.load(16, 0xFF)
    asm.load(16, 0xFF)
    asm.branch(JUMP_SET, 1, asm.returning(1), None)
    asm.load(16)
    asm.branch(JUMP_SET, 2, asm.returning(1), None)
    asm.ret(0)
    codes = [code for code, *_ in asm.assemble()]
    assert codes.count(LOAD_WORD) == 2
    assert codes.count(ALU_AND) == 1


@pytest.mark.parametrize("other", [4, None], ids=["another-word", "something-computed"])
def test_a_word_that_only_some_paths_hold_is_loaded_again(other):
    asm = Assembler()
    meet = asm.label()
    asm.load(0)
    asm.branch(JUMP_EQ, 7, meet, None)
    if other is None:
        asm.emit(ALU_AND, 0)
    else:
        asm.load(other)
    asm.place(meet)  # reached by a jump with the number, and run into with something else
    asm.load(0)
    asm.branch(JUMP_GE, 5, asm.returning(1), asm.returning(0))
    program = asm.assemble()
    check(program)
    for nr in (4, 5, 6, 7):
        assert run(program, SeccompData(nr, 0)).action == (nr >= 5)


def test_labels_that_cannot_work_are_refused():
    asm = Assembler()
    label = asm.label()
    asm.place(label)
    with pytest.raises(AssemblerError, match="twice"):
        asm.place(label)
    with pytest.raises(AssemblerError, match="only jumps forward"):
        asm.branch(JUMP_EQ, 1, label, None)
    asm.load(0)
    with pytest.raises(AssemblerError, match="no return"):
        asm.assemble()
    asm.branch(JUMP_EQ, 1, asm.label(), None)
    asm.ret(0)
    with pytest.raises(AssemblerError, match="never placed"):
        asm.assemble()


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(0, 300)), min_size=1, max_size=40)
)
def test_any_ladder_of_jumps_answers_as_written(steps):
    asm = Assembler()
    asm.load(0)
    expected: dict[int, int] = {}
    skips: list[int] = []
    for number, verdict, filler in steps:
        here = asm.label()
        asm.load(0)
        asm.branch(JUMP_EQ, number, asm.returning(verdict), here)
        asm.place(here)
        for _ in range(filler // 3):
            asm.emit(ALU_AND, 0xFFFFFFFF)
        expected.setdefault(number, verdict)
        skips.append(filler)
    asm.ret(99)
    program = asm.assemble()
    check(program)
    for nr in range(42):
        assert run(program, SeccompData(nr, 0)).action == expected.get(nr, 99)


@given(st.lists(st.tuples(*[st.integers(0, top) for top in (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)]), max_size=20))
def test_bytes_round_trip(instructions):
    assert from_bytes(to_bytes(instructions)) == tuple(instructions)


def test_half_an_instruction_is_refused():
    with pytest.raises(ValueError, match="8-byte"):
        from_bytes(b"1234")


def test_more_than_4096_instructions_propose_the_arena():
    with pytest.raises(ProgramTooLongError, match="one arena") as caught:
        Program([(RETURN, 0, 0, 0)] * 4097)
    assert caught.value.length == 4097
