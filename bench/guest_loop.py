"""A loop of machine code that makes one call again and again, in this process: prints nanoseconds per call.

``python -m bench.guest_loop HOW WHAT COUNT``: HOW is an engine for guests, or ``native``, ``unicorn``, ``qiling``; WHAT
is ``pass``, ``rule``, ``python``, ``host`` (this process's own calls, from a hook, so while a guest is armed), or with
``native`` also ``call`` (C code that calls a Python function).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections import deque
from collections.abc import Callable
from itertools import repeat
from time import perf_counter_ns
from typing import Any

GETPPID, GETUID = 110, 102


def loop(number: int) -> bytes:
    """Return the code of a C function that makes as many calls as its argument says."""
    head = bytes.fromhex("5389fb")  # push rbx; mov ebx, edi
    return head + b"\xb8" + number.to_bytes(4, "little") + bytes.fromhex("0f05ffcb75f55bc3")


def per_call(run: Callable[[int], Any], count: int) -> float:
    """Return nanoseconds per call of the best of three runs, after one to get warm."""
    run(100)
    best = float("inf")
    for _ in range(3):
        start = perf_counter_ns()
        run(count)
        best = min(best, (perf_counter_ns() - start) / count)
    return best


def native() -> Callable[[int], Any]:
    """Return the loop outside of any arena, called as C code."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code = loop(GETPPID)
    memory[: len(code)] = code
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(address)
    function.memory = memory  # type: ignore[attr-defined]
    return function


def measure_guest(engine: str, what: str, count: int) -> float:
    """Measure an engine."""
    from trapline import on
    from trapline.guest import Guest

    found: list[float] = []

    @on("getppid")
    def answer(call: Any) -> Any:
        return call.reply(1)

    @on("getuid")
    def host(call: Any) -> None:
        found.append(per_call(native(), count))

    hooks = {"python": [answer], "host": [host]}.get(what, [])
    rules = ["getppid:retval=1"] if what == "rule" else []
    with Guest(engine=engine, hooks=hooks, rules=rules) as guest:
        if what == "host":
            guest.call(guest.arena.load_code(loop(GETUID)), 1)
            return found[0]
        code = guest.arena.load_code(loop(GETPPID))
        return per_call(lambda n: guest.call(code, n), count)


def measure_unicorn(count: int) -> float:
    """Measure Unicorn, which emulates the processor: its hook of the instruction gives the result."""
    import unicorn
    from unicorn import x86_const as x86

    at = 0x100000
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    machine.mem_map(at, 0x10000)
    machine.mem_write(at, loop(GETPPID))
    machine.hook_add(
        unicorn.UC_HOOK_INSN, lambda uc, _: uc.reg_write(x86.UC_X86_REG_RAX, 1), None, 1, 0,
        x86.UC_X86_INS_SYSCALL,
    )  # fmt: skip

    def run(n: int) -> None:
        machine.reg_write(x86.UC_X86_REG_RSP, at + 0xF000)
        machine.reg_write(x86.UC_X86_REG_RDI, n)
        machine.emu_start(at, at + len(loop(GETPPID)) - 2)

    return per_call(run, count)


def nothing(call: int) -> None:
    """Be called."""


def measure_qiling(count: int) -> float:
    """Measure Qiling, which has a Linux in Python on top of Unicorn."""
    import tempfile

    from qiling import Qiling
    from qiling.const import QL_ARCH, QL_OS, QL_VERBOSE

    code = loop(GETPPID)
    machine = Qiling(
        code=code,
        rootfs=tempfile.mkdtemp(),
        archtype=QL_ARCH.X8664,
        ostype=QL_OS.LINUX,
        verbose=QL_VERBOSE.DISABLED,
    )
    machine.os.set_syscall("getppid", lambda ql: 1)
    at = machine.os.entry_point

    def run(n: int) -> None:
        machine.arch.regs.rdi = n
        machine.emu_start(at, at + len(code) - 2)

    return per_call(run, count)


def main() -> int:
    """Measure what the command line says."""
    how, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if how == "native" and what == "call":
        cost = per_call(lambda n: deque(map(nothing, repeat(0, n)), maxlen=0), count)
    elif how == "native":
        cost = per_call(native(), count)
    elif how == "unicorn":
        cost = measure_unicorn(count)
    elif how == "qiling":
        cost = measure_qiling(count)
    else:
        cost = measure_guest(how, what, count)
    sys.stdout.write(f"{cost}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
