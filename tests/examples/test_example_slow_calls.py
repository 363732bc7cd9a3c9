"""examples/slow_calls.py"""

from __future__ import annotations

import re

import pytest

from example_runs import EXAMPLES, TRAPLINE, Run, execute
from trapline.engines.base import ENGINES, STARTABLE

ABLE = [name for name in STARTABLE if "result" in ENGINES[name]]


@pytest.mark.parametrize("chosen", ["auto", *ABLE])
def test_a_call_that_waits_is_told_with_its_result_and_time(chosen: str) -> None:
    script = "import time; time.sleep(0.25); open('/etc/hostname').read()"
    done = execute(
        [
            str(TRAPLINE), "run", "--engine", chosen, "-s", str(EXAMPLES / "slow_calls.py"),
            "--set", "over=200", "--set", "only=clock_nanosleep, select", "--", "python3", "-c", script,
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


def test_calls_of_several_threads_are_not_mixed_up(hooked: Run) -> None:
    script = (
        "import threading, time\n"
        "threads = [threading.Thread(target=time.sleep, args=(n / 10,)) for n in (1, 6)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]"
    )
    done = hooked("slow_calls", "python3", "-c", script, settings={"over": 500, "only": "clock_nanosleep"})
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1, done.stderr
