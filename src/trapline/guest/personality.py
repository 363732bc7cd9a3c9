"""Personalities: what a guest believes the kernel is."""

from __future__ import annotations

from trapline import abi, hooks
from trapline.errors import UsageError
from trapline.guest.registers import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, TypeVar

    from trapline.guest.arena import Arena
    from trapline.guest.guest import Guest
    from trapline.guest.loader import Program
    from trapline.guest.thread import Thread

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Convention", "Personality", "does"]

_ATTRIBUTE = "__trapline_does__"


class Convention:
    """In which registers calls come.

    :param number: register of the call's number.
    :param args: registers of at most six arguments.
    :param result: register of the result.
    :param carry_is_error: an error is a positive number with the carry flag set, as in the BSDs; otherwise it is
        minus that number, as in Linux.
    """

    __slots__ = ("args", "carry_is_error", "number", "result")

    def __init__(
        self, number: str, args: tuple[str, ...], result: str, *, carry_is_error: bool = False
    ) -> None:
        for name in (number, *args, result):
            if name not in NAMES:
                raise UsageError(f"there is no register {name!r}")
        self.number = number
        self.args = args
        self.result = result
        self.carry_is_error = carry_is_error

    def positions(self) -> tuple[int, tuple[int, ...], int, bool]:
        """Return the same for the native core."""
        args = [NAMES.index(name) for name in self.args]
        args += args[-1:] * (6 - len(args))
        return NAMES.index(self.number), tuple(args), NAMES.index(self.result), self.carry_is_error


def does(*names: str) -> Callable[[F], F]:
    """Declare that a method of a personality does some calls.

    The method gets the thread and the :class:`trapline.Call`. It returns the result; or None when it has set the
    thread's registers itself. An :class:`OSError`, such as memory that cannot be read raises, is the guest's error.

    :param names: of calls, or ``"*"`` for those that no other method does.
    """

    def decorate(function: F) -> F:
        setattr(function, _ATTRIBUTE, names)
        return function

    return decorate


class Personality:
    """The calls of a kernel, each a method with :func:`does`.

    :cvar numbers: names by number; None: those of Linux, and what no method does is the kernel's. With numbers of its
        own, what no method does fails with ENOSYS.
    :cvar convention: where numbers, arguments and results are; None: as Linux has it.
    """

    numbers: ClassVar[dict[int, str] | None] = None
    convention: ClassVar[Convention | None] = None

    def __init__(self) -> None:
        self.guest: Guest | None = None

    @classmethod
    def on(cls, *names: str, **options: Any) -> Callable[[F], F]:
        """Register a hook, as :func:`trapline.on` does, for calls by the names that they have here.

        :raises UsageError: there is no such call.
        """
        return hooks.on(*cls._numbered(names), **options)

    @classmethod
    def on_return(cls, *names: str, **options: Any) -> Callable[[F], F]:
        """Register a hook that sees results, as :func:`trapline.on_return` does, by the names of this kernel."""
        return hooks.on_return(*cls._numbered(names), **options)

    @classmethod
    def _numbered(cls, names: tuple[str, ...]) -> list[str]:
        """Return names that mean the same numbers to hooks."""
        if cls.numbers is None:
            return list(names)
        found = []
        for name in names:
            numbers = [f"syscall_{nr}" for nr, known in cls.numbers.items() if known == name]
            if name != "*" and not numbers:
                raise UsageError(f"{cls.__name__} has no number for {name!r}")
            found += numbers or ["*"]
        return found

    def begin(self, guest: Guest) -> None:
        """Belong to a guest; called once."""
        if self.guest is not None:
            raise UsageError("a personality belongs to one guest; make another one")
        self.guest = guest

    @property
    def arena(self) -> Arena:
        """Where its guest lives."""
        assert self.guest is not None
        return self.guest.arena

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return what does which call, by name."""
        found: dict[str, Callable[..., Any]] = {}
        for kind in reversed(type(self).__mro__):
            for attribute, value in vars(kind).items():
                for name in getattr(value, _ATTRIBUTE, ()):
                    found[name] = getattr(self, attribute)
        return found

    def handlers(self) -> dict[tuple[int, int], Callable[..., Any]]:
        """Return the same by ``AUDIT_ARCH_*`` and number (-1: all others)."""
        table: dict[tuple[int, int], Callable[..., Any]] = {}
        for name, method in self.methods().items():
            if self.numbers is not None:
                numbers = [nr for nr, known in self.numbers.items() if known == name]
                if name != "*" and not numbers:
                    raise UsageError(f"{type(self).__name__} has no number for {name!r}")
                # A foreign kernel is the same by whichever instruction it is entered.
                for arch in ("x86_64", "i386"):
                    table |= {(abi.AUDIT_ARCH[arch], nr): method for nr in numbers or [-1]}
                continue
            for arch in ("x86_64", "i386"):
                if name == "*":
                    table[abi.AUDIT_ARCH[arch], -1] = method
                elif abi.exists(name, arch):
                    table[abi.AUDIT_ARCH[arch], abi.number(name, arch)] = method
        return table

    def name(self, nr: int, arch: str) -> str:
        """Return the name of a call."""
        if self.numbers is None:
            return abi.name(nr, arch)
        return self.numbers.get(nr, f"syscall_{nr}")

    def trapped(self) -> tuple[int, ...] | None:
        """Return the numbers of calls whose methods look at registers other than arguments, or set some.

        None is all of them, as a convention has it that is not Linux's.
        """
        return None if self.numbers is not None or self.convention is not None else ()

    def loaded(self, program: Program) -> None:
        """Take notice of the program that the guest runs."""

    def kicked(self, thread: Thread) -> None:
        """Do what is due before a thread that was interrupted goes on."""

    def faulted(self, thread: Thread) -> bool:
        """Whether a fault was taken care of, so that the thread goes on."""
        return False

    def ended(self, thread: Thread) -> None:
        """Do what is due when a thread has ended, while its memory is there."""

    def close(self) -> None:
        """Give back what it has; called when its guest is closed, after its last thread."""
