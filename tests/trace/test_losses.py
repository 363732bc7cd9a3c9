"""Nothing that a program has done is missing from its record: under load, and when somebody is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trapline.engines.choose import is_possible
from trapline.trace.file import CALL, count_calls, read

#: How many calls each engine is to see before, and by how many threads.
LOAD = {"rewrite": (200_000, 4), "sud": (50_000, 4), "trap": (50_000, 4), "ptrace": (2_000, 2)}


class Counting:
    """A traced program whose threads count their calls where others see it."""

    def __init__(self, trapline: str, program: str, engine: str, folder: Path) -> None:
        self.wanted, threads = LOAD[engine]
        self.record, self.counters = folder / "record", folder / "counters"
        self.counters.write_bytes(bytes(8 * threads))
        options = ["--engine", engine, "--format", "raw", "-o", str(self.record)]
        command = [trapline, "trace", *options, "--", program, str(self.counters), str(threads)]
        self.tracer: subprocess.Popen[bytes] = subprocess.Popen(command, stderr=subprocess.PIPE)
        while sum(self.counted()) < self.wanted or not all(self.counted()):
            assert self.tracer.poll() is None
        children = Path(f"/proc/{self.tracer.pid}/task/{self.tracer.pid}/children").read_text().split()
        self.program = next(int(pid) for pid in children if self._is_it(int(pid), program))

    @staticmethod
    def _is_it(pid: int, program: str) -> bool:
        return os.readlink(f"/proc/{pid}/exe") == os.path.realpath(program)

    def counted(self) -> list[int]:
        """How many calls of each thread have returned."""
        return [count for (count,) in struct.iter_unpack("<Q", self.counters.read_bytes())]

    def recorded(self) -> tuple[list[int], int]:
        """How many calls of each thread are in the record, and how many of all are not known to have returned."""
        found: Counter[int] = Counter()
        open_calls = 0
        for event in read(str(self.record)):
            if event.kind == CALL and event.name == "getppid":
                found[event.tid] += event.result is not None
                open_calls += event.result is None
        return sorted(found.values()), open_calls

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *exception: object) -> None:
        for pid in (self.program, self.tracer.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.tracer.communicate(timeout=60)


@pytest.fixture(params=list(LOAD))
def counting(request: pytest.FixtureRequest, trapline: str, victim: Any, tmp_path: Path) -> Any:
    if not is_possible(request.param):
        pytest.skip(f"engine {request.param} does not start here: `trapline doctor` says why")
    with Counting(trapline, victim("counting"), request.param, tmp_path) as found:
        yield found


def test_a_program_that_is_killed_under_load_has_lost_nothing(counting: Counting) -> None:
    os.kill(counting.program, signal.SIGKILL)
    assert counting.tracer.wait(60) == 128 + signal.SIGKILL
    counted = sorted(counting.counted())
    recorded, open_calls = counting.recorded()
    # A thread may have been killed between a call and its count, or in the call.
    assert all(0 <= there - known <= 1 for known, there in zip(counted, recorded, strict=True)), (
        counted,
        recorded,
    )
    assert open_calls <= len(counted)
    assert sum(recorded) >= counting.wanted


def test_the_record_of_a_tracer_that_is_killed_under_load_ends_with_a_whole_call(counting: Counting) -> None:
    while counting.record.stat().st_size < 1 << 16:  # more than what the program begins with
        assert counting.tracer.poll() is None
    counting.tracer.kill()
    counting.tracer.wait(60)
    with contextlib.suppress(ProcessLookupError):  # ptrace takes it along
        os.kill(counting.program, signal.SIGKILL)
    recorded: Counter[int] = Counter()
    last: dict[int, int] = {}
    for event in read(str(counting.record)):
        if event.kind == CALL and event.name == "getppid":
            assert last.get(event.tid, 0) <= event.start <= event.end
            last[event.tid] = event.end
            recorded[event.tid] += 1
    # What was still on its way is missing, and nothing in front of it.
    assert 0 < sum(recorded.values()) <= sum(counting.counted()) + len(recorded)


@pytest.mark.parametrize(("threads", "calls"), [(1, 3_000_000), (8, 400_000)])
def test_millions_of_calls_are_all_there(
    threads: int, calls: int, trapline: str, victim: Any, tmp_path: Path
) -> None:
    record = str(tmp_path / "record")
    options = ["--format", "raw", "-o", record]
    subprocess.run(
        [trapline, "trace", *options, "--", victim("storm"), str(threads), str(calls)],
        check=True,
        timeout=100,
    )
    assert count_calls(record)["getppid"] == threads * calls
