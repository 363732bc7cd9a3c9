"""Injection, beside strace and on every engine."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from trapline import features
from trapline.engines.base import ENGINES, STARTABLE
from trapline.engines.choose import _NEEDS as REQUIRED


def _usable(name: str) -> Any:
    missing = [feature for feature in REQUIRED.get(name, ()) if not features.probe(feature)]
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"there is no {missing} here"))


EVERY = [_usable(name) for name in ENGINES if name in STARTABLE]
WITH_RESULTS = [_usable(name) for name in ENGINES if name in STARTABLE and "result" in ENGINES[name]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, engines in (("every", EVERY), ("with_results", WITH_RESULTS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, engines)


@pytest.fixture(scope="session")
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    return path
