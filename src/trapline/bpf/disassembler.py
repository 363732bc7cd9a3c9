"""Filters as text: one instruction a line, targets resolved, system calls and actions named beside it.

::

      0: ld   arch
      1: jeq  #0xc000003e, 4, 2          ; x86_64
      4: ld   nr
      5: jeq  #0x101, 8, 7               ; openat
      8: ret  #0x7fc00000                ; USER_NOTIF
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline import abi
from trapline.bpf import action
from trapline.bpf.instruction import (
    ABS,
    IMM,
    JA,
    JMP,
    LD,
    LDX,
    LEN,
    MEM,
    MISC,
    NEG,
    OFFSET_ARCH,
    OFFSET_NR,
    RET,
    ST,
    STX,
    TXA,
    A,
    Instruction,
    X,
)

_ALU_NAMES = ("add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor")
_JUMP_NAMES = ("ja", "jeq", "jgt", "jge", "jset")
_ARCH_NAMES = {value: name for name, value in abi.AUDIT_ARCH.items()}
_COMMENT_COLUMN = 44


def word_name(offset: int) -> str:
    """Return what a word of ``struct seccomp_data`` is called: ``nr``, ``ip.low``, ``arg2.high``."""
    if offset == OFFSET_NR:
        return "nr"
    if offset == OFFSET_ARCH:
        return "arch"
    half = "high" if offset % 8 else "low"
    return f"ip.{half}" if offset < 16 else f"arg{(offset - 16) // 8}.{half}"


class _Knowledge:
    """What every path to an instruction agrees on: what the accumulator holds, and the architecture."""

    def __init__(self, length: int) -> None:
        self.held: list[str | None] = [None] * length
        self.arch: list[str | None] = [None] * length
        self.seen = [False] * length

    def reach(self, at: int, held: str | None, arch: str | None) -> None:
        if at >= len(self.seen):
            return
        if not self.seen[at]:
            self.seen[at], self.held[at], self.arch[at] = True, held, arch
            return
        if self.held[at] != held:
            self.held[at] = None
        if self.arch[at] != arch:
            self.arch[at] = None


def disassemble(program: Sequence[Instruction]) -> str:
    """Return *program* as text, one instruction a line; a valid program or not."""
    known = _Knowledge(len(program))
    known.reach(0, None, None)
    return "\n".join([line(program, at, known) for at in range(len(program))])


def line(program: Sequence[Instruction], at: int, known: _Knowledge | None = None) -> str:
    """Return one instruction of *program* as text."""
    code, jt, jf, k = program[at]
    known = known or _Knowledge(len(program))
    held, arch = known.held[at], known.arch[at]
    kind = code & 7
    comment = ""
    if kind == JMP:
        if code & 0xF0 == JA:
            text = f"ja   {at + 1 + k}"
            known.reach(at + 1 + k, held, arch)
        else:
            operation = code >> 4 & 0xF
            name = _JUMP_NAMES[operation] if operation < len(_JUMP_NAMES) else "?"
            right = "x" if code & X else f"#0x{k:x}"
            text = f"{name:<4} {right}, {at + 1 + jt}, {at + 1 + jf}"
            comment = "" if code & X else _meaning(held, arch, name, k)
            found = _ARCH_NAMES.get(k) if held == "arch" and name == "jeq" else None
            known.reach(at + 1 + jt, held, found or arch)
            known.reach(at + 1 + jf, held, arch)
    elif kind == RET:
        text = "ret  a" if code & A else f"ret  #0x{k:x}"
        comment = "" if code & A else action.text(k)
    else:
        text, held = _plain(code, k, held)
        known.reach(at + 1, held, arch)
    shown = f"{at:4}: {text}"
    return f"{shown:<{_COMMENT_COLUMN}}; {comment}" if comment else shown


def _plain(code: int, k: int, held: str | None) -> tuple[str, str | None]:
    """Return an instruction that neither jumps nor returns, and what the accumulator holds after it."""
    kind, mode = code & 7, code & 0xE0
    if kind in (LD, LDX):
        name = "ld  " if kind == LD else "ldx "
        # 0x18: words only, so a size is worth a word.
        size = ("", "h", "b", "?")[code >> 3 & 3]
        if size:
            name = name.strip() + size
        source = {IMM: f"#0x{k:x}", ABS: word_name(k) if k < 64 and k % 4 == 0 else f"[{k}]", MEM: f"M[{k}]"}
        source[LEN] = "len"
        text = f"{name:<4} {source.get(mode, '?')}"
        if kind == LDX:
            return text, held
        return text, source[ABS] if mode == ABS else None
    if kind in (ST, STX):
        return f"{'st' if kind == ST else 'stx':<4} M[{k}]", held
    if kind == MISC:
        return ("txa", None) if code & 0xF8 == TXA else ("tax", held)
    if code & 0xF0 == NEG:
        return "neg", None
    operation = code >> 4 & 0xF
    name = _ALU_NAMES[operation] if operation < len(_ALU_NAMES) else "?"
    right = "x" if code & X else f"#0x{k:x}"
    return f"{name:<4} {right}", f"{held} {name} {right}" if held and name == "and" else None


def _meaning(held: str | None, arch: str | None, name: str, k: int) -> str:
    """Return what comparing the accumulator with *k* asks."""
    if held is None:
        return ""
    if held == "arch":
        return _ARCH_NAMES.get(k, "")
    if held == "nr" and arch is not None:
        call = abi.name(k, arch)
        if call.startswith("syscall_"):
            call = "x32" if k == abi.X32_SYSCALL_BIT and name == "jge" else f"{k:#x}" if k >> 16 else str(k)
        return f"nr {'>=' if name == 'jge' else '=='} {call}" if name in ("jge", "jeq") else call
    return held
