"""The call that a hook sees."""

from __future__ import annotations

import os

from trapline import _native, abi
from trapline.errors import MemoryAccessError, UnsupportedByEngineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from trapline.abi import Param, Signature
    from trapline.abi.errno import Errno
    from trapline.process import Process, ProcessTree

    class HasFileno(Protocol):
        """Anything with a file descriptor."""

        def fileno(self) -> int:
            """Return it."""


__all__ = ["Args", "Call"]

_ARCH_NAMES = {value: name for name, value in abi.AUDIT_ARCH.items()}
_AT_FDCWD = -100
_O_CLOEXEC = 0o2000000
_O_PATH = 0o10000000
_EOPNOTSUPP = 95
_OPEN_FLAGS = 0o37777703  # every flag there is
_O_TMPFILE = 0o20000000
_F_DUPFD_CLOEXEC = 1030


class Args:
    """The arguments of a call, by the kernel's own parameter names, narrowed to their types.

    Descriptors and other ``int`` are signed, flag words are :class:`enum.IntFlag`, pointers are addresses.
    ``args[0]`` is the first by position; ``arg0`` to ``arg5`` are the plain registers of any call, also of
    calls without a known prototype.
    """

    __slots__ = ("_registers", "_signature")

    def __init__(self, signature: Signature, registers: tuple[int, ...]) -> None:
        self._signature = signature
        self._registers = registers

    def _value(self, param: Param) -> int:
        value = param.narrow(self._registers[param.index])
        if param.family is None:
            return value
        from trapline.abi import flags

        return flags.value(param.family, value, self._signature.arch)

    def __getattr__(self, name: str) -> int:
        param = self._signature.param(name)
        if param is not None:
            return self._value(param)
        if len(name) == 4 and name.startswith("arg") and name[3] in "012345":
            return self._registers[int(name[3])]
        names = ", ".join([param.name for param in self._signature.params]) or "arg0 to arg5"
        raise AttributeError(f"{self._signature.name} has no parameter {name!r}, only {names}")

    def __getitem__(self, index: int) -> int:
        if self._signature.known:
            return self._value(self._signature.params[index])
        return self._registers[index]

    def __len__(self) -> int:
        return len(self._signature.params) if self._signature.known else 6

    def __iter__(self) -> Iterator[int]:
        return iter([self[index] for index in range(len(self))])

    def __dir__(self) -> list[str]:
        return [param.name for param in self._signature.params]

    def __repr__(self) -> str:
        if not self._signature.known:
            return f"({', '.join([hex(register) for register in self._registers])})"
        return f"({', '.join([f'{param.name}={self._value(param)!r}' for param in self._signature.params])})"


def path_places(audit_arch: int, nr: int) -> tuple[tuple[int, int, int, int, bool], ...]:
    """Return where the paths of a call are, for the native core.

    :returns: for each: argument positions of path, dirfd (-1: working directory) and the flags (-1: none) with the bit
        under which an empty path means dirfd, that bit, and whether a null pointer does.
    """
    arch = _ARCH_NAMES.get(audit_arch)
    if arch is None:
        return ()
    signature = abi.signature(abi.name(nr, arch), arch) if abi.exists(abi.name(nr, arch), arch) else None
    places = []
    for param in signature.paths if signature is not None else ():
        dirfd = None if param.dirfd is None else signature.param(param.dirfd)  # type: ignore[union-attr]
        name, mask = param.empty_flag or ("", int(param.empty))
        flags = signature.param(name)  # type: ignore[union-attr]
        places.append((
            param.index, -1 if dirfd is None else dirfd.index, -1 if flags is None else flags.index, mask,
            param.nullable and dirfd is not None,
        ))  # fmt: skip
    return tuple(places)


