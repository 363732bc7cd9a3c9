"""Guests on every engine."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trapline import features
from trapline.guest import Arena, Guest
from trapline.guest.engines import ENGINES

PROBES = {
    "sud": "sud_exclusive",
    "rewrite": "sud_exclusive",
    "trap": "seccomp_trap",
    "notify": "notify_listener",
}


@pytest.fixture(params=list(ENGINES))
def guest_engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    base, _, below = name.partition(":")
    probe = PROBES[below if below in PROBES else base]
    if features.probe(probe).works is False:
        pytest.skip(f"{probe} does not work here: `trapline doctor`")
    return name


@pytest.fixture
def guest(guest_engine: str) -> Iterator[Callable[..., Guest]]:
    """``guest(hooks=...)`` makes a guest of the engine, which is closed afterwards."""
    made: list[Guest] = []

    def make(**options: Any) -> Guest:
        made.append(Guest(engine=guest_engine, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Assembled:
    """Machine code from assembly text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, bytes] = {}

    def __call__(self, text: str) -> bytes:
        if text not in self._known:
            # Threads of a test may ask at the same time.
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            source, target, flat = (folder / name for name in ("code.S", "code.o", "code.bin"))
            source.write_text(f".intel_syntax noprefix\n.text\n{text}\n")
            subprocess.run(["gcc", "-c", source, "-o", target], check=True)
            subprocess.run(["objcopy", "-O", "binary", "-j", ".text", target, flat], check=True)
            self._known[text] = flat.read_bytes()
        return self._known[text]


@pytest.fixture(scope="session")
def assemble(tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    """``assemble(text)``: the bytes of some instructions in Intel syntax."""
    return Assembled(tmp_path_factory.mktemp("assembled"))


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena() as arena:
        yield arena


@pytest.fixture
def busybox() -> str:
    found = shutil.which("busybox")
    if found is None:
        pytest.skip("there is no busybox here (busybox-static)")
    return found


@pytest.fixture
def outside(assemble):
    """Code that makes getppid, outside of any arena: its address, and the one behind it."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code = assemble("mov eax, 110\nsyscall\nret")
    memory[: len(code)] = code
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    yield address, address + 4096
    del view
    memory.close()


@pytest.fixture
def run(trapline, guest_engine):
    def run(*command: str, options: tuple[str, ...] = (), **settings) -> tuple[int, bytes, bytes]:
        settings = {"capture_output": True, "timeout": 60, "stdin": subprocess.DEVNULL, **settings}
        done = subprocess.run(
            [trapline, "guest", "--engine", guest_engine, *options, "--", *command], **settings
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def natively() -> Callable[..., tuple[int, bytes, bytes]]:
    """``natively(command)``: its status as a shell has it, its output and its errors, once for all engines."""
    known: dict[object, tuple[int, bytes, bytes]] = {}

    def natively(*command: str, input: bytes | None = None) -> tuple[int, bytes, bytes]:
        key = command, input
        if key not in known:
            done = subprocess.run(command, input=input or b"", capture_output=True, timeout=60)
            status = done.returncode if done.returncode >= 0 else 128 - done.returncode
            known[key] = status, done.stdout, done.stderr
        return known[key]

    return natively


@pytest.fixture
def same(run, natively):
    """``same(command)``: as a guest it gives the same status and says the same as natively."""

    def same(*command: str, input: bytes | None = None, options: tuple[str, ...] = ()) -> None:
        given = {"stdin": subprocess.DEVNULL} if input is None else {"input": input, "stdin": None}
        assert run(*command, options=options, **given) == natively(*command, input=input)

    return same
