"""examples/frozen_clock.py"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from example_runs import ROOT, Run, execute, needed

MOMENT = {"at": "2000-02-29T12:00:00.25"}
C_OUTPUT = "951825600.250000000 951825600 951825600.250000 951825600\nmonotonic clock runs\n"


@pytest.mark.parametrize("flags", [(), ("-static",), ("-m32", "-static")], ids=["dynamic", "static", "i386"])
def test_every_clock_call_of_a_c_program_stands_still(
    flags: tuple[str, ...], compiled: Callable[..., str], native: Run, hooked: Run
) -> None:
    program = compiled("print_clock", *flags)
    assert native(program).stdout != C_OUTPUT
    done = hooked("frozen_clock", program, settings=MOMENT)
    assert (done.returncode, done.stdout, done.stderr) == (0, C_OUTPUT, "")


def test_go_program_sees_the_frozen_time_and_its_timers_run(
    tmp_path: pathlib.Path, native: Run, hooked: Run, go_environment: dict[str, str]
) -> None:
    needed("go")
    program = str(tmp_path / "print_clock")
    source = str(ROOT / "tests" / "examples" / "print_clock.go")
    built = execute(["go", "build", "-o", program, source], env=go_environment, timeout=300)
    assert built.returncode == 0, built.stderr
    assert not native(program).stdout.startswith("2000")
    done = hooked("frozen_clock", program, settings=MOMENT)
    assert (done.returncode, done.stdout) == (0, "2000-02-29T12:00:00.25Z\ntrue\n")


def test_date_tells_the_frozen_time(hooked: Run) -> None:
    done = hooked("frozen_clock", "date", "-u", "+%FT%T.%N", settings=MOMENT)
    assert done.stdout == "2000-02-29T12:00:00.250000000\n"


def test_offset_of_the_moment_is_kept(hooked: Run) -> None:
    done = hooked("frozen_clock", "date", "-u", "+%FT%T", settings={"at": "2024-12-31T23:30:00-01:00"})
    assert done.stdout == "2025-01-01T00:30:00\n"


def test_moment_that_is_no_date_is_refused_before_the_program_starts(hooked: Run) -> None:
    done = hooked("frozen_clock", "echo", "started", settings={"at": "tomorrow"})
    assert (done.returncode, done.stdout) == (125, "")
