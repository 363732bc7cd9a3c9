"""Every error that trapline raises on purpose. Imports nothing."""

from __future__ import annotations


class TraplineError(Exception):
    """Root of trapline's errors: *what* failed, *why*, and what to *do*."""


class UsageError(TraplineError, ValueError):
    """An option, rule, expression or argument that cannot be understood."""


class UnknownSyscallError(TraplineError, LookupError):
    """A name or number that is in no system call table of this architecture.

    :ivar name: what was asked for.
    """

    def __init__(self, name: str, message: str | None = None) -> None:
        self.name = name
        super().__init__(message or f"unknown system call {name!r}")


class UnsupportedByEngineError(TraplineError, NotImplementedError):
    """A hook or rule declares something that the chosen engine cannot do.

    :ivar engine: the engine's name.
    :ivar capability: what it lacks.
    """

    def __init__(self, message: str, *, engine: str, capability: str) -> None:
        self.engine = engine
        self.capability = capability
        super().__init__(message)


class EngineStartError(TraplineError, OSError):
    """The kernel, or what surrounds this process, refused to start an engine."""


class CommandError(TraplineError, OSError):
    """The command could not be executed.

    :ivar errno: why, as ``execve`` said it.
    :ivar filename: what was to be executed.
    """


class HookError(TraplineError, RuntimeError):
    """A hook raised, and that ended the session; ``__cause__`` is what it raised."""


class CallGoneError(TraplineError, ProcessLookupError):
    """The thread that made the call was killed or interrupted while its hook ran.

    A hook need not catch it: there is nobody left to answer, and trapline moves on.
    """


class MemoryAccessError(TraplineError, OSError):
    """Memory of the program could not be read or written.

    :ivar address: where the access began.
    :ivar size: how many bytes were wanted.
    """

    def __init__(self, what: str, tid: int, address: int, size: int, errno: int) -> None:
        self.address = address
        self.size = size
        super().__init__(errno, f"cannot {what} {size} bytes at {address:#x} of thread {tid}")
