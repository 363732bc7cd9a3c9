"""Classic BPF instructions as the kernel stores them: ``struct sock_filter`` {code, jt, jf, k}.

An instruction is a plain tuple ``(code, jt, jf, k)``: filters are made while a program starts, and tuples are
what Python makes fastest. The offsets are those of ``struct seccomp_data`` on a little-endian machine.
"""

from __future__ import annotations

#: ``(code, jt, jf, k)``.
Instruction = tuple[int, int, int, int]

# Classes.
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
# Sizes and modes of loads; seccomp takes words only.
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
# Where the right operand comes from.
K, X, A = 0x00, 0x08, 0x10
# Operations of ALU.
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = (n << 4 for n in range(11))
# Operations of JMP.
JA, JEQ, JGT, JGE, JSET = (n << 4 for n in range(5))
# Operations of MISC.
TAX, TXA = 0x00, 0x80

LOAD_WORD = LD | W | ABS
RETURN = RET | K
JUMP = JMP | JA
JUMP_EQ = JMP | JEQ | K
JUMP_GT = JMP | JGT | K
JUMP_GE = JMP | JGE | K
JUMP_SET = JMP | JSET | K
ALU_AND = ALU | AND | K

#: The longest program that the kernel takes.
MAX_INSTRUCTIONS = 4096
#: A conditional jump's reach: its offsets have 8 bits.
MAX_JUMP = 255
#: Words of scratch memory.
MEMORY_WORDS = 16

#: ``sizeof(struct seccomp_data)``.
DATA_SIZE = 64
OFFSET_NR = 0
OFFSET_ARCH = 4
OFFSET_IP = 8
OFFSET_ARGS = 16


def to_bytes(instructions: list[Instruction] | tuple[Instruction, ...]) -> bytes:
    """Return the array of ``struct sock_filter`` that the kernel reads, 8 bytes each, little-endian."""
    return b"".join(
        [(code | jt << 16 | jf << 24 | k << 32).to_bytes(8, "little") for code, jt, jf, k in instructions]
    )


def from_bytes(raw: bytes) -> tuple[Instruction, ...]:
    """Return the instructions in *raw*, an array of little-endian ``struct sock_filter``.

    :raises ValueError: the length is no multiple of 8.
    """
    if len(raw) % 8:
        raise ValueError(f"{len(raw)} bytes are no array of 8-byte instructions")
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]
    return tuple([(w & 0xFFFF, w >> 16 & 0xFF, w >> 24 & 0xFF, w >> 32) for w in words])
