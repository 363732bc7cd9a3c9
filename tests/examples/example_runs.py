"""Programs natively and under the examples, as people type it."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TRAPLINE = pathlib.Path(sys.executable).parent / "trapline"
NOBODY = 65534

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command_line(example: str, *command: str, **settings: object) -> list[str]:
    """Return ``trapline run -s EXAMPLE --set ... -- COMMAND``."""
    line = [str(TRAPLINE), "run", "-s", str(EXAMPLES / f"{example}.py")]
    for name, value in settings.items():
        line += ["--set", f"{name.rstrip('_')}={value}"]
    return [*line, "--", *command]


def execute(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 60, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, check=False, **options)  # type: ignore[call-overload, no-any-return]


def needed(*programs: str) -> None:
    """Skip where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
