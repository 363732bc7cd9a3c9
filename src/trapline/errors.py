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
