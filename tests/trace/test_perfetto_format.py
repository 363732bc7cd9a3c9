"""``--format perfetto`` keeps to Chrome's trace event format, as Perfetto's reader takes it."""

from __future__ import annotations

import json
import subprocess

import pytest

from trapline.trace.file import CALL, SIGNAL, read

#: Keys that each phase must have, and what they are.
NUMBER, TEXT = (int, float), str
PHASES = {
    "X": {"name": TEXT, "cat": TEXT, "ts": NUMBER, "dur": NUMBER, "pid": int, "tid": int},
    "i": {"name": TEXT, "cat": TEXT, "ts": NUMBER, "pid": int, "tid": int, "s": TEXT},
    "M": {"name": TEXT, "pid": int, "args": dict},
}
METADATA = {"process_name", "thread_name"}


@pytest.fixture(scope="module")
def shown(trapline, tmp_path_factory):
    """What is written of a run with threads, children, signals and a crash, and what was recorded."""
    folder = tmp_path_factory.mktemp("perfetto")
    record, output = str(folder / "record"), folder / "out.json"
    script = (
        "import os, signal, threading\nsignal.signal(10, lambda *_: None); os.kill(os.getpid(), 10)\n"
        "threads = [threading.Thread(target=os.getppid) for _ in range(3)]\n"
        "[one.start() for one in threads]; [one.join() for one in threads]\n"
        "if os.fork(): os.wait()\nos.stat('/nowhere') if os.path.exists('/\\udcff') else os.kill(os.getpid(), 9)"
    )
    command = [trapline, "trace", "--format", "raw", "-o", record, "--", "/usr/bin/python3", "-Sc", script]
    subprocess.run(command, capture_output=True)
    subprocess.run(
        [trapline, "trace", "report", "--format", "perfetto", "-o", str(output), record], check=True
    )
    return json.loads(output.read_text("utf-8")), list(read(record))


def test_the_file_is_an_object_with_its_events(shown):
    found, _ = shown
    assert set(found) == {"displayTimeUnit", "traceEvents"}
    assert found["displayTimeUnit"] in ("ns", "ms")


def test_every_event_has_what_its_phase_needs(shown):
    for event in shown[0]["traceEvents"]:
        for key, kind in PHASES[event["ph"]].items():
            assert isinstance(event[key], kind), event
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        if event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        if event["ph"] == "M":
            assert event["name"] in METADATA
            assert set(event["args"]) == {"name"}


def test_numbers_are_such_that_javascript_keeps_them(shown):
    def numbers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [number for one in value for number in numbers(one)]
        return [value] if isinstance(value, int) else []

    assert all(abs(number) < 1 << 53 for number in numbers(shown[0]))


def test_nothing_that_was_recorded_is_missing(shown):
    found, events = shown
    slices = [event for event in found["traceEvents"] if event["ph"] == "X"]
    calls = [event for event in events if event.kind == CALL]
    assert [(one["name"], one["tid"]) for one in slices] == [(event.name, event.tid) for event in calls]
    instants = [event["name"] for event in found["traceEvents"] if event["ph"] == "i"]
    assert len(instants) == sum(event.kind == SIGNAL for event in events) == 1


def test_slices_of_a_track_do_not_overlap(shown):
    ends: dict[int, float] = {}
    slices = [
        event for event in shown[0]["traceEvents"] if event["ph"] == "X" and event["name"] != "rt_sigreturn"
    ]
    for one in sorted(slices, key=lambda event: (event["tid"], event["ts"])):
        # In microseconds with a fraction, which has room for some hundred nanoseconds.
        assert one["ts"] >= ends.get(one["tid"], 0) - 0.5, one
        ends[one["tid"]] = one["ts"] + one["dur"]


def test_every_track_has_a_name_and_every_process(shown):
    events = shown[0]["traceEvents"]
    named = {(event["name"], event.get("tid", event["pid"])) for event in events if event["ph"] == "M"}
    for event in events:
        if event["ph"] == "X":
            assert ("thread_name", event["tid"]) in named
            assert ("process_name", event["pid"]) in named
