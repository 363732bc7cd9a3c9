"""Runs machine code in a process of its own, as it is or rewritten: tests/victims/rewritten.c from the other side."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass

from trapline.rewriting.blocks import ABS64_SITE, Fixup, Gate

CODE = 0x10000000
DATA = 0x20000000
STACK = 0x30000000 + 0x8000
FAR = 0x7E0000000000
REGISTERS = [
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
]
TRAP_FLAG = 0x100
RESUME_FLAG = 0x10000

#: Lets every call through: movzwl %ax, %ecx; jrcxz 1f; 1: syscall; movabs $next, %rcx
GATE = Gate(bytes.fromhex("0fb7c8 e300 0f05 48b9") + bytes(8), 5, [Fixup(9, ABS64_SITE, 2)])

_JOB = struct.Struct("<4Q16QQII")
_OUTCOME = struct.Struct("<iIQ16Q4Q")


@dataclass(frozen=True)
class Outcome:
    """What code did: what the program could see of it, and what it could not."""

    signal: int
    rip: int
    registers: dict[str, int]
    flags: int
    memory: int
    trace: tuple[int, ...]
    block: int
    landings: int

    @property
    def visible(self) -> tuple[object, ...]:
        return (
            self.signal,
            hex(self.rip),
            {k: hex(v) for k, v in self.registers.items()},
            hex(self.flags),
            self.memory,
        )


class Machine:
    """The process. It maps code at CODE, data at DATA (rsi, by default) and a stack around STACK (rsp)."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.leave = int(self._process.stdout.readline(), 16)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def ending(self) -> bytes:
        """Code that leaves: jmp *0(%rip), and where to."""
        return b"\xff\x25" + bytes(4) + struct.pack("<Q", self.leave)

    def run(
        self,
        code: bytes,
        *,
        site: int = 0,
        entry: int = CODE,
        answer: bytes = b"",
        registers: dict[str, int] | None = None,
        flags: int = 0x202,
        at: int = CODE,
    ) -> Outcome:
        values = dict.fromkeys(REGISTERS, 0) | {"rsp": STACK, "rsi": DATA + 0x800} | (registers or {})
        job = _JOB.pack(
            at, site, entry, FAR, *(values[name] for name in REGISTERS), flags, len(code), len(answer)
        )
        pipe, back = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert back is not None
        pipe.write(job + code + answer)
        pipe.flush()
        data = back.read(_OUTCOME.size)
        assert len(data) == _OUTCOME.size, f"the machine died: {self._process.wait(10)}"
        signal, traced, rip, *rest = _OUTCOME.unpack(data)
        trace = struct.unpack(f"<{traced}Q", back.read(8 * traced))
        flags_left, memory, block, landings = rest[16:]
        return Outcome(
            signal,
            rip,
            dict(zip(REGISTERS, rest[:16], strict=True)),
            flags_left & ~(RESUME_FLAG | TRAP_FLAG),
            memory,
            trace,
            block,
            landings,
        )
