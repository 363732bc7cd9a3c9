"""examples/shout.py"""

from __future__ import annotations

import sys

import pytest

from example_runs import EXAMPLES, TRAPLINE, Run, execute
from trapline.engines.base import ENGINES, STARTABLE

ABLE = [name for name in STARTABLE if "change_args" in ENGINES[name]]


@pytest.mark.parametrize("chosen", ["auto", *ABLE])
@pytest.mark.parametrize(
    ("command", "printed"),
    [(["echo", "hello"], "HELLO\n"), (["sh", "-c", "echo one; cat /no/such/file; exit 3"], "ONE\n")],
    ids=["echo", "sh"],
)
def test_what_is_written_comes_out_in_capitals(
    chosen: str, command: list[str], printed: str, native: Run
) -> None:
    expected = native(*command)
    done = execute(
        [str(TRAPLINE), "run", "--engine", chosen, "-s", str(EXAMPLES / "shout.py"), "--", *command]
    )
    assert expected.stdout == printed.lower()
    assert (done.stdout, done.stderr, done.returncode) == (printed, expected.stderr, expected.returncode)


def test_the_program_does_not_notice(hooked: Run) -> None:
    program = "import os; text = b'abc'; print(os.write(1, text), text)"
    done = hooked("shout", sys.executable, "-c", program, settings={"only": 1})
    assert done.stdout == "ABC3 B'ABC'\n"
    quiet = hooked("shout", sys.executable, "-c", program, settings={"only": 2})
    assert quiet.stdout == "abc3 b'abc'\n"


def test_bad_memory_is_the_kernel_s_to_refuse(hooked: Run) -> None:
    program = "import ctypes, os; print(ctypes.CDLL(None).write(1, 8, 5))"
    assert hooked("shout", sys.executable, "-c", program).stdout == "-1\n"


def test_an_engine_that_cannot_is_refused_with_those_that_can() -> None:
    done = execute(
        [str(TRAPLINE), "run", "--engine", "notify", "-s", str(EXAMPLES / "shout.py"), "--", "true"]
    )
    assert done.returncode == 125
    assert "'notify' cannot change arguments, which hook 'shout' needs. Use --engine" in done.stderr
    assert all(name in done.stderr for name in ABLE)
