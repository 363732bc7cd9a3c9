"""Loading ELF programs into an arena: static, static-pie, and dynamic through their own interpreter."""

from __future__ import annotations

import os
import struct

from trapline.errors import CommandError, UsageError
from trapline.guest.arena import MAP_PRIVATE, PAGE, PROT_EXEC, PROT_READ, PROT_WRITE, pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.guest.arena import Arena
    from trapline.guest.guest import Guest
    from trapline.guest.thread import Thread

__all__ = ["Program", "load"]

_STACK_SIZE = 8 << 20
#: Where position-independent programs begin in an arena, so that below is nothing that a small number points to.
_OFFSET = 0x400000
#: How much of the arena behind a program is left to its brk.
_BRK_ROOM = 1 << 30

_AT_NULL, _AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE, _AT_FLAGS, _AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_PLATFORM, _AT_HWCAP, _AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
_AT_SECURE, _AT_RANDOM, _AT_HWCAP2, _AT_EXECFN, _AT_SYSINFO_EHDR, _AT_MINSIGSTKSZ = 23, 25, 26, 31, 33, 51
_ENOENT, _ENOEXEC, _EACCES = 2, 8, 13

_EHDR = struct.Struct("<16xHHIQQQIHHH6x")
_PHDR = struct.Struct("<IIQQQQQQ")
_MAGIC, _CLASS, _CLASS_64 = b"\x7fELF", 4, 2
_ET_EXEC, _ET_DYN, _EM_X86_64 = 2, 3, 62
_PT_LOAD, _PT_INTERP = 1, 3


class _Segment:
    """A program header."""

    __slots__ = ("address", "file_size", "flags", "kind", "memory_size", "offset")

    def __init__(
        self,
        kind: int,
        flags: int,
        offset: int,
        address: int,
        _: int,
        file_size: int,
        memory_size: int,
        __: int,
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.offset = offset
        self.address = address
        self.file_size = file_size
        self.memory_size = memory_size


class Program:
    """An ELF file that has been mapped.

    :ivar bias: what is added to the addresses in the file.
    :ivar entry: where it begins.
    :ivar headers: address of its program headers.
    :ivar end: behind its last byte.
    :ivar interpreter: path of its interpreter, or None.
    """

    _entry: int
    _phoff: int

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CommandError(error.errno, str(error.strerror), path) from None
        try:
            self._read()
        except BaseException:
            os.close(self._fd)
            raise
        self.low = self._loads[0].address & -PAGE
        self.high = pages(max(each.address + each.memory_size for each in self._loads))
        self.bias = 0

    def _read(self) -> None:
        """Read the headers. They are few, and a library for ELF takes longer to import than a program to run."""
        header = os.pread(self._fd, _EHDR.size, 0)
        if len(header) < _EHDR.size or not header.startswith(_MAGIC):
            raise CommandError(_ENOEXEC, "it is no ELF program", self.path)
        kind, machine, _, self._entry, self._phoff, *_, size, count = _EHDR.unpack(header)
        if header[_CLASS] != _CLASS_64 or machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN):
            raise CommandError(_ENOEXEC, "it is no program for x86-64", self.path)
        self.header_size, self.header_count = size, count
        self.is_fixed = kind == _ET_EXEC
        table = os.pread(self._fd, size * count, self._phoff)
        if size != _PHDR.size or len(table) < size * count:
            raise CommandError(_ENOEXEC, "its program headers cannot be read", self.path)
        segments = [_Segment(*fields) for fields in _PHDR.iter_unpack(table)]
        self._loads = [each for each in segments if each.kind == _PT_LOAD]
        if not self._loads:
            raise CommandError(_ENOEXEC, "it has nothing to load", self.path)
        named = [
            os.pread(self._fd, each.file_size, each.offset) for each in segments if each.kind == _PT_INTERP
        ]
        self.interpreter: str | None = os.fsdecode(named[0].rstrip(b"\0")) if named else None

    def map(self, arena: Arena, bias: int) -> None:
        """Map it so that its addresses begin at *bias*."""
        self.bias = bias
        name = os.path.basename(self.path)
        for segment in self._loads:
            self._map_segment(arena, segment, name)
        os.close(self._fd)

    def _map_segment(self, arena: Arena, segment: _Segment, name: str) -> None:
        flags = segment.flags
        bits = (
            (PROT_READ if flags & 4 else 0)
            | (PROT_WRITE if flags & 2 else 0)
            | (PROT_EXEC if flags & 1 else 0)
        )
        start = self.bias + segment.address
        low, file_end, end = start & -PAGE, start + segment.file_size, start + segment.memory_size
        if segment.file_size:
            offset = segment.offset - (start - low)
            arena.map(file_end - low, bits, at=low, fd=self._fd, offset=offset, flags=MAP_PRIVATE, name=name)
        rest = pages(file_end) if segment.file_size else low
        if rest < end:
            arena.map(end - rest, bits, at=rest, name=name)
        if bits & PROT_WRITE and segment.file_size and file_end < end:
            # To the end of the page: dynamic linkers allocate there.
            arena.memory(file_end, rest - file_end)[:] = bytes(rest - file_end)

    @property
    def entry(self) -> int:
        """Where it begins."""
        return self.bias + self._entry

    @property
    def headers(self) -> int:
        """Address of its program headers."""
        for segment in self._loads:
            if segment.offset <= self._phoff < segment.offset + segment.file_size:
                return self.bias + segment.address + self._phoff - segment.offset
        return 0

    @property
    def end(self) -> int:
        """The first page behind it."""
        return self.bias + self.high


