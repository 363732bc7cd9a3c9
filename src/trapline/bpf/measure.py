"""What a filter costs a system call, measured on this machine in children that are thrown away."""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import struct
import time
from collections.abc import Mapping

from trapline import abi
from trapline.bpf.instruction import LOAD_WORD, OFFSET_ARGS
from trapline.bpf.program import Program
from trapline.errors import TraplineError, UsageError

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_CALLS = 50_000
# void f(long nr, long count): count times `syscall` with nr. push rbx; mov rbx,rsi; 1: mov rax,rdi; syscall;
# dec rbx; jnz 1b; pop rbx; ret
_LOOP = bytes.fromhex("53 48 89 f3 48 89 f8 0f 05 48 ff cb 75 f6 5b c3")


def uncached(program: Program) -> Program:
    """Return the same filter in a form that is never cached: it looks at an argument first."""
    return Program([(LOAD_WORD, 0, 0, OFFSET_ARGS), *program.instructions])


def nanoseconds(programs: Mapping[str, Program | None], rounds: int = 15) -> dict[str, float]:
    """Return the median cost of one ``getppid`` under each filter, in nanoseconds.

    The filters take turns, each time in a fresh child, so that a change of the machine's mood meets all of
    them.

    :param programs: by any name; None is no filter.
    :raises UsageError: a filter does not allow ``getppid``.
    :raises TraplineError: filters cannot be installed, or this is no x86-64 machine.
    """
    if abi.native_arch() != "x86_64":
        raise TraplineError("measuring needs an x86-64 machine: its loop is machine code")
    nr = abi.number("getppid", "x86_64")
    for name, program in programs.items():
        if program is not None and program.run(nr, "x86_64").action >> 16 != 0x7FFF:
            raise UsageError(f"{name}: the filter does not allow getppid, the call that is measured")
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            samples[name].append(_in_child(program, nr))
    return {name: statistics.median(values) for name, values in samples.items()}


def _in_child(program: Program | None, nr: int) -> float:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, struct.pack("d", _timed(program, nr)))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        raw = stream.read()
    os.waitpid(child, 0)
    if len(raw) != 8:
        raise TraplineError("the filter cannot be measured: installing it failed, or it ended the child")
    return float(struct.unpack("d", raw)[0])


def _timed(program: Program | None, nr: int) -> float:
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_LOOP)
    anchor = ctypes.c_char.from_buffer(code)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_long, ctypes.c_long)(ctypes.addressof(anchor))
    if program is not None:
        _install(program)
    loop(nr, 1000)
    start = time.perf_counter_ns()
    loop(nr, _CALLS)
    return (time.perf_counter_ns() - start) / _CALLS


def _install(program: Program) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    raw = program.to_bytes()
    memory = ctypes.create_string_buffer(raw, len(raw))
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory)))
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.c_void_p(ctypes.addressof(fprog))):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")
