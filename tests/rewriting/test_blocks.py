"""What blocks are made of, where they may be, and how an agent is told."""

from __future__ import annotations

import struct
from itertools import islice

import iced_x86
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.rewriting import instructions
from trapline.rewriting.blocks import ABS64_AGENT, ABS64_BLOCK, OWN, REL32_AGENT, Fixup, Gate, encode
from trapline.rewriting.placement import TRAPPING, Placement, jump_bytes, placements
from trapline.rewriting.windows import REASONS, Plan, Refusal, plan
from trapline.rewriting.wire import KINDS, number_of, pack, unpack

from .machine import CODE, GATE
from .streams import Stream, streams

SITE = 0x7F12_3456_7000


def planned(text: str) -> Plan:
    code = bytes.fromhex(text.replace(" ", ""))
    at = code.index(b"\x0f\x05")
    found = plan(code, SITE - at, SITE, starts=[SITE - at])
    assert isinstance(found, Plan)
    return found


def read(code: bytes, at: int) -> list[str]:
    return [str(each) for each in iced_x86.Decoder(64, code, ip=at)]


def test_constants_are_those_of_iced_x86() -> None:
    flow, mnemonic, feature = iced_x86.FlowControl, iced_x86.Mnemonic, iced_x86.CpuidFeature
    kinds = "NEXT UNCONDITIONAL_BRANCH INDIRECT_BRANCH CONDITIONAL_BRANCH RETURN CALL INDIRECT_CALL INTERRUPT"
    names = [*kinds.split(), "XBEGIN_XABORT_XEND", "EXCEPTION"]
    assert [getattr(flow, name) for name in names] == [
        instructions.NEXT,
        instructions.JUMP,
        instructions.INDIRECT_JUMP,
        instructions.CONDITIONAL,
        instructions.RETURN,
        instructions.CALL,
        instructions.INDIRECT_CALL,
        instructions.INTERRUPT,
        instructions.TRANSACTION,
        instructions.EXCEPTION,
    ]
    for name in (
        "ENDBR32",
        "ENDBR64",
        "INT3",
        "NOP",
        "RET",
        "MOV",
        "POPF",
        "POPFQ",
        "XEND",
        "SYSCALL",
        "SYSENTER",
    ):
        assert getattr(mnemonic, name) == getattr(instructions, name), name
    assert {mnemonic.LOOP, mnemonic.LOOPE, mnemonic.LOOPNE} == instructions.LOOPS
    assert {feature.FPU, feature.FPU287, feature.FPU387} <= instructions.X87
    assert (iced_x86.Register.EAX, iced_x86.Register.RIP, iced_x86.Register.SS) == (
        instructions.EAX,
        instructions.RIP,
        instructions.SS,
    )
    assert iced_x86.Code.MOV_R32_IMM32 == instructions.MOV_R32


def test_the_package_can_be_imported_beside_the_planner() -> None:
    found = instructions.decode_one(b"\xc3", 0, 0)
    assert isinstance(found, iced_x86.Instruction)
    assert found.mnemonic == iced_x86.Mnemonic.RET


def test_a_block_in_one_piece() -> None:
    block = encode(planned("31f6 b827000000 0f05 c3"), GATE)
    near, far = block.at(SITE, SITE + 0x1000)
    assert far == b""
    assert not block.in_two
    assert read(near, SITE + 0x1000) == [
        "mov eax,27h",
        "movzx ecx,ax",
        "jrcxz 00007F123456800Ah",
        "syscall",
        "mov rcx,7F1234567002h",
        "jmp near ptr 00007F1234567002h",
    ]
    assert block.points == ((0, -5), (5, 0), (22, 2))
    assert [block.position(at) for at in (0, 4, 5, 10, 11, 12, 21, 22, 26)] == [-5, -5, 0, 0, 2, 2, 2, 2, 2]


