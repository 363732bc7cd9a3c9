"""Rules on every engine: one semantics, the same tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from calling import _leaves_nothing, sys

import trapline as library
from trapline import features
from trapline.engines.base import ENGINES, STARTABLE
from trapline.engines.choose import _NEEDS as REQUIRED

__all__ = ["_leaves_nothing", "sys"]


def _usable(name: str) -> Any:
    missing = [feature for feature in REQUIRED.get(name, ()) if not features.probe(feature)]
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"there is no {missing} here"))


EVERY = [_usable(name) for name in ENGINES if name in STARTABLE]
WITH_RESULTS = [_usable(name) for name in ENGINES if name in STARTABLE and "result" in ENGINES[name]]
WITH_AGENT = [_usable(name) for name in ("sud", "rewrite", "trap") if name in STARTABLE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, engines in (("every", EVERY), ("with_results", WITH_RESULTS), ("with_agent", WITH_AGENT)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, engines)


class Program:
    """Runs a victim under rules and returns the lines that it printed."""

    def __init__(self, victim: Callable[..., str], name: str) -> None:
        self.path = victim(name)
        #: What the last run returned.
        self.done: Any = None

    def __call__(
        self, words: Iterable[object], rules: Iterable[str], engine: str, **options: Any
    ) -> list[str]:
        self.done = library.run(
            [self.path, *map(str, words)], rules=rules, engine=engine, capture_output=True, text=True, timeout=100,
            **options,
        )  # fmt: skip
        assert self.done.returncode == 0, self.done
        lines: list[str] = self.done.stdout.splitlines()
        return lines


@pytest.fixture
def calls(victim: Callable[..., str]) -> Program:
    """Runs tests/victims/caller.c."""
    return Program(victim, "caller")


@pytest.fixture
def ruled(victim: Callable[..., str]) -> Program:
    """Runs tests/victims/ruled.c."""
    return Program(victim, "ruled")
