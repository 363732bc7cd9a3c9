"""The real kernel as a judge: installing filters in children that are thrown away."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from trapline.bpf.instruction import Instruction, to_bytes

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
VICTIMS = Path(__file__).parent.parent / "victims"

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]


def install(program: Sequence[Instruction]) -> int:
    """Install *program* in this process for good; return 0 or an errno."""
    raw = to_bytes(program)
    memory = ctypes.create_string_buffer(raw, max(len(raw), 1))
    # struct sock_fprog: a 16-bit length, padding, a pointer.
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory)))
    if _prctl(PR_SET_NO_NEW_PRIVS, 1, None, 0, 0):
        return ctypes.get_errno()
    if _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(fprog), 0, 0):
        return ctypes.get_errno()
    return 0


def verdicts(programs: Iterable[Sequence[Instruction]]) -> list[int]:
    """Return what the kernel says to each program, 0 or an errno.

    A first "return ALLOW" is put in front of each, so that what is accepted has no effect: the checker looks
    at every instruction, reached or not. Hence one child can try them all.
    """
    prefix = (0x06, 0, 0, 0x7FFF0000)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = b"".join(struct.pack("i", install((prefix, *program))) for program in programs)
            os.write(writer, answers)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        raw = stream.read()
    os.waitpid(child, 0)
    return [value for (value,) in struct.iter_unpack("i", raw)]


def can_install() -> bool:
    """Whether seccomp filters work here at all."""
    return verdicts([((0x06, 0, 0, 0x7FFF0000),)]) == [0]


def compiled(name: str, out: Path, *flags: str) -> Path:
    """Return the victim *name* (without ``.c``), compiled with gcc into the directory *out*."""
    if shutil.which("gcc") is None:
        pytest.skip("the victim needs gcc")
    binary = out / (name + "".join(flags).replace("-", "_"))
    if not binary.exists():
        command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", *flags, "-o", binary, VICTIMS / f"{name}.c"]
        subprocess.run(command, check=True, capture_output=True)
    return binary


EINVAL = errno.EINVAL
