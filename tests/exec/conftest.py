"""What the tests of the engines inside the program share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Engines that put an agent into the program.
AGENTS = ["sud", "rewrite", "trap"]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> str:
    """Name of an engine that has an agent in the program."""
    return str(request.param)


@pytest.fixture(params=[name for name in AGENTS if name != "trap"])
def lenient(request: pytest.FixtureRequest) -> str:
    """Name of one that lets a program run without hooks where it cannot follow; a filter is there for ever."""
    return str(request.param)


@pytest.fixture(scope="session")
def marking(public_folder: Path) -> str:
    """A hooks file by which a program finds out that it is hooked: its parent is 4242."""
    path = public_folder / "marking.py"
    path.write_text(
        'from trapline import on\n\n\n@on("getppid")\ndef mark(call):\n    return call.reply(4242)\n'
    )
    return str(path)


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hooked(trapline: str, marking: str) -> Run:
    """``hooked(engine, command)``: what a command says in which every process may find itself hooked."""

    def run(engine: str, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {
            "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 100,
            "stdin": subprocess.DEVNULL,
        }  # fmt: skip
        words = [trapline, "run", "--engine", engine, "-s", marking, "--", *command]
        return subprocess.run(words, **{**settings, **options})

    return run
