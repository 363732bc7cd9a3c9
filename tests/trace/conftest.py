"""Traces, beside strace and on every engine that records."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from trapline import features
from trapline.engines.base import STARTABLE
from trapline.engines.choose import _NEEDS as REQUIRED


def _usable(name: str) -> Any:
    missing = [feature for feature in REQUIRED.get(name, ()) if not features.probe(feature)]
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"there is no {missing} here"))


#: Those that record inside the program. ptrace records the same, but would take minutes for what these do at once.
RECORDING = [_usable(name) for name in ("rewrite", "sud", "trap") if name in STARTABLE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "recording" in metafunc.fixturenames:
        metafunc.parametrize("recording", RECORDING)


@pytest.fixture(scope="session")
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    return path


@pytest.fixture
def traced(trapline, tmp_path):
    """Run a command under ``trapline trace`` and return what that has written, and the finished process."""

    def run(*words: str, options: tuple[str, ...] = (), **settings: Any) -> tuple[str, Any]:
        path = tmp_path / "trace.out"
        command = [trapline, "trace", "-o", str(path), *options, "--", *words]
        given: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, "timeout": 100}
        done = subprocess.run(command, **{**given, **settings})
        return path.read_text(errors="surrogateescape"), done

    return run


@pytest.fixture
def report(cli: Any, recorded: str) -> Any:
    """``report(option, ...)`` is what ``trapline trace report`` writes of the file that a test module has recorded."""

    def run(*options: str) -> str:
        done = cli("trace", "report", *options, recorded)
        assert done.returncode == 0, done
        return str(done.stderr)

    return run
