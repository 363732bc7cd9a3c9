"""Recorded files as lines: those that are written by plans are those that Python writes."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline import abi
from trapline.trace.file import CALL, Event, TraceFile
from trapline.trace.plans import plan
from trapline.trace.select import Selection
from trapline.trace.strace import call_line
from trapline.trace.text import TextWriter

HEADER = struct.pack("<8sIIII", b"tltrace\n", 2, 24, 0xC000003E, 32)
RECORDS, CLOCK, GONE, _, BEGUN, STATUS = range(1, 7)
AFTER, NESTED = 1, 2
#: Numbers of the calls whose lines are written without Python.
PLANNED = [nr for nr in range(470) if plan(nr, Selection().names, Selection().status)]
EDGES = [
    0,
    1,
    2,
    31,
    32,
    33,
    100,
    4096,
    0o100,
    1 << 31,
    1 << 32,
    (1 << 64) - 100,
    (1 << 64) - 1,
    0x7FFF_0000_0000,
]
values = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1), st.integers(0, 4096))
results = st.one_of(st.integers(-4096, 4096), st.integers(-(1 << 63), (1 << 63) - 1))
bytes_kept = st.one_of(st.binary(max_size=40), st.binary(min_size=144, max_size=144))


def chunk(kind: int, data: bytes, tid: int = 7) -> bytes:
    return struct.pack("<IIii", kind, len(data), 7, tid) + data


def clock(ticks: int) -> bytes:
    return struct.pack("<IIiiQq", CLOCK, 16, 0, 0, ticks, 10**18 + ticks)


def record(
    nr: int, args: Any, result: int, blobs: Any, end: int = 20, start: int | None = None, flags: int = 0
) -> bytes:
    body = struct.pack(f"<{len(args)}Q", *args)
    for arg, kind, address, data in blobs:
        blob = struct.pack("<BBH", arg, kind, len(data)) + (
            struct.pack("<Q", address) if kind & NESTED else b""
        )
        body += blob + data + bytes(-len(blob + data) % 8)
    start = end if start is None else start
    return struct.pack("<HBBiQQq", 32 + len(body), flags, len(args), nr, start, end, result) + body


def lines(data: bytes, **options: Any) -> str:
    written: list[bytes] = []
    TraceFile(io.BytesIO(HEADER + data)).write(
        TextWriter(lambda _, text: written.append(text), **options), final=True
    )
    return b"".join(written).decode(errors="surrogateescape")


@st.composite
def calls(draw: Any) -> bytes:
    nr = draw(st.sampled_from(PLANNED))
    count = len(abi.signature(abi.name(nr, "x86_64"), "x86_64").params)
    args = draw(st.lists(values, min_size=count, max_size=count))
    blob = st.tuples(
        st.integers(0, max(count - 1, 0)), st.sampled_from([0, AFTER, NESTED]), values, bytes_kept
    )
    kept, places = [], []
    for one in draw(st.lists(blob, max_size=3)):
        start = one[2] if one[1] & NESTED or not args else args[one[0]]
        # Where pieces of memory touch, Python goes on reading in the next one.
        if all(start > end or start + len(one[3]) < begin for begin, end in places):
            kept.append(one)
            places.append((start, start + len(one[3])))
    return record(nr, args, draw(results), kept)


def test_most_calls_have_a_plan():
    names = {abi.name(nr, "x86_64") for nr in PLANNED}
    assert {
        "read",
        "write",
        "openat",
        "close",
        "newfstatat",
        "mmap",
        "getdents64",
        "lseek",
        "access",
    } <= names
    assert len(names) > 150
    assert not {"futex", "fcntl", "execve"} & names


@settings(max_examples=600, deadline=None)
@given(calls(), st.integers(0, 40))
def test_a_line_by_a_plan_is_what_python_writes(one, limit):
    data = clock(0) + chunk(RECORDS, one) + clock(100)
    (event,) = TraceFile(io.BytesIO(HEADER + data)).events(final=True)
    call, result = call_line(event, limit)
    assert lines(data, limit=limit) == f"{call:<39} = {result}\n"


#: Calls about descriptors, with paths of new ones: openat, close, read, dup, fcntl, clone, pipe2, poll, newfstatat.
ABOUT_DESCRIPTORS = [
    "openat",
    "close",
    "read",
    "dup",
    "dup2",
    "fcntl",
    "fork",
    "pipe2",
    "futex",
    "fstat",
    "epoll_create1",
]


@st.composite
def descriptor_calls(draw: Any) -> bytes:
    nr = abi.number(draw(st.sampled_from(ABOUT_DESCRIPTORS)), "x86_64")
    signature = abi.signature(abi.name(nr, "x86_64"), "x86_64")
    count = len(signature.params)
    small = st.integers(0, 4)
    args = draw(st.lists(small, min_size=count, max_size=count))
    path = draw(st.sampled_from([b"", b"/etc/hosts", b"socket:[1]", b"/tmp/\xff\xc3\xa4"]))
    kept = [(0, 4, 0, path)] if signature.returns == "fd" and draw(st.booleans()) else []
    return record(
        nr,
        args,
        draw(st.sampled_from([-9, 0, 1, 2, 3, 4])),
        kept,
        flags=draw(st.sampled_from([0, 0, 0, 2, 16])),
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(descriptor_calls(), st.integers(1, 3)), max_size=12),
    st.sampled_from(["successful", "failed", ""]),
)
def test_files_behind_descriptors_are_those_that_python_writes(records, status):
    data = b"".join(struct.pack("<IIii", RECORDS, len(one), pid, pid) + one for one, pid in records)
    selection = Selection.parse([f"status={status}"] if status else [], [])
    by_plan = lines(clock(0) + data, paths=True, pids="always", selection=selection)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trapline.trace.text.plan", lambda *_: b"")
        assert by_plan == lines(clock(0) + data, paths=True, pids="always", selection=selection)


def test_a_number_that_no_call_has_is_written_too():
    (event,) = TraceFile(io.BytesIO(HEADER + chunk(RECORDS, record(-1, [1, 2], -38, [])))).events(final=True)
    assert call_line(event) == ("syscall_-1(0x1, 0x2)", "-1 ENOSYS (Function not implemented)")
    assert lines(chunk(RECORDS, record(-1, [1, 2], -38, []))).startswith("syscall_-1(0x1, 0x2) ")


def test_what_was_asked_for_is_the_same_the_next_time():
    futex = abi.number("futex", "x86_64")
    other = record(futex, [0x1000, 1, 2, 0, 0, 0], 1, [])
    one = record(futex, [0x1000, 1, 1, 0, 0, 0], 1, [])
    shown = lines(chunk(RECORDS, one + other + one)).splitlines()
    assert shown[0] == shown[2] == "futex(0x1000, FUTEX_WAKE, 1)            = 1"
    assert shown[1] == "futex(0x1000, FUTEX_WAKE, 2)            = 1"


@st.composite
def threads(draw: Any) -> tuple[bytes, list[tuple[int, int]]]:
    """Records of some threads in some order of chunks, and (end, thread) of each by their time."""
    pieces, ends = [], []
    for tid in range(1, draw(st.integers(1, 4)) + 1):
        times = sorted(draw(st.lists(st.integers(0, 1000), max_size=8)))
        cut = draw(st.integers(0, len(times)))
        pieces += [
            (tid, chunk(RECORDS, b"".join(record(39, [], tid, [], end) for end in part), tid))
            for part in (times[:cut], times[cut:])
        ]
        ends += [(end, tid) for end in times]
    # Those of one thread stay in order.
    order = draw(st.permutations([tid for tid, _ in pieces]))
    queues: dict[int, list[bytes]] = {}
    for tid, piece in pieces:
        queues.setdefault(tid, []).append(piece)
    return b"".join(queues[tid].pop(0) for tid in order), sorted(ends)


@settings(max_examples=200, deadline=None)
@given(threads(), st.integers(1, 200))
def test_events_come_by_their_end_however_the_file_is_cut(made, size):
    data, ends = made

    class Slow(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            return super().read(count if count == 24 or count == 0 else size)

    got = [
        (event.end - 10**18, event.result)
        for event in TraceFile(Slow(HEADER + clock(0) + data + clock(2000))).events(final=True)
    ]
    assert [end for end, _ in got] == [end for end, _ in ends]
    assert sorted(got) == ends


def test_nothing_is_given_away_before_all_that_ended_earlier_is_there():
    def seen(data: bytes, final: bool) -> list[int | None]:
        return [event.result for event in TraceFile(io.BytesIO(HEADER + data)).events(final=final)]

    early = clock(0) + clock(10) + chunk(RECORDS, record(39, [], 1, [], 15), 1)
    assert seen(early, final=False) == []
    early += clock(20) + chunk(RECORDS, record(39, [], 2, [], 12), 2)
    assert seen(early, final=False) == []
    assert seen(early + clock(30), final=False) == [2, 1]
    assert seen(early, final=True) == [2, 1]


def test_lines_name_their_thread_while_there_are_several():
    one, two = record(39, [], 1, [], 5), record(39, [], 2, [], 9)
    data = (
        clock(0)
        + chunk(BEGUN, b"a", 1)
        + chunk(RECORDS, one, 1)
        + chunk(BEGUN, b"b", 2)
        + chunk(RECORDS, two, 2)
    )
    data += (
        clock(20) + chunk(GONE, b"", 2) + clock(30) + chunk(RECORDS, record(39, [], 3, [], 35), 1) + clock(40)
    )
    shown = lines(data)
    assert [line.split("getpid")[0] for line in shown.splitlines()] == ["", "[pid     2] ", ""]
    assert lines(data, pids="always").splitlines()[1].startswith("2     getpid() ")


def test_unwanted_calls_are_not_written_but_counted():
    read, write = abi.number("read", "x86_64"), abi.number("write", "x86_64")
    good, bad = record(read, [3, 0, 0], 0, [], 2000, 500), record(write, [3, 0, 0], -9, [], 3000)
    trace = TraceFile(io.BytesIO(HEADER + clock(0) + chunk(RECORDS, good + good + bad) + clock(9000)))
    written: list[bytes] = []
    trace.write(
        TextWriter(lambda _, text: written.append(text), selection=Selection.parse(["status=failed"], [])),
        final=True,
    )
    assert b"".join(written) == b"write(3, NULL, 0)                       = -1 EBADF (Bad file descriptor)\n"
    assert trace.counts() == [
        (read, 0, 0, 2, 3000, (0, 2, 0, 0, 0, 0)),
        (write, 0, 1, 1, 0, (1, 0, 0, 0, 0, 0)),
    ]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_that_a_program_has_written_over_is_read_as_far_as_it_goes(data):
    whole = bytearray(clock(0) + b"".join(chunk(RECORDS, data.draw(calls())) for _ in range(3)) + clock(100))
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6)
    ):
        whole[place] = byte
    lines(bytes(whole))
    for event in TraceFile(io.BytesIO(HEADER + whole)).events(final=True):
        assert isinstance(event, Event)
        assert event.kind in range(1, 7)
        assert event.kind != CALL or call_line(event)


@pytest.mark.parametrize("stamp", ["r", "t", "tt", "ttt"])
def test_times_are_written_as_asked_for(stamp):
    one = record(39, [], 1, [], 1_500_000, 500_000)
    data = clock(0) + chunk(RECORDS, one + record(39, [], 1, [], 2_500_000, 2_500_000)) + clock(9_000_000)
    first, second = lines(data, stamp=stamp, durations=True).splitlines()
    assert first.endswith("= 1 <0.001000>")
    starts = {"r": "    0.002000 ", "ttt": "1000000000.002500 "}
    assert second.startswith(starts.get(stamp, "")), second
    assert second.split("getpid")[0].count(":") == (0 if stamp in starts else 2)
    assert (".002500 " in second) == (stamp in ("tt", "ttt"))
