"""The options and formats of ``trapline trace`` and ``trapline trace report``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from trapline.trace.file import CALL, read

SCRIPT = "cat /etc/hostname /nowhere/at/all; exit 3"


@pytest.fixture(scope="module")
def recorded(trapline, tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "record"
    done = subprocess.run(
        [trapline, "trace", "--format", "raw", "-o", str(path), "--", "sh", "-c", SCRIPT], capture_output=True
    )
    assert done.returncode == 3
    return str(path)


def report(cli, recorded, *options):
    done = cli("trace", "report", *options, recorded)
    assert done.returncode == 0, done
    return done.stderr


def test_text_goes_to_standard_error_or_to_a_file(cli, tmp_path):
    done = cli("trace", "--", "cat", "/nowhere/at/all")
    assert done.returncode == 1
    assert 'execve("' in done.stderr
    line = r'openat\(AT_FDCWD, "/nowhere/at/all", O_RDONLY\) = -1 ENOENT \(No such file or directory\)\n'
    assert re.search(line, done.stderr)
    done = cli("trace", "-o", str(tmp_path / "out"), "--", "true")
    assert done.stderr == ""
    assert re.fullmatch(r"(\d+ +.*\n)+", (tmp_path / "out").read_text())


def test_a_report_shows_what_was_shown_at_once(cli, recorded):
    text = report(cli, recorded)
    assert text.startswith('execve("')
    assert "+++ exited with 3 +++" in text
    assert text.count("\n") >= sum(event.kind == CALL for event in read(recorded))


def test_sets_select_calls(cli, recorded):
    names = {
        re.sub(r"^\[pid +\d+\] ", "", line).split("(")[0]
        for line in report(cli, recorded, "-e", "openat,read").splitlines()
    }
    assert {name for name in names if not name.startswith(("---", "+++"))} == {"openat", "read"}
    assert "mmap(" not in report(cli, recorded, "-e", "%file")
    assert "read(" not in report(cli, recorded, "-e", "trace=!read")
    assert "getpid(" not in report(cli, recorded, "-e", "/^open")


def test_only_failed_calls_can_be_shown(cli, recorded):
    lines = [
        line
        for line in report(cli, recorded, "-e", "status=failed", "-e", "signal=none").splitlines()
        if "+++" not in line
    ]
    assert lines
    assert all(" = -1 E" in line for line in lines)


def test_globs_select_by_file_and_follow_descriptors(cli, recorded):
    lines = [
        line
        for line in report(cli, recorded, "-P", "/etc/host*").splitlines()
        if "+++" not in line and "---" not in line
    ]
    names = [re.sub(r"^\[pid +\d+\] ", "", line).split("(")[0] for line in lines]
    assert names[0] == "openat"
    assert names[-1] == "close"


def test_descriptors_are_shown_with_their_files(cli, recorded):
    assert re.search(r"close\(3</etc/hostname>\) += 0", report(cli, recorded, "-y"))


@pytest.mark.parametrize(
    ("option", "pattern"),
    [
        ("-t", r"\d\d:\d\d:\d\d execve"),
        ("-tt", r"\d\d:\d\d:\d\d\.\d{6} execve"),
        ("-ttt", r"\d{10}\.\d{6} execve"),
        ("-r", r" +\d+\.\d{6} execve"),
        ("-T", r"execve.* = 0 <\d+\.\d{6}>"),
        ("-fttT", r"\d\d:\d\d:\d\d\.\d{6} execve.* <\d+\.\d{6}>"),
    ],
)
def test_times_are_as_strace_has_them(cli, recorded, option, pattern):
    assert re.match(pattern, report(cli, recorded, option).splitlines()[0])


def test_strings_are_cut(cli, recorded):
    assert 'access("/etc/ld.so.preload", ' in report(
        cli, recorded, "-s", "5"
    )  # of a path nothing is left out
    assert re.search(r'read\(3, "\\177ELF\\2"\.\.\.', report(cli, recorded, "-s", "5"))


def test_a_summary_counts_calls_and_errors(cli, recorded):
    text = report(cli, recorded, "-c")
    assert text.startswith("% time")
    events = [event for event in read(recorded) if event.kind == CALL and event.result is not None]
    assert re.search(rf" {len(events)} +\d+ .* total$", text, re.MULTILINE)
    assert report(cli, recorded, "-C").endswith(text)


def test_json_lines(cli, recorded):
    rows = [json.loads(line) for line in report(cli, recorded, "--format", "jsonl").splitlines()]
    calls = [row for row in rows if row["type"] == "call"]
    failed = next(row for row in calls if row["shown"].get("filename") == '"/nowhere/at/all"')
    assert (failed["name"], failed["error"], failed["result"], failed["args"]["dfd"]) == (
        "openat",
        "ENOENT",
        -2,
        -100,
    )
    assert rows[-1]["type"] in ("status", "gone")
    assert next(row for row in rows if row["type"] == "status")["value"] == 3


def test_perfetto_has_a_track_for_each_thread(cli, recorded):
    events = json.loads(report(cli, recorded, "--format", "perfetto"))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert {event["tid"] for event in slices} == {
        event["tid"] for event in events if event["ph"] == "M" and "tid" in event
    }
    assert all(event["dur"] >= 0 for event in slices)


def test_a_page_has_all_it_needs_in_itself(cli, recorded, tmp_path):
    report(cli, recorded, "--format", "html", "-o", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "src=" not in page
    assert "http" not in page
    assert "/nowhere/at/all" in page
    data = json.loads(
        re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    )
    assert len(data["threads"]) == len({event.tid for event in read(recorded) if event.kind == CALL})
    if shutil.which("node") is None:
        pytest.skip("node is not installed: nobody reads the script")
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    (tmp_path / "page.js").write_text(script)
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)


def test_parquet_has_a_row_for_each_call(cli, recorded, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    report(cli, recorded, "--format", "parquet", "-o", str(tmp_path / "table"))
    table = parquet.read_table(tmp_path / "table")
    assert table.num_rows == sum(event.kind == CALL for event in read(recorded))
    assert "/nowhere/at/all" in table.column("path").to_pylist()
    assert "ENOENT" in table.column("error").to_pylist()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-e", "nosuchcall", "--", "true"], "unknown system call 'nosuchcall'"),
        (["-e", "inject=read:error=EIO", "--", "true"], "`trapline inject` injects"),
        (["--format", "xml", "--", "true"], "there are text, jsonl, perfetto, html, parquet, raw"),
        (["--format", "raw", "--", "true"], "--format raw needs -o FILE"),
        (["-s", "x", "--", "true"], "-s takes a number"),
        (["report", "/nowhere"], "No such file or directory"),
        (["report", "/etc/passwd"], "was not recorded by `trapline trace`"),
        (["-o", "/nowhere/x", "--", "true"], "cannot write '/nowhere/x'"),
    ],
)
def test_what_cannot_be_done_is_said(cli, words, why):
    done = cli("trace", *words)
    assert done.returncode == 125
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
