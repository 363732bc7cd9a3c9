"""Which window is chosen, and which sites are left alone. Code is written as bytes; objdump reads it."""

from __future__ import annotations

import pytest

from trapline.rewriting.instructions import displacement
from trapline.rewriting.windows import REASONS, Plan, Refusal, plan

from .streams import Piece, layout

BASE = 0x401000
SYSCALL = "0f05"
MOVE = "b827000000"  # mov $39, %eax
RET = "c3"
CALL = "e800000000"
#: Something long enough in front that what follows is all that decides.
FRONT = "f30f1efa" + "31ff" * 6


def planned(text: str, **options: object) -> Plan | Refusal:
    """Plan the first `syscall` of code in hexadecimal; it begins a function unless *starts* says otherwise."""
    code = bytes.fromhex(text.replace(" ", ""))
    settings = {"starts": [BASE]} | options
    return plan(code, BASE, BASE + code.index(b"\x0f\x05"), **settings)  # type: ignore[arg-type]


def window(text: str, **options: object) -> tuple[str, int, int, tuple[int, ...]]:
    found = planned(text, **options)
    assert isinstance(found, Plan), found
    return found.kind, found.start, found.end, found.trapping


def reason(text: str, **options: object) -> str:
    found = planned(text, **options)
    assert isinstance(found, Refusal), found
    assert found.text == REASONS[found.reason]
    return found.reason


def test_the_number_in_front_is_the_best_window() -> None:
    assert window(f"{FRONT}{MOVE}{SYSCALL}483d01f0ffff{RET}") == ("move", -5, 2, ())


def test_the_syscall_stays_in_place_behind_a_window_in_front() -> None:
    found = planned(f"{MOVE}{SYSCALL}{RET}")
    assert isinstance(found, Plan)
    assert found.keeps_syscall
    assert found.boundaries == (0,)


def test_longer_instructions_in_front_need_no_trapping_bytes() -> None:
    # mov $1, %esi; mov %r9d, %eax
    assert window(f"31ffbe010000004489c8{SYSCALL}{RET}") == ("before", -8, 2, ())


def test_a_byte_of_the_offset_traps_where_an_instruction_began_inside_the_jump() -> None:
    # xor %edi, %edi; mov %edx, %eax; syscall
    assert window(f"f30f1efa31ff89d0{SYSCALL}{CALL}") == ("before", -4, 2, (1, 3))
    # syscall; cmp $-4095, %rax
    assert window(f"{SYSCALL}483d01f0ffff{RET}") == ("after", 0, 8, (1,))


def test_instructions_on_both_sides_make_a_window_where_neither_is_enough() -> None:
    # xor %eax, %eax; syscall; ret, and another function right behind
    assert window(f"31c0{SYSCALL}{RET}{CALL}", starts=[BASE, BASE + 5]) == ("around", -2, 3, (1, 3))


def test_padding_behind_the_end_of_a_function_may_be_overwritten() -> None:
    assert window(f"{SYSCALL}{RET}0f1f4000{RET}") == ("after", 0, 7, (1, 2))
    assert window(f"{SYSCALL}{RET}cccc{CALL}") == ("after", 0, 5, (1, 2, 3))


def test_what_follows_the_end_of_a_function_is_somebody_elses() -> None:
    assert reason(f"{SYSCALL}{RET}31c0{RET}") == "ends"
    assert reason(f"{SYSCALL}{RET}0f1f4000", starts=[BASE, BASE + 3]) == "function"


def test_what_looks_like_padding_where_a_function_may_begin_is_left_alone() -> None:
    assert reason(f"{'90' * 13}{SYSCALL}{RET}0f1f4000{RET}", starts=None) == "ends"
    assert window(f"{'90' * 12}{SYSCALL}{RET}0f1f4000{RET}", starts=None)[0] == "after"


def test_nothing_moves_to_where_control_does_not_come_back() -> None:
    assert reason(f"{SYSCALL}483d01f0ffff", returns=False) == "ends"
    assert window(f"{MOVE}{SYSCALL}f4", returns=False) == ("move", -5, 2, ())


def test_a_tail_that_leaves_needs_no_jump_back() -> None:
    jump = planned(f"{SYSCALL}e9d0000000")
    branch = planned(f"{SYSCALL}0f84d0000000")
    assert isinstance(jump, Plan)
    assert isinstance(branch, Plan)
    assert not jump.goes_on
    assert branch.goes_on


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        (CALL, "call"),
        ("ff10", "call"),
        (SYSCALL, "kernel-entry"),
        ("cd80", "kernel-entry"),
        ("0f34", "kernel-entry"),
        ("cc", "kernel-entry"),
        ("f30f1efa", "landing-pad"),
        ("f4", "privileged"),
        ("fa", "privileged"),
        ("ec", "privileged"),
        ("9d", "trap-flag"),
        ("8ed0", "trap-flag"),
        ("d9ee", "own-address"),
        ("0f01d5", "own-address"),
        ("c7f800000000", "own-address"),
        ("cb", "far"),
        ("48cf", "far"),
        ("ff28", "far"),
        ("e2f0", "odd"),
        ("6690e2f0", "odd"),
        ("66eb10", "odd"),
        ("3e7410", "odd"),
        ("678b0500000000", "odd"),
        ("0f0b", "invalid"),
        ("06", "invalid"),
        ("62", "unreadable"),
        ("", "unreadable"),
        ("90", "unreadable"),
    ],
)
def test_what_cannot_be_displaced_is_left_alone_and_said(behind: str, expected: str) -> None:
    tail = "" if expected == "unreadable" else "90" * 16
    assert reason(f"{SYSCALL}{behind}{tail}") == expected


