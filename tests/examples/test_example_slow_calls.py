"""examples/slow_calls.py"""

from __future__ import annotations

import re

import pytest

from example_runs import EXAMPLES, TRAPLINE, Run, execute
from trapline.engines.base import ENGINES, STARTABLE

ABLE = [name for name in STARTABLE if "result" in ENGINES[name]]


@pytest.mark.parametrize("chosen", ["auto", *ABLE])
def test_a_call_that_waits_is_told_with_its_result_and_time(chosen: str) -> None:
    done = execute(
        [
            str(TRAPLINE), "run", "--engine", chosen, "-s", str(EXAMPLES / "slow_calls.py"),
            "--set", "over=200", "--set", "only=clock_nanosleep, select", "--", "sleep", "0.25",
        ]
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    told = re.fullmatch(r"slow_calls: clock_nanosleep\(.*\) = 0 took (\d+) ms in \d+\n", done.stderr)
    assert told, done.stderr
    assert int(told[1]) >= 250


def test_an_error_is_told_by_its_name(hooked: Run) -> None:
    done = hooked("slow_calls", "cat", "/no/such/file", settings={"over": 0, "only": "openat"})
    assert re.search(
        r'^slow_calls: openat\(.*"/no/such/file".*\) = ENOENT took \d+ ms in \d+$', done.stderr, re.M
    )


def test_callers_at_one_time_are_not_mixed_up(hooked: Run) -> None:
    command = ["sh", "-c", "sleep 0.2 & sleep 0.4 & wait"]
    done = hooked("slow_calls", *command, settings={"over": 0, "only": "clock_nanosleep"})
    assert done.returncode == 0
    told = re.findall(r"tv_nsec=([24])0+\D.* = 0 took (\d+) ms in (\d+)$", done.stderr, re.M)
    assert sorted(tenths for tenths, _, _ in told) == ["2", "4"], done.stderr
    assert all(int(took) >= int(tenths) * 100 for tenths, took, _ in told)
    assert len({pid for _, _, pid in told}) == 2
