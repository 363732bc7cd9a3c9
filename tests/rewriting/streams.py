"""Synthetic instruction streams around one ``syscall``, for hypothesis."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

from .machine import CODE, DATA

#: Numbers that no kernel has, and calls without arguments and effects: getpid, getuid, getgid, geteuid, getegid.
NUMBERS = (0x7FFF, 0x12345, 39, 102, 104, 107, 108)

# Register numbers that streams may change: not rsp (4) and rsi (6, where the data is); rax (0) only behind the call.
_FREE = (1, 2, 3, 5, 7)
_HIGH = tuple(range(8, 16))


def _rex(wide: bool, reg: int, rm: int) -> bytes:
    value = 0x40 | 8 * wide | 4 * (reg > 7) | (rm > 7)
    return bytes((value,)) if value != 0x40 else b""


def _reg_reg(opcode: int, wide: bool, reg: int, rm: int) -> bytes:
    return _rex(wide, reg, rm) + bytes((opcode, 0xC0 | (reg & 7) << 3 | rm & 7))


@dataclass(frozen=True)
class Piece:
    """An instruction; a branch has the number of pieces that it skips."""

    code: bytes
    skips: int | None = None
    relative: int | None = None  # the address of a rip-relative operand
    trailing: int = 0  # bytes of an immediate behind the operand


def pieces(after: bool) -> st.SearchStrategy[Piece]:
    """One instruction that harms nothing, in front of the call or behind it."""
    low = st.sampled_from((0, *_FREE) if after else _FREE)
    target = st.one_of(low, st.sampled_from(_HIGH))
    source = st.integers(0, 15).filter(lambda reg: reg != 4)
    wide = st.booleans()
    small = st.integers(0, 127)
    immediate = st.integers(0, 0xFFFFFFFF).map(lambda value: struct.pack("<I", value))
    plain = st.one_of(
        st.builds(
            lambda reg, value: _rex(False, 0, reg) + bytes((0xB8 | reg & 7,)) + value, target, immediate
        ),
        st.builds(
            _reg_reg, st.sampled_from((0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x89)), wide, source, target
        ),
        st.builds(_reg_reg, st.sampled_from((0x39, 0x85)), wide, source, source),
        st.builds(
            lambda w, rm, op: _rex(w, 0, rm) + bytes((0xFF, 0xC0 | op << 3 | rm & 7)),
            wide,
            target,
            st.integers(0, 1),
        ),
        st.builds(lambda w, rm, n: _rex(w, 0, rm) + bytes((0xC1, 0xE0 | rm & 7, n)), wide, target, small),
        # mov disp8(%rsi), reg and back; push reg, pop reg
        st.builds(
            lambda w, reg, n: _rex(w, reg, 6) + bytes((0x8B, 0x46 | (reg & 7) << 3, n)), wide, target, small
        ),
        st.builds(
            lambda w, reg, n: _rex(w, reg, 6) + bytes((0x89, 0x46 | (reg & 7) << 3, n)), wide, source, small
        ),
        # What is in the red zone stays there.
        st.builds(
            lambda reg, n: _rex(True, reg, 4) + bytes((0x8B, 0x44 | (reg & 7) << 3, 0x24, 255 - n)),
            target,
            small,
        ),
        st.builds(
            lambda reg, n: _rex(True, reg, 4) + bytes((0x89, 0x44 | (reg & 7) << 3, 0x24, 255 - n)),
            source,
            small,
        ),
        st.sampled_from(
            [
                bytes.fromhex(text)
                for text in (
                    "90",
                    "6690",
                    "0f1f4000",
                    "0f1f440000",
                    "f9",
                    "f5",
                    "fc",
                    "4899",
                    "0f9cc2",
                    "0f42d3",
                    "99",
                )
            ]
        ),
        st.just(bytes.fromhex("483d01f0ffff")),  # cmp $-4095, %rax
        st.just(bytes.fromhex("85c0")),
    )
    branch = st.builds(
        lambda opcode, skips: Piece(bytes((opcode, 0)), skips),
        st.one_of(st.integers(0x70, 0x7F), st.sampled_from((0xE3, 0xE2, 0xEB))),
        st.integers(0, 3),
    )
    near = st.builds(
        lambda code, skips: Piece(code + bytes(4), skips),
        st.sampled_from([b"\xe9", *(bytes((0x0F, each)) for each in range(0x80, 0x90))]),
        st.integers(0, 3),
    )
    relative = st.builds(
        lambda opcode, reg, place: Piece(
            _rex(True, reg, 0) + bytes((opcode, 5 | (reg & 7) << 3)) + bytes(4), relative=DATA + place
        ),
        st.sampled_from((0x8B, 0x8D, 0x3B, 0x03)),
        target,
        st.integers(0, 4000),
    )
    relative = st.one_of(
        relative,
        st.builds(  # addl $imm32, place(%rip); cmpb $imm8, place(%rip)
            lambda code, place: Piece(code, relative=DATA + place, trailing=len(code) - 6),
            st.sampled_from((bytes.fromhex("81050000000078563412"), bytes.fromhex("803d0000000055"))),
            st.integers(0, 4000),
        ),
    )
    fault = st.sampled_from(
        [
            bytes.fromhex("488b3c2500000000"),  # mov 0, %rdi
            bytes.fromhex("8b04250000ff7f") if after else bytes.fromhex("8b14250000ff7f"),
            bytes.fromhex("f7b680000000"),  # divl 128(%rsi), which may be 0 or overflow
        ]
    )
    usual = st.one_of(plain, plain, plain).map(Piece)
    return st.one_of(usual, usual, usual, usual, branch, near, relative, fault.map(Piece) if after else usual)


IN_FRONT = st.lists(pieces(False), max_size=5)
BEHIND = st.lists(pieces(True), max_size=6)


@dataclass(frozen=True)
class Stream:
    """Code to be mapped at CODE."""

    code: bytes
    site: int
    starts: tuple[int, ...]  # of every instruction
    number: int


@st.composite
def streams(draw: st.DrawFn, ending: bytes) -> Stream:
    """Some instructions, the call, some more, and a way out."""
    number = draw(st.sampled_from(NUMBERS))
    before = draw(IN_FRONT)
    move = Piece(b"\xb8" + struct.pack("<I", number))
    place = draw(st.one_of(st.none(), st.integers(0, len(before))))
    if place is not None:
        before.insert(place, move)
    after = draw(BEHIND)
    call = Piece(b"\x0f\x05")
    return layout([*before, call, *after, Piece(ending)], len(before), number)


def layout(parts: list[Piece], call: int, number: int) -> Stream:
    """Put pieces one behind the other and fill in what branches and operands refer to."""
    starts = []
    at = CODE
    for part in parts:
        starts.append(at)
        at += len(part.code)
    code = b""
    for index, part in enumerate(parts):
        raw = part.code
        following = starts[index] + len(raw)
        if part.skips is not None:
            distance = starts[min(index + 1 + part.skips, len(parts) - 1)] - following
            raw = raw[:-1] + bytes((distance,)) if len(raw) == 2 else raw[:-4] + struct.pack("<i", distance)
        elif part.relative is not None:
            field = len(raw) - part.trailing - 4
            raw = raw[:field] + struct.pack("<i", part.relative - following) + raw[field + 4 :]
        code += raw
    return Stream(code, starts[call], tuple(starts), number)