def test_what_cannot_be_displaced_does_not_matter_beyond_a_window_in_front() -> None:
    assert window(f"{FRONT}{MOVE}{SYSCALL}{CALL}") == ("move", -5, 2, ())


def test_a_signal_restorer_keeps_the_bytes_that_unwinders_look_for() -> None:
    assert reason(f"48c7c00f000000{SYSCALL}0f1f8000000000") == "restorer"


def test_there_has_to_be_a_syscall() -> None:
    assert plan(b"\x90" * 8, BASE, BASE + 2).reason == "no-syscall"  # type: ignore[union-attr]
    assert plan(b"\x0f", BASE, BASE).reason == "no-syscall"  # type: ignore[union-attr]
    assert plan(b"\x0f\x05", BASE, BASE - 4).reason == "no-syscall"  # type: ignore[union-attr]


def test_a_window_on_two_pages_is_refused_only_where_it_must_be() -> None:
    code = bytes.fromhex(MOVE + SYSCALL + RET)
    base = 0x401FFD
    assert isinstance(plan(code, base, base + 5, starts=[base]), Plan)
    assert plan(code, base, base + 5, starts=[base], one_page=True).reason == "page"  # type: ignore[union-attr]


def test_a_branch_into_the_middle_makes_another_window_better() -> None:
    # 1: xor %edi, %edi; mov $39, %eax; 2: syscall; cmp $-4095, %rax; je 2b
    retry = f"31ff{MOVE}{SYSCALL}483d01f0ffff74f6{RET}"
    assert window(retry)[0] == "after"
    assert window(retry.replace("74f6", "74ef"))[0] == "move"
    # With a call behind it the jump to the syscall goes on trapping, and the way through the window does not.
    assert window(f"31ff{MOVE}{SYSCALL}{CALL}74f7{RET}")[0] == "move"


def test_branches_into_every_window_are_a_reason() -> None:
    # syscall; 1: cmp $-4095, %rax; je 1b
    assert reason(f"{SYSCALL}483d01f0ffff74f8{RET}") == "target"
    assert reason(f"{SYSCALL}483d01f0ffff{RET}", targets=[BASE + 2]) == "target"


def test_a_branch_past_a_prefix_leaves_nothing_proven_in_front() -> None:
    # je 1f; lock; 1: incl (%rsi), mov $39, %eax; syscall; call
    assert reason(f"7401f0ff06{MOVE}{SYSCALL}{CALL}") == "call"
    # Past the whole instruction it leads to the window's start, where it finds the jump.
    assert window(f"7403f0ff06{MOVE}{SYSCALL}{CALL}")[0] == "move"


def test_an_address_that_is_taken_counts_as_a_target() -> None:
    # syscall; 1: cmp $-4095, %rax; lea 1b(%rip), %rax
    assert reason(f"{SYSCALL}483d01f0ffff488d05f3ffffff{RET}") == "target"
    # lea 1f(%rip), %rdx; syscall; 1: call: behind the window nothing has changed
    assert window(f"488d1502000000{SYSCALL}{CALL}") == ("before", -7, 2, ())


def test_code_of_unknown_origin_is_believed_only_where_all_decodes_agree() -> None:
    # push %rbp; mov %rsp, %rbp; ... and so on: whole instructions, in which any decode falls into step
    front = "554889e54883ec10488b4708488b5710" * 8
    assert window(f"{front}{MOVE}{SYSCALL}{CALL}", starts=None) == ("move", -5, 2, ())
    # mov $39, %r8d: the byte in front makes it another instruction
    assert reason(f"{front}41{MOVE}{SYSCALL}{CALL}", starts=None) == "call"
    # Only the number is moved there; in a file anything is.
    assert reason(f"{front}be010000004489c8{SYSCALL}{CALL}", starts=None) == "call"
    assert window(f"{front}be010000004489c8{SYSCALL}{CALL}", starts=[]) == ("before", -8, 2, ())


def test_too_little_code_in_front_proves_nothing() -> None:
    assert reason(f"{MOVE}{SYSCALL}{CALL}", starts=None) == "call"
    assert reason(f"{MOVE}{SYSCALL}{CALL}", starts=[]) == "call"


def test_a_prefix_in_front_of_unproven_code_may_belong_to_it() -> None:
    assert reason(f"66{SYSCALL}483d01f0ffff", starts=None) == "prefixed"
    assert reason(f"66{SYSCALL}483d01f0ffff", starts=[BASE]) == "prefixed"


def test_a_function_that_decodes_past_the_site_proves_nothing() -> None:
    # mov $0x050f..., %eax: the site is in the middle of an instruction.
    assert reason(f"90b80f05 0000{CALL}") in ("call", "unreadable", "invalid")


def test_a_reference_that_no_block_can_reach_is_a_reason() -> None:
    # syscall; mov 0x7ffffff0(%rip), %rax
    assert reason(f"{SYSCALL}488b05f0ffff7f{RET}") == "reach"


def test_every_length_of_what_precedes_is_tried() -> None:
    # push %rbx; push %rbp; pop %rbp; pop %rbx; push, pop; mov %edx, %eax
    assert window(f"5355 5d5b 535b 89d0{SYSCALL}{CALL}")[0] == "before"


def test_an_offset_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(OverflowError, match="does not fit"):
        displacement(1 << 31)


def test_layouts_of_the_generator_are_what_they_say() -> None:
    stream = layout([Piece(b"\x74\x00", skips=1), Piece(b"\x90"), Piece(b"\x0f\x05"), Piece(b"\xc3")], 2, 39)
    assert stream.code.hex() == "7401900f05c3"
