"""Running the ``caller`` victim under hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

import trapline as library
from trapline import abi


@pytest.fixture(autouse=True)
def _leaves_nothing(leaves_nothing: None) -> None:
    """No test here may leave a process or a descriptor behind."""


def sysline(name: str, *arguments: object, arch: str = "x86_64") -> str:
    """Return the victim's word for one system call by name."""
    return " ".join(["sys", str(abi.number(name, arch)), *map(str, arguments)])


class Calls:
    """Runs the victim with some words under hooks and returns the lines that it printed."""

    def __init__(self, victim: Callable[..., str]) -> None:
        self.victim = victim
        #: What the last run returned.
        self.done: Any = None

    def __call__(
        self,
        words: Iterable[str],
        hooks: Iterable[object] = (),
        *,
        kind: str = "dynamic",
        before: Iterable[str] = (),
        **options: Any,
    ) -> list[str]:
        command = [*before, self.victim("caller", kind), *words]
        self.done = library.run(command, hooks=hooks, capture_output=True, text=True, timeout=60, **options)
        assert self.done.returncode == 0, self.done
        return self.done.stdout.splitlines()


@pytest.fixture
def calls(victim: Callable[..., str]) -> Calls:
    return Calls(victim)


@pytest.fixture
def sys() -> Callable[..., str]:
    """``sys("openat", -100, "s:/etc/hosts", 0)`` is the victim's word for that call."""
    return sysline
