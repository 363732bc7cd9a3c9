from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .machine import Machine


@pytest.fixture(scope="module")
def machine(victim: Callable[..., str]) -> Iterator[Machine]:
    started = Machine(victim("rewritten", "static", (), "-no-pie"))
    yield started
    started.close()
