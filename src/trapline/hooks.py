"""Registering hooks: the decorators, and what they leave on a function."""

from __future__ import annotations

from trapline import abi
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from trapline.bpf.conditions import Condition

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Hook", "collect", "error_policy", "on", "on_return"]

_ATTRIBUTE = "__trapline_hooks__"
_CO_COROUTINE = 0x80


class Hook:
    """One registration of a function for some system calls.

    :ivar names: kernel names, or ``"*"``.
    :ivar function: called with a :class:`trapline.Call`.
    :ivar when: condition compiled into the filter, or None.
    :ivar on_return: runs when the result is known instead of before the call.
    :ivar changes_args: declared to change arguments.
    :ivar performs: declared to have the kernel perform calls and to look at their results.
    :ivar is_async: the function is a coroutine function.
    """

    __slots__ = ("changes_args", "function", "is_async", "names", "on_return", "performs", "when")

    def __init__(
        self,
        names: tuple[str, ...],
        function: Callable[..., Any],
        when: Condition | None,
        *,
        on_return: bool = False,
        changes_args: bool = False,
        performs: bool = False,
    ) -> None:
        self.names = names
        self.function = function
        self.when = when
        self.on_return = on_return
        self.changes_args = changes_args
        self.performs = performs
        self.is_async = is_coroutine_function(function)

    def __repr__(self) -> str:
        kind = "on_return" if self.on_return else "on"
        return f"<Hook {self.name} {kind}({', '.join(self.names)})>"

    def bound_to(self, method: Callable[..., Any]) -> Hook:
        """Return the same registration for the method of one object."""
        return Hook(
            self.names, method, self.when, on_return=self.on_return, changes_args=self.changes_args,
            performs=self.performs,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__qualname__", None) or self.function)


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling *function* makes a coroutine; a partial or an object with ``__call__`` may do so too."""
    # inspect.iscoroutinefunction says the same of fewer things and costs 20 ms of imports.
    while hasattr(function, "func"):
        function = function.func
    for candidate in (function, type(function).__call__ if callable(function) else None):
        code = getattr(getattr(candidate, "__func__", candidate), "__code__", None)
        if code is not None:
            return bool(code.co_flags & _CO_COROUTINE)
    return False


def _check_names(names: tuple[str, ...]) -> None:
    if not names:
        raise UsageError('a hook needs the name of a system call: @on("openat"), or @on("*") for all')
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f'names of system calls are strings, not {name!r}: write @on("openat")')
        if name != "*" and not any(abi.exists(name, arch) for arch in abi.ARCHES):
            abi.number(name)


def _register(function: F, hook: Hook) -> F:
    hooks = list(getattr(function, _ATTRIBUTE, ()))
    hooks.append(hook)
    try:
        setattr(function, _ATTRIBUTE, tuple(hooks))
    except AttributeError:
        raise UsageError(
            f"{function!r} cannot be a hook: it takes no attributes; wrap it in a function"
        ) from None
    return function


def on(
    *names: str, when: Condition | None = None, changes_args: bool = False, performs: bool = False
) -> Callable[[F], F]:
    """Register a function that decides matching system calls before the kernel acts.

    The calling thread waits until it returns. Memory read through *call* is a snapshot: after ``None``
    the kernel reads it again, so a security decision must end in ``fail``, ``reply`` or ``reply_fd``.

    The function returns None (no opinion: the next hook is asked, and at last the kernel performs the call) or a
    decision of its call, such as ``call.fail(Errno.ENOENT)``. The first decision wins, in order of registration.

    :param names: kernel names such as ``"openat"``, ``"syscall_<nr>"``, or ``"*"``.
    :param when: compiled into the filter; calls it rejects never leave the program.
    :param changes_args: the hook calls ``call.write_arg``; only engines that can do so are chosen.
    :param performs: the hook calls ``call.perform``; only engines that can do so are chosen.
    :raises UnknownSyscallError: a name is in no table.
    :raises UnsupportedByEngineError: when a session starts: its engine cannot do what the hook declares.
    """
    _check_names(names)

    def decorate(function: F) -> F:
        return _register(function, Hook(names, function, when, changes_args=changes_args, performs=performs))

    return decorate


def on_return(*names: str, when: Condition | None = None) -> Callable[[F], F]:
    """Register a function that sees matching system calls with their result.

    It may return ``call.reply(n)`` to replace the result. Not every engine sees results: the session refuses to
    start on one that does not.

    :param names: as for :func:`on`.
    :param when: as for :func:`on`.
    :raises UnknownSyscallError: a name is in no table.
    """
    _check_names(names)

    def decorate(function: F) -> F:
        return _register(function, Hook(names, function, when, on_return=True))

    return decorate


def hooks_of(value: object) -> tuple[Hook, ...]:
    """Return the registrations on a function or bound method (none: it is no hook)."""
    registered: tuple[Hook, ...] = tuple(getattr(value, _ATTRIBUTE, ()))
    if getattr(value, "__self__", None) is None or not callable(value):
        return registered
    # The decorator saw the plain function; what is to be called has its object.
    return tuple([hook.bound_to(value) for hook in registered])


def collect(functions: Iterable[object]) -> list[Hook]:
    """Return the registrations of some decorated functions, in order.

    :raises UsageError: something was not decorated with :func:`on` or :func:`on_return`.
    """
    found: list[Hook] = []
    for function in functions:
        if isinstance(function, Hook):
            found.append(function)
            continue
        registered = hooks_of(function)
        if not registered:
            raise UsageError(f'{function!r} is no hook: decorate it with @on("...") or @on_return("...")')
        found.extend(registered)
    return found


def error_policy(text: str) -> int:
    """Return the errno to fail with, 0 to continue, -1 to end the session."""
    if text == "raise":
        return -1
    if text == "continue":
        return 0
    if text.startswith("fail:"):
        from trapline.abi.errno import Errno

        name = text.removeprefix("fail:")
        if name in Errno.__members__:
            return int(Errno[name])
    raise UsageError(f"on_hook_error {text!r} is not raise, continue or fail:ERRNO, such as fail:EIO")
