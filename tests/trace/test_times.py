"""From the time stamp counter to the time of day."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from trapline import abi
from trapline.trace.file import CALL, read

# native/agent/capture.h
FILE, CHUNK, CLOCK, RECORD = (struct.Struct(form) for form in ("<8sIIII", "<IIii", "<Qq", "<HBBiQQq"))
RECORDS, TIME = 1, 2
EPOCH, TICKS = 1_700_000_000_000_000_000, 3


def clock(ns: int, *, told: int) -> bytes:
    return CHUNK.pack(TIME, CLOCK.size, 0, 0) + CLOCK.pack(TICKS * ns, EPOCH + told)


def calls(times: list[int]) -> bytes:
    """One call after the other, which took 10 ns each."""
    number = abi.number("getppid", "x86_64")
    records = [RECORD.pack(RECORD.size, 0, 0, number, TICKS * ns, TICKS * (ns + 10), 1) for ns in times]
    return CHUNK.pack(RECORDS, RECORD.size * len(records), 1, 1) + b"".join(records)


@pytest.fixture
def times(tmp_path: Any) -> Any:
    """What is read of when calls began and ended: nanoseconds since the first clock."""

    def read_times(*chunks: bytes) -> list[tuple[int, int]]:
        path = tmp_path / "record"
        path.write_bytes(
            FILE.pack(b"tltrace\n", 2, FILE.size, abi.AUDIT_ARCH["x86_64"], 32) + b"".join(chunks)
        )
        return [(event.start - EPOCH, event.end - EPOCH) for event in read(str(path)) if event.kind == CALL]

    return read_times


@pytest.mark.parametrize("jitter", [0, 100, 100_000])
def test_time_never_turns_back_within_a_thread(times: Any, jitter: int) -> None:
    dice = random.Random(jitter)
    chunks, wanted = [clock(0, told=0)], []
    for period in range(1, 400):
        now = period * 10_000_000
        chunks.append(clock(now, told=now + dice.randint(0, jitter)))
        # What ends while the rest of it is copied comes in the same piece.
        wanted += [now - 5_000_000, now - 20, now + 5, now + 200]
        chunks.append(calls(wanted[-4:]))
    found = times(*chunks)
    assert [time for pair in found for time in pair] == sorted(time for pair in found for time in pair)
    wrong = [abs(start - ns) for (start, _), ns in zip(found, wanted, strict=True)]
    assert max(wrong[len(wrong) // 2 :]) <= jitter + 10


def test_a_clock_that_is_set_is_followed(times: Any) -> None:
    day = 86_400_000_000_000
    chunks = [clock(0, told=0), clock(10_000_000, told=10_000_000), calls([9_000_000])]
    for period in range(2, 100):
        now = period * 10_000_000
        chunks += [clock(now, told=now + day), calls([now + 1000])]
    found = times(*chunks)
    assert found[0] == (9_000_000, 9_000_010)
    assert found[1:] == [(n * 10_000_000 + 1000 + day, n * 10_000_000 + 1010 + day) for n in range(2, 100)]
