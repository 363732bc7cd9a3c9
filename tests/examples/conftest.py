"""Fixtures for the tests of the examples and of what the documentation shows."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from example_runs import NOBODY, ROOT, TRAPLINE, Run, command_line, execute, needed


@pytest.fixture
def native() -> Run:
    return lambda *command, **options: execute(list(command), **options)


@pytest.fixture
def hooked() -> Run:
    """``hooked("frozen_clock", "date", settings={"at": "2000-01-01"})``."""

    def run(example: str, *command: str, settings: dict[str, object] | None = None, **options: object):  # type: ignore[no-untyped-def]
        return execute(command_line(example, *command, **(settings or {})), **options)

    return run


@pytest.fixture
def as_nobody() -> list[str]:
    """What to put before a command so that it runs without privileges."""
    if os.geteuid() != 0:
        return []
    needed("setpriv")
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    if execute([*prefix, str(TRAPLINE), "--version"]).returncode != 0:
        pytest.skip("the user nobody cannot read this checkout, or the Python that is used")
    return prefix


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile C, once for each way: ``compiled("clock", "-static", "-m32")``."""
    made: dict[tuple[str, ...], str] = {}

    def compile_it(name: str, *flags: str) -> str:
        if (name, *flags) not in made:
            needed("gcc")
            out = tmp_path_factory.mktemp(name) / name
            source = ROOT / "tests" / "examples" / f"{name}.c"
            done = execute(["gcc", "-O1", "-Wall", *flags, "-o", str(out), str(source)])
            if done.returncode and "-m32" in flags:
                pytest.skip("no 32-bit C library (gcc-multilib) is installed")
            assert done.returncode == 0, done.stderr
            made[name, *flags] = str(out)
        return made[name, *flags]

    return compile_it
