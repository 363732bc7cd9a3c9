"""A reference interpreter for seccomp programs: what the kernel refuses, and what it answers to a call.

:func:`check` knows the rules of the kernel's checker, which has two parts. The generic one for classic BPF
    bounds
jumps, operands and scratch memory; seccomp's own leaves only loads of aligned words of ``struct
seccomp_data`` and a part of the arithmetic. The tests compare both with the running kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.bpf.instruction import (
    ABS,
    ADD,
    ALU,
    AND,
    DATA_SIZE,
    DIV,
    IMM,
    JA,
    JEQ,
    JGE,
    JGT,
    JMP,
    JSET,
    LD,
    LDX,
    LEN,
    LSH,
    MAX_INSTRUCTIONS,
    MEM,
    MEMORY_WORDS,
    MISC,
    MUL,
    NEG,
    OR,
    RET,
    RSH,
    ST,
    STX,
    SUB,
    TAX,
    TXA,
    XOR,
    A,
    Instruction,
    K,
    W,
    X,
)
from trapline.errors import TraplineError

_MASK = 0xFFFFFFFF
_ARITHMETIC = (ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, XOR)
_COMPARISONS = (JEQ, JGT, JGE, JSET)
#: Every opcode that seccomp takes.
OPCODES = frozenset(
    [LD | W | ABS, LD | W | LEN, LDX | W | LEN, LD | IMM, LDX | IMM, LD | MEM, LDX | MEM, ST, STX]
    + [ALU | op | source for op in _ARITHMETIC for source in (K, X)]
    + [ALU | NEG, MISC | TAX, MISC | TXA, RET | K, RET | A, JMP | JA]
    + [JMP | op | source for op in _COMPARISONS for source in (K, X)]
)


class InvalidProgramError(TraplineError, ValueError):
    """A program that the kernel refuses with EINVAL.

    :ivar position: of the offending instruction; -1 where the whole program is at fault.
    """

    def __init__(self, position: int, why: str) -> None:
        self.position = position
        where = f"instruction {position}" if position >= 0 else "program"
        super().__init__(f"the kernel would refuse this filter: {where}: {why}")


class SeccompData:
    """What a filter sees of a call: ``struct seccomp_data``.

    :param nr: 32 bits; negative numbers are taken as the kernel stores them.
    :param arch: a name such as ``"i386"``, or an ``AUDIT_ARCH_*`` value.
    :param args: up to six raw 64-bit registers.
    :param ip: the instruction pointer.
    """

    __slots__ = ("args", "ip", "nr", "words")

    def __init__(self, nr: int, arch: str | int, args: Sequence[int] = (), ip: int = 0) -> None:
        if isinstance(arch, str):
            from trapline import abi

            arch = abi.AUDIT_ARCH[arch]
        if len(args) > 6:
            raise ValueError(f"a system call has at most 6 arguments, not {len(args)}")
        self.nr = nr & _MASK
        self.ip = ip & (_MASK << 32 | _MASK)
        self.args = (*args, *[0] * (6 - len(args)))
        self.words = [self.nr, arch & _MASK]
        for value in (ip, *self.args):
            self.words += [value & _MASK, value >> 32 & _MASK]


class Result:
    """What a program answered.

    :ivar action: the ``SECCOMP_RET_*`` value with its data.
    :ivar path: positions of the instructions executed, in order.
    """

    __slots__ = ("action", "path")

    def __init__(self, action: int, path: list[int]) -> None:
        self.action = action
        self.path = path


def check(program: Sequence[Instruction]) -> None:
    """Do nothing if the kernel would take *program*.

    :raises InvalidProgramError: it would not, and why.
    """
    length = len(program)
    if not 1 <= length <= MAX_INSTRUCTIONS:
        raise InvalidProgramError(-1, f"it has {length} instructions, not 1 to {MAX_INSTRUCTIONS}")
    for at, (code, jt, jf, k) in enumerate(program):
        if not (0 <= code <= 0xFFFF and 0 <= jt <= 0xFF and 0 <= jf <= 0xFF and 0 <= k <= _MASK):
            raise InvalidProgramError(at, "a field does not fit struct sock_filter")
        if code not in OPCODES:
            raise InvalidProgramError(at, f"opcode 0x{code:02x} is not for seccomp")
        if code == LD | W | ABS and (k >= DATA_SIZE or k % 4):
            raise InvalidProgramError(at, f"loads at offset {k}, which is no word of struct seccomp_data")
        if code == ALU | DIV | K and k == 0:
            raise InvalidProgramError(at, "divides by zero")
        if code in (ALU | LSH | K, ALU | RSH | K) and k >= 32:
            raise InvalidProgramError(at, f"shifts by {k} bits of 32")
        if code in (LD | MEM, LDX | MEM, ST, STX) and k >= MEMORY_WORDS:
            raise InvalidProgramError(at, f"scratch memory has {MEMORY_WORDS} words, no M[{k}]")
        if code == JMP | JA and at + 1 + k >= length:
            raise InvalidProgramError(at, "jumps out of the program")
        if code & 7 == JMP and code != JMP | JA and at + 1 + max(jt, jf) >= length:
            raise InvalidProgramError(at, "jumps out of the program")
    if program[-1][0] & 7 != RET:
        raise InvalidProgramError(length - 1, "the last instruction is no return")
    _check_memory(program)


def _check_memory(program: Sequence[Instruction]) -> None:
    """Refuse loads of scratch memory that some path has not written.

    As in the kernel, a return does not end a path here: what follows it inherits what was written before it.
    """
    everything = (1 << MEMORY_WORDS) - 1
    known = [everything] * len(program)
    valid = 0
    for at, (code, jt, jf, k) in enumerate(program):
        valid &= known[at]
        if code in (ST, STX):
            valid |= 1 << k
        elif code in (LD | MEM, LDX | MEM):
            if not valid >> k & 1:
                raise InvalidProgramError(at, f"reads M[{k}], which is not written on every path")
        elif code == JMP | JA:
            known[at + 1 + k] &= valid
            valid = everything
        elif code & 7 == JMP:
            known[at + 1 + jt] &= valid
            known[at + 1 + jf] &= valid
            valid = everything


def _compute(op: int, a: int, b: int) -> int:
    """Return ``a op b`` in 32 bits; *b* is not zero when dividing."""
    if op == ADD:
        a += b
    elif op == SUB:
        a -= b
    elif op == MUL:
        a *= b
    elif op == DIV:
        a //= b
    elif op == OR:
        a |= b
    elif op == AND:
        a &= b
    elif op == XOR:
        a ^= b
    elif op == LSH:
        a <<= b & 31
    elif op == RSH:
        a >>= b & 31
    else:
        a = -a
    return a & _MASK


def compare(op: int, a: int, b: int) -> bool:
    """Return whether a conditional jump with operation *op* (``JEQ``, ...) is taken."""
    if op == JEQ:
        return a == b
    if op == JGT:
        return a > b
    if op == JGE:
        return a >= b
    return a & b != 0


def run(program: Sequence[Instruction], data: SeccompData) -> Result:
    """Execute *program*, which must be one that :func:`check` takes."""
    a = x = at = 0
    memory = [0] * MEMORY_WORDS
    path: list[int] = []
    while True:
        code, jt, jf, k = program[at]
        path.append(at)
        at += 1
        kind = code & 7
        if kind == JMP:
            if code == JMP | JA:
                at += k
            else:
                at += jt if compare(code & 0xF0, a, x if code & X else k) else jf
        elif kind == RET:
            return Result(a if code & A else k, path)
        elif kind == ALU:
            right = x if code & X else k
            if code & 0xF0 == DIV and right == 0:
                return Result(0, path)  # the kernel ends the program with 0, which kills the thread
            a = _compute(code & 0xF0, a, right)
        elif kind == LD:
            a = _load(code, k, data, memory)
        elif kind == LDX:
            x = _load(code, k, data, memory)
        elif kind == ST:
            memory[k] = a
        elif kind == STX:
            memory[k] = x
        elif code == MISC | TAX:
            x = a
        else:
            a = x


def _load(code: int, k: int, data: SeccompData, memory: list[int]) -> int:
    mode = code & 0xE0
    if mode == ABS:
        return data.words[k // 4]
    if mode == MEM:
        return memory[k]
    return DATA_SIZE if mode == LEN else k
