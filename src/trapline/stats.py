"""What a session counted."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Stats"]


class Stats:
    """What happened in a session.

    :ivar engine: the engine's name.
    :ivar received: calls that reached this process.
    :ivar answered: answers that the program got.
    :ivar gone: calls whose thread was killed or interrupted before it got an answer.
    :ivar calls: how many calls reached the hooks, by name.
    :ivar rules: how often each rule acted, by its text, in all processes of the program. One that is nothing but the
        same result for every call is not counted, unless it says ``count``.
    :ivar workers: threads that were started to run hooks.
    :ivar most_waiting: the most calls that waited for a free worker at one time.
    :ivar filter_length: instructions of the seccomp filter.
    :ivar no_new_privs: the program runs without new privileges, so set-user-ID programs in it get none.
    :ivar seconds: how long the program has run.
    """

    engine: str
    received: int
    answered: int
    gone: int
    calls: dict[str, int]
    rules: dict[str, int]
    sites: dict[str, Any] | None
    workers: int
    most_waiting: int
    filter_length: int
    no_new_privs: bool
    seconds: float

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as a dictionary."""
        return dict(self.__dict__)

    def __repr__(self) -> str:
        return f"Stats({', '.join([f'{name}={value!r}' for name, value in self.__dict__.items()])})"