def test_a_block_in_two_pieces() -> None:
    block = encode(planned("0f05 483d01f0ffff 7305 c3"), GATE, in_two=True)
    near, far = block.at(SITE, SITE + 0x1000, 0x10000)
    assert block.in_two
    assert read(near[:12], SITE + 0x1000) == ["mov rcx,10000h", "jmp rcx"]
    assert read(near[12:], SITE + 0x100C) == ["cmp rax,0FFFFFFFFFFFFF001h", "jmp near ptr 00007F1234567008h"]
    back = [line for line in read(far[:-8], 0x10000) if line != "nop"][-2:]
    assert back == ["mov rcx,7F1234567002h", f"jmp qword ptr [{0x10000 + len(far) - 8:X}h]"]
    assert len(far) % 8 == 0, "with alignment checks on, the address has to be aligned"
    assert far[-8:] == struct.pack("<Q", SITE + 0x100C)
    assert block.entry(0) == 0
    assert block.entry(2) == 12
    assert [
        block.position(at) for at in (0, 12, 18, block.split, block.pass_syscall, len(block.code) - 1)
    ] == [
        0,
        2,
        8,
        0,
        0,
        2,
    ]


def test_without_anything_behind_the_second_piece_goes_back_by_itself() -> None:
    block = encode(planned("b827000000 0f05 c3"), GATE, in_two=True)
    near, far = block.at(SITE, SITE + 0x1000, 0x10000)
    assert len(near) == 5 + 12
    assert far[-8:] == struct.pack("<Q", SITE + 2)


def test_fields_of_the_agent_are_filled_in() -> None:
    # leaq image(%rip), %r11; movabs $image, %rcx; movabs $gate + 3, %rcx; syscall; and 4 bytes of its own
    code = (
        bytes.fromhex("4c8d1d00000000 48b9")
        + bytes(8)
        + b"\x48\xb9"
        + bytes(8)
        + bytes.fromhex("0f05 c70100000000")
    )
    fields = [
        Fixup(3, REL32_AGENT, 0x20 - 4),
        Fixup(9, ABS64_AGENT, 0x30),
        Fixup(19, ABS64_BLOCK, 3),
        Fixup(31, OWN, 7),
    ]
    gate = Gate(code, 27, fields)
    for in_two, start in ((False, SITE + 0x1005), (True, 0x5000)):
        block = encode(planned("b827000000 0f05 c3"), gate, in_two=in_two)
        near, far = block.at(SITE, SITE + 0x1000, 0x5000, SITE if not in_two else 0)
        filled = far if in_two else near[5:]
        image = 0 if in_two else SITE
        assert read(filled[:27], start) == [
            f"lea r11,[{image + 0x20:X}h]",
            f"mov rcx,{image + 0x30:X}h",
            f"mov rcx,{start + 3:X}h",
        ]
        own = next(
            each
            for each in unpack(pack(planned("b827000000 0f05 c3"), block)).block.fixups
            if each.kind == OWN
        )
        assert (own.offset, own.addend) == (block.gate + 31, 7)


def test_a_block_out_of_reach_is_an_error() -> None:
    block = encode(planned("b827000000 0f05 c3"), GATE)
    with pytest.raises(OverflowError):
        block.at(SITE, SITE - (1 << 32))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_moved_instructions_are_those_that_iced_x86_would_move(data: st.DataObject) -> None:
    stream: Stream = data.draw(streams(b"\xff\x25" + bytes(12)))
    found = plan(stream.code, CODE, stream.site, starts=[CODE])
    if isinstance(found, Refusal):
        return
    block = encode(found, GATE)
    address = next(placements(found, block).find(stream.site, CODE + 0x10000, CODE + (1 << 31)))
    code = block.at(stream.site, address)[0]
    for moved in (*found.before, *found.after):
        offset = next(at for at, position in block.points if position == moved.at)
        start = stream.site + moved.at - CODE
        original = iced_x86.Decoder(64, stream.code[start : start + moved.length], ip=CODE + start).decode()
        encoder = iced_x86.BlockEncoder(64)
        encoder.add(original)
        theirs = read(encoder.encode(address + offset), address + offset)
        ours = read(code[offset : offset + len(moved.code)], address + offset)
        if original.flow_control == instructions.CONDITIONAL and len(ours) > 1:  # jrcxz
            assert ours[-1].rpartition(" ")[2] == f"{original.near_branch_target:016X}h"
        else:
            assert [text.replace("short ", "near ptr ") for text in theirs] == ours


# -- where -------------------------------------------------------------------------------------------------------------