def _find(path: str) -> str:
    if "/" in path:
        return path
    import shutil

    found = shutil.which(path)
    if found is None:
        raise CommandError(_ENOENT, os.strerror(_ENOENT), path)
    return found


def _interpreted(path: str) -> list[str] | None:
    """Return interpreter and argument of a script, or None."""
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError as error:
        raise CommandError(error.errno, str(error.strerror), path) from None
    if not head.startswith(b"#!"):
        return None
    words = os.fsdecode(head[2:].split(b"\n")[0].strip()).split(None, 1)
    return words or None


def load(
    guest: Guest, thread: Thread, path: str, argv: Sequence[str | bytes], env: dict[str, str] | None
) -> None:
    """Load a program and have *thread* begin with it.

    :raises CommandError: it cannot be executed.
    :raises ArenaError: it does not fit.
    """
    path = _find(path)
    words = [os.fsencode(word) for word in argv]
    if not words:
        raise UsageError("a program has at least its name as an argument")
    script = _interpreted(path)
    if script is not None:
        words = [*[os.fsencode(word) for word in script], os.fsencode(path), *words[1:]]
        path = script[0]
    if not os.access(path, os.X_OK):
        raise CommandError(_EACCES, os.strerror(_EACCES), path)
    program = Program(path)
    if program.is_fixed:
        guest.move_arena(program.low, program.high)
        program.map(guest.arena, 0)
    else:
        program.map(guest.arena, guest.arena.gap(program.high + _BRK_ROOM, guest.arena.start + _OFFSET))
    entry, base = program.entry, 0
    if program.interpreter is not None:
        interpreter = Program(program.interpreter)
        interpreter.map(guest.arena, guest.arena.gap(interpreter.high))
        entry, base = interpreter.entry, interpreter.bias
    guest.personality.loaded(program)
    registers = thread.registers
    registers.rip = entry
    registers.rsp = _make_stack(guest, program, base, words, env)


def _real_auxv() -> dict[int, int]:
    with open("/proc/self/auxv", "rb") as file:
        data = file.read()
    return dict(struct.iter_unpack("<QQ", data))


def _make_stack(
    guest: Guest, program: Program, base: int, argv: list[bytes], env: dict[str, str] | None
) -> int:
    """Map the stack, fill it as the kernel does, and return where it begins."""
    arena = guest.arena
    bottom = arena.map_stack(_STACK_SIZE)
    top = at = bottom + _STACK_SIZE - 16
    memory = arena.memory(bottom, _STACK_SIZE)

    def push(data: bytes) -> int:
        nonlocal at
        at -= len(data)
        memory[at - bottom : at - bottom + len(data)] = data
        return at

    environment = [
        os.fsencode(k) + b"=" + os.fsencode(v) for k, v in (os.environ if env is None else env).items()
    ]
    name = push(os.fsencode(program.path) + b"\0")
    envp = [push(text + b"\0") for text in reversed(environment)][::-1]
    args = [push(text + b"\0") for text in reversed(argv)][::-1]
    platform = push(b"x86_64\0")
    at &= -16
    random = push(os.urandom(16))
    real = _real_auxv()
    auxv = {
        _AT_SYSINFO_EHDR: 0 if guest.hides_vdso else real.get(_AT_SYSINFO_EHDR, 0),
        _AT_HWCAP: real.get(_AT_HWCAP, 0), _AT_PAGESZ: PAGE, _AT_CLKTCK: real.get(_AT_CLKTCK, 100),
        _AT_PHDR: program.headers, _AT_PHENT: program.header_size, _AT_PHNUM: program.header_count,
        _AT_BASE: base, _AT_FLAGS: 0, _AT_ENTRY: program.entry,
        _AT_UID: os.getuid(), _AT_EUID: os.geteuid(), _AT_GID: os.getgid(), _AT_EGID: os.getegid(),
        _AT_SECURE: 0, _AT_RANDOM: random, _AT_HWCAP2: real.get(_AT_HWCAP2, 0), _AT_EXECFN: name,
        _AT_PLATFORM: platform, _AT_MINSIGSTKSZ: real.get(_AT_MINSIGSTKSZ, 0), _AT_NULL: 0,
    }  # fmt: skip
    if not auxv[_AT_SYSINFO_EHDR]:
        del auxv[_AT_SYSINFO_EHDR]
    words = [len(args), *args, 0, *envp, 0]
    for key, value in auxv.items():
        words += [key, value]
    block = struct.pack(f"<{len(words)}Q", *words)
    at -= len(block)
    at &= -16
    memory[at - bottom : at - bottom + len(block)] = block
    assert at < top
    return at
