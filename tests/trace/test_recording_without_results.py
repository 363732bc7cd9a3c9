"""Records of the engine that sees calls before they run: all but what they have returned."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile

import pytest
from confined import refuse
from traced_lines import normal

from trapline.capture import Capture
from trapline.engines.choose import choose
from trapline.errors import UnsupportedByEngineError
from trapline.session import Session
from trapline.trace.file import CALL, GONE, STATUS, Event, read
from trapline.trace.strace import call_line

SCRIPT = "cat /etc/hostname /nowhere/at/all; exit 3"
#: Number and errno of what is refused: ptrace, without which no other engine can start.
NO_PTRACE = "101:1"


@pytest.fixture(scope="module")
def recorded(trapline, tmp_path_factory):
    path = tmp_path_factory.mktemp("unseen") / "record"
    command = [
        trapline,
        "trace",
        "--engine",
        "notify",
        "--format",
        "raw",
        "-o",
        str(path),
        "--",
        "sh",
        "-c",
        SCRIPT,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == "cat: /nowhere/at/all: No such file or directory\n"
    return str(path)


def as_notify_sees(event):
    """A call without all that is known of it only afterwards."""
    memory = [one for one in event.memory if not one[2]]
    flags = (event.arch == "i386") | 16
    return Event(CALL, event.pid, event.tid, event.start, event.start, event.nr, flags, event.args, None, memory, "",
                 "", None)  # fmt: skip


def calls_by_thread(engine, program, path):
    with (
        tempfile.TemporaryDirectory(dir="/tmp", prefix="trapline-shown-") as folder,
        open(path, "wb") as file,
    ):
        capture = Capture(file.fileno(), signals=False)
        with Session(
            [program], engine=engine, capture=capture, cwd=folder, stdin=-3, stdout=-3, stderr=-3
        ) as session:
            session.wait()
        threads = {}
        for event in read(path):
            if event.kind == CALL:
                text = normal(call_line(as_notify_sees(event))[0]).replace(folder, "FOLDER")
                threads.setdefault(event.tid, []).append(re.sub(r"\d{3,}|0x[0-9a-f]{4,}", "N", text))
    return list(threads.values())


@pytest.mark.parametrize("name", ["files", "processes", "sockets", "memory"])
def test_arguments_are_those_that_ptrace_records(name, victim, tmp_path):
    program = victim(f"shown/{name}")
    expected, got = (
        calls_by_thread(engine, program, str(tmp_path / engine)) for engine in ("ptrace", "notify")
    )
    assert len(expected) == len(got)
    for one, other in zip(expected, got, strict=True):
        # Whether a child has ended when it is waited for is a matter of time.
        assert [line for line in one if "sigreturn" not in line] == [
            line for line in other if "sigreturn" not in line
        ]


def test_lines_have_no_results(report):
    lines = [re.sub(r"^\[pid +\d+\] ", "", line) for line in report().splitlines()]
    assert re.match(r'execve\("/.*/sh", \["sh", "-c", .*\) = \?', lines[0])
    assert 'openat(AT_FDCWD, "/nowhere/at/all", O_RDONLY) = ?' in lines
    # That the child has ended is noticed some time later.
    own = [line for line in lines if line != "+++ exited with 1 +++"]
    assert own[-2:] == [f"{'exit_group(3)':<39} = ?", "+++ exited with 3 +++"]
    assert len(own) == len(lines) - 1
    assert all(line.endswith(" = ?") or line.startswith("+++") for line in lines)
    assert "unfinished" not in "".join(lines)


def test_no_call_is_lost_of_many_threads(victim, tmp_path):
    with (
        open(tmp_path / "record", "wb") as file,
        Session(
            [victim("storm"), "4", "200", "2"], engine="notify", capture=Capture(file.fileno())
        ) as session,
    ):
        session.wait()
    events = list(read(str(tmp_path / "record")))
    assert sum(event.kind == CALL and event.name == "getppid" for event in events) == 1600
    # 2 processes and the one that waits for them, with 4 threads and the first one in each of those.
    ended = [event.tid for event in events if event.kind == GONE]
    assert len(ended) == len(set(ended))
    assert {event.tid for event in events if event.kind == CALL} == set(ended)
    assert events[-1].kind == STATUS


def test_json_lines_have_no_results(report):
    calls = [
        row for row in map(json.loads, report("--format", "jsonl").splitlines()) if row["type"] == "call"
    ]
    assert all(row["result"] is None and row["duration"] is None for row in calls)
    assert all(row.get("unseen", False) == (row["name"] != "exit_group") for row in calls)


def test_perfetto_has_instants(report):
    events = json.loads(report("--format", "perfetto"))["traceEvents"]
    opened = [event for event in events if event["name"] == "openat"]
    assert opened
    assert {(event["ph"], event["s"], event["args"]["result"]) for event in opened} == {
        ("i", "t", "not seen")
    }


def test_a_page_says_what_is_not_known(report, tmp_path):
    report("--format", "html", "-o", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "The engine notify sees calls before they run" in page
    assert "/nowhere/at/all" in page
    assert "<h2>Slowest calls</h2><p>None.</p>" in page


def test_a_table_has_nulls(report, recorded, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    report("--format", "parquet", "-o", str(tmp_path / "table"))
    table = parquet.read_table(tmp_path / "table")
    assert table.num_rows == sum(event.kind == CALL for event in read(recorded))
    assert table.column("result").null_count == table.column("duration").null_count == table.num_rows
    assert "/nowhere/at/all" in table.column("path").to_pylist()


def test_a_summary_counts_calls_alone(report, recorded):
    rows = [line.split() for line in report("-c").splitlines()]
    calls = [event.name for event in read(recorded) if event.kind == CALL and event.unseen]
    assert ["?", "?", "?", str(len(calls)), "?", "total"] == rows[-1]
    assert ["?", "?", "?", str(calls.count("openat")), "?", "openat"] in rows
    counts = [int(row[3]) for row in rows[2:-2]]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("option", ["-z", "-Z", "-estatus=unfinished"])
def test_a_report_says_that_outcomes_are_not_known(report, recorded, option):
    calls = sum(event.kind == CALL and event.unseen for event in read(recorded))
    text = report(option)
    assert (
        f"trapline: {calls} calls are not shown: how they ended was not seen when they were recorded\n"
        in text
    )
    assert "openat" not in text


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("-T", "-T"),
        ("-z", "a selection by outcome"),
        ("-y", "the following of descriptors"),
        ("-P/etc/*", "the following of descriptors"),
        ("-Stime", "-S"),
    ],
)
def test_what_needs_results_is_refused(cli, option, what):
    done = cli("trace", "--engine", "notify", option, "--", "true")
    assert done.returncode == 125
    assert (
        f"engine 'notify' cannot tell what a call returns, which {what} needs. Use --engine " in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_stacks_are_refused(cli):
    done = cli("trace", "--engine", "notify", "-k", "--", "true")
    assert done.returncode == 125
    assert "engine 'notify' cannot record the stacks of callers" in done.stderr


def test_it_is_the_last_that_auto_takes():
    assert choose("auto", {"capture": "the record"})[0][-1] == "notify"
    assert choose("auto", {"capture": "the record"}, rare=True)[0][-1] == "notify"
    assert "notify" not in choose("auto", {"capture": "the record", "result": "-T"})[0]
    with pytest.raises(UnsupportedByEngineError):
        choose("notify", {"capture": "the record", "result": "-T"})


def trace_without_ptrace(trapline, *options):
    command = [trapline, "trace", *options, "-e", "umask", "--", "sh", "-c", "umask 27; exit 3"]
    return subprocess.run(command, preexec_fn=lambda: refuse(NO_PTRACE), capture_output=True, text=True)


def test_it_is_taken_where_no_other_engine_works_and_that_is_said(trapline):
    done = trace_without_ptrace(trapline)
    first, *rest = done.stderr.splitlines()
    assert first.startswith(
        "trapline: calls are shown without results, as engine notify sees them before they run;"
    )
    assert "the next one that can do what is needed, as engine 'ptrace' cannot start: " in first
    assert rest[-2:] == [f"{'umask(027)':<39} = ?", "+++ exited with 3 +++"]
    assert done.returncode == 3


def test_nothing_is_said_of_that_where_quiet_is_asked_for(trapline):
    assert "trapline:" not in trace_without_ptrace(trapline, "-q").stderr


def test_it_is_not_taken_for_what_needs_results(trapline):
    done = trace_without_ptrace(trapline, "-T")
    assert done.returncode == 125
    assert done.stderr.startswith(
        "trapline: engine 'ptrace' cannot start: ptrace(PTRACE_SEIZE) failed with EPERM"
    )