@given(trapping=st.integers(0, 15), start=st.integers(-24, 0), low=st.integers(-(1 << 31), (1 << 31) - 1))
def test_addresses_that_are_found_are_the_allowed_ones(trapping: int, start: int, low: int) -> None:
    place = Placement(start, trapping, -(1 << 31), (1 << 31) - 1)
    low = max(low, -SITE)
    found = list(islice(place.find(SITE, SITE + low, SITE + (1 << 31)), 300))
    assert all(place.allows(SITE, address) for address in found)
    if found:
        nothing_before = range(max(SITE + low, found[0] - 300), found[0])
        assert not any(place.allows(SITE, address) for address in nothing_before)
        expected = [address for address in range(found[0], found[0] + 300) if place.allows(SITE, address)]
        assert found[: len(expected)] == expected[: len(found)]


def test_addresses_are_only_found_within_reach_and_within_the_room() -> None:
    place = Placement(0, 0, -100, 100)
    assert list(place.find(1000, 0, 5000)) == list(range(900, 1101))
    assert list(place.find(1000, 950, 953)) == [950, 951, 952]
    assert not place.allows(1000, 1101)


def test_trapping_bytes_are_instructions_that_trap() -> None:
    for byte in TRAPPING:
        found = iced_x86.Decoder(64, bytes([byte]) + bytes(14), ip=0).decode()
        if byte == 0xCC:
            assert found.mnemonic == iced_x86.Mnemonic.INT3
        else:
            assert found.code == iced_x86.Code.INVALID
        # What follows does not matter.
        assert iced_x86.Decoder(64, bytes([byte] + [0xFF] * 14), ip=0).decode().code == found.code


def test_a_jump_that_would_not_trap_is_an_error() -> None:
    found = planned("0f05 483d01f0ffff c3")
    assert jump_bytes(found, SITE, SITE + 5 + 0xCC00).hex() == "e900cc0000cccccc"
    with pytest.raises(ValueError, match="does not trap"):
        jump_bytes(found, SITE, SITE + 5 + 0xCD00)
    with pytest.raises(OverflowError):
        jump_bytes(found, SITE, SITE + (1 << 32))


def test_the_window_keeps_the_syscall_at_its_end() -> None:
    found = planned("be01000000 4489c8 0f05 c3")
    assert jump_bytes(found, SITE, SITE - 8 + 5).hex() == "e900000000cccccc0f05"


# -- how it is told ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(data=st.data(), in_two=st.booleans())
def test_an_answer_says_what_was_planned(data: st.DataObject, in_two: bool) -> None:
    stream = data.draw(streams(b"\xff\x25" + bytes(12)))
    found = plan(stream.code, CODE, stream.site, starts=[CODE])
    if isinstance(found, Refusal):
        assert unpack(pack(found)).reason == found.reason
        return
    block = encode(found, GATE, in_two=in_two)
    place = placements(found, block)
    answer = unpack(pack(found, block))
    assert answer.reason is None
    assert (answer.kind, answer.start, answer.end) == (found.kind, found.start, found.end)
    assert answer.keeps_syscall == found.keeps_syscall
    assert answer.window == found.original == stream.code[stream.site - CODE + found.start :][: found.length]
    assert (answer.place.start, answer.place.trapping) == (place.start, place.trapping)
    assert (answer.place.lowest, answer.place.highest) == (place.lowest, place.highest)
    for name in ("code", "gate", "gate_end", "pass_syscall", "points", "split"):
        assert getattr(answer.block, name) == getattr(block, name)
    assert list(map(repr, answer.block.fixups)) == list(map(repr, block.fixups))


def test_reasons_and_kinds_have_fixed_numbers() -> None:
    assert [number_of(Refusal(reason)) for reason in REASONS] == list(range(1, len(REASONS) + 1))
    assert KINDS == ("move", "before", "after", "around")
    data = pack(Refusal("call"))
    assert len(data) == 32
    assert data[:3] == struct.pack("<HB", 32, number_of(Refusal("call")))
    assert not any(data[3:])


def test_reach_ends_where_a_reference_ends() -> None:
    # syscall; mov 0x60000000(%rip), %rax: the block may not be far below the site
    found = planned("0f05 488b0500000060 c3")
    place = placements(found, encode(found, GATE))
    assert place.lowest > -(1 << 31) + 0x5FFFFF00
    block = encode(found, GATE)
    block.at(SITE, SITE + place.lowest)
    block.at(SITE, SITE + place.highest)
    with pytest.raises(OverflowError):
        block.at(SITE, SITE + place.lowest - 1)