class Call(_native.Call):
    """One system call that waits for a decision.

    Everything read from the program is a snapshot, valid only while the call waits: when its thread was killed
    or interrupted meanwhile, any access raises :class:`trapline.CallGoneError`, which a hook can let pass.

    :ivar nr: the number of the call.
    :ivar tid: the calling thread, in this process's pid namespace.
    :ivar ip: the address behind the instruction that made the call.
    :ivar raw: the six argument registers as they are, unsigned.
    """

    __slots__ = ()

    #: Set by the session on a subclass of its own.
    _tree: ProcessTree
    _arguments: Args

    @property
    def arch(self) -> str:
        """The convention of the call: ``"x86_64"``, ``"i386"``, ``"aarch64"``."""
        return _ARCH_NAMES.get(self.audit_arch, f"arch_{self.audit_arch:#x}")

    @property
    def name(self) -> str:
        """The kernel's name, or ``syscall_<nr>``. A call inside i386 ``socketcall`` or ``ipc`` has its own."""
        try:
            return self._name
        except AttributeError:
            self._name, self._arguments = self._decode()
            return self._name

    @property
    def args(self) -> Args:
        """The arguments by name; see :class:`Args`."""
        try:
            return self._arguments
        except AttributeError:
            self._name, self._arguments = self._decode()
            return self._arguments

    def _decode(self) -> tuple[str, Args]:
        arch = self.arch
        name = abi.name(self.nr, arch)
        registers = self.raw
        if arch == "i386" and name in ("socketcall", "ipc"):
            name, registers = self._decode_inner(name, registers)
        return name, Args(abi.signature(name, arch), registers)

    def _decode_inner(self, outer: str, registers: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        if outer == "ipc":
            inner = abi.IPC.get(registers[0] & 0xFFFF, outer)
            # ipc(call, first, second, third, ptr, fifth): the order of the call itself differs from one to the other.
            order = {"semop": (1, 4, 2), "semtimedop": (1, 4, 2, 5), "semctl": (1, 2, 3, 4), "shmdt": (4,)}
            order |= {"msgsnd": (1, 4, 2, 3), "shmat": (1, 4, 2), "msgctl": (1, 2, 4), "shmctl": (1, 2, 4)}
            order |= {"msgrcv": (1, 4, 2, 5, 3)}
            picked = [registers[index] for index in order.get(inner, (1, 2, 3))]
        else:
            inner = abi.SOCKETCALL.get(registers[0], outer)
            if inner == outer:
                return outer, registers
            count = len(abi.signature(inner, "i386").params)
            try:
                data = self.read(registers[1], 4 * count)
            except MemoryAccessError:
                return outer, registers
            picked = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
        return (inner, (*picked, *[0] * (6 - len(picked)))) if inner != outer else (outer, registers)

    @property
    def signature(self) -> Signature:
        """Parameters and result of this call; see :class:`trapline.abi.Signature`."""
        return self.args._signature

    @property
    def process(self) -> Process:
        """The calling process: who forked it, what it runs.

        :raises CallGoneError: it is gone.
        """
        process = self._tree.process(self.pid)
        if process is None:
            from trapline.errors import CallGoneError

            raise CallGoneError(f"process of thread {self.tid} is gone")
        return process

    def read_struct(self, name: str, address: int) -> Any:
        """Read one of the kernel's structs.

        :param name: a name in :mod:`trapline.abi.structs`, such as ``"timespec"``.
        :raises MemoryAccessError: it is not mapped there.
        """
        from trapline.abi import structs

        return structs.unpack(name, self.read(address, structs.sizeof(name, self.arch)), self.arch)

    def write_struct(self, name: str, address: int, **fields: object) -> None:
        """Write one of the kernel's structs, as the kernel would into an output argument.

        :raises MemoryAccessError: the memory there is not writable.
        """
        from trapline.abi import structs

        self.write(address, structs.pack(name, self.arch, **fields))

    def open_for_caller(self, path: str | None = None) -> int:
        """Open a file here, exactly as this ``open``, ``openat``, ``openat2`` or ``creat`` asks for it.

        The way to allow a file safely: the path is copied once, what was opened can be judged (``os.fstat``,
        ``/proc/self/fd``), and ``reply_fd`` hands over just that, whatever the program changes meanwhile. It is done
        with the caller's root and working directory, umask, user, groups, capabilities, and ``RESOLVE_*`` flags;
        ``/proc/self`` is the caller's. No controlling terminal is acquired, and an ``open`` that waits, as of a FIFO
        without a writer, waits here.

        :param path: another path to open in the same way; None is the caller's own.
        :returns: a descriptor, close-on-exec and yours to close.
        :raises OSError: what the caller would have got; EPERM also where this process may not take on its rights,
            EOPNOTSUPP for O_PATH, whose descriptors the kernel does not hand over.
        :raises CallGoneError: the caller is gone.
        """
        args, registers = self.args, self.args._registers
        if self.name not in ("open", "openat", "openat2", "creat"):
            raise UsageError(f"open_for_caller() is for open, openat, openat2 and creat, not for {self.name}")
        resolve = 0
        if self.name == "openat2":
            how = self.read(args.how, 24)
            flags, mode, resolve = [int.from_bytes(how[at : at + 8], "little") for at in (0, 8, 16)]
        elif self.name == "creat":
            flags, mode = os.O_CREAT | os.O_WRONLY | os.O_TRUNC, registers[1] & 0o7777
        else:
            at = 1 if self.name == "open" else 2
            flags = registers[at] & _OPEN_FLAGS  # the kernel ignores the rest here, while openat2 refuses it
            mode = registers[at + 1] & 0o7777 if flags & (os.O_CREAT | _O_TMPFILE) else 0
        if flags & _O_PATH:
            raise OSError(_EOPNOTSUPP, "the kernel hands over no O_PATH descriptors")
        if path is None:
            param = self.signature.paths[0]
            path = self.read_str(registers[param.index])
        return self._open(
            args.dfd if self.name.startswith("openat") else _AT_FDCWD, path, flags, mode, resolve
        )

    def reply_fd(
        self, source: bytes | bytearray | memoryview | int | HasFileno, *, cloexec: bool | None = None
    ) -> _native.Decision:
        """Answer with a new descriptor, installed in the caller in one step with the reply.

        :param source: bytes (served from a sealed, read-only memfd), a file object, or a descriptor of this
            process. A descriptor stays open here and is yours to close; the caller shares its file offset.
        :param cloexec: close-on-exec in the caller; None is as the call itself asks for it.
        """
        if cloexec is None:
            cloexec = self._wants_cloexec()
        if isinstance(source, bytes | bytearray | memoryview):
            fd = _sealed(source, self.name)
            try:
                return self._reply_fd(fd, cloexec)
            finally:
                os.close(fd)
        if isinstance(source, int):
            return self._reply_fd(source, cloexec)
        flush = getattr(source, "flush", None)
        if flush is not None:
            flush()
        return self._reply_fd(source.fileno(), cloexec)

    def _wants_cloexec(self) -> bool:
        if self.name == "openat2":
            return bool(int.from_bytes(self.read(self.args.how, 8), "little") & _O_CLOEXEC)
        if self.name in ("fcntl", "fcntl64"):
            return self.args.cmd == _F_DUPFD_CLOEXEC
        cloexec = self.signature.cloexec
        if cloexec is None:
            return False
        # The plain register: flag types do the same arithmetic fifty times slower.
        param = self.signature.param(cloexec[0])
        return param is not None and bool(self.args._registers[param.index] & cloexec[1])

    def write_arg(self, name: str | int, value: int | str | bytes | bytearray | memoryview) -> None:
        """Replace an argument before the kernel sees it; the hook declares that with ``changes_args=True``.

        The caller finds its own arguments, and its own memory, as they were. What was changed shows in :attr:`args`.

        :param name: the kernel's name of the parameter, or its position from 0.
        :param value: a number; or bytes, of which the argument becomes the address of a copy that lives until the
            call has returned. The kernel looks at as many as the call's other arguments say. A string is encoded as
            the names of files are, and ends with a NUL.
        :raises UnsupportedByEngineError: this engine hands arguments to the kernel as they are.
        :raises CallGoneError: the caller is gone.
        """
        if self.arch == "i386" and abi.name(self.nr, "i386") in ("socketcall", "ipc"):
            raise UnsupportedByEngineError(
                f"the arguments of {self.name} inside {abi.name(self.nr, 'i386')} lie in memory: change them with "
                "call.write()", engine="any", capability="change_args",
            )  # fmt: skip
        index = name if isinstance(name, int) else self._position(name)
        if isinstance(value, int):
            self._set_arg(index, value & 0xFFFFFFFFFFFFFFFF)
        else:
            self._copy_arg(index, os.fsencode(value) + b"\0" if isinstance(value, str) else value)

    def _position(self, name: str) -> int:
        param = self.signature.param(name)
        if param is not None:
            return param.index
        getattr(self.args, name)  # raises AttributeError unless it is one of arg0 to arg5
        return int(name[3])

    @property
    def error(self) -> Errno | None:
        """What the call failed with, or None; like :attr:`result`, once it has returned."""
        result = self.result
        if not -4095 <= result < 0:
            return None
        from trapline.abi.errno import Errno

        try:
            return Errno(-result)
        except ValueError:
            return None

    def __repr__(self) -> str:
        return f"<Call {self.name}{self.args!r} of thread {self.tid}>"


def _sealed(data: bytes | bytearray | memoryview, name: str) -> int:
    """Return a read-only descriptor of a memfd that nobody can change any more."""
    import fcntl

    writer = os.memfd_create(f"trapline:{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(writer, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(writer, fcntl.F_ADD_SEALS, seals)
        return os.open(f"/proc/thread-self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)
