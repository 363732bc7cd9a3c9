"""``trapline trace -p`` of processes that run already, one or several into one record."""

from __future__ import annotations

import io
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from traced_lines import by_thread

from trapline import features
from trapline.engines.base import STARTABLE
from trapline.engines.choose import _NEEDS as REQUIRED
from trapline.trace.file import CALL, TraceFile, read

ATTACHING = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            not all(features.probe(one) for one in REQUIRED[name]), reason=f"{name} does not work here"
        ),
    )
    for name in ("rewrite", "sud", "ptrace")
    if name in STARTABLE
]
#: Sets each mask that it is told, and ends with the line that has none.
LOOP = "import os, sys\nfor line in sys.stdin: os.umask(int(line)); print('done', flush=True)\nsys.exit(7)\n"
CLOCK, RECORDS, PART = 2, 1, 9


class Target:
    """A process that makes a call when it is told to."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid
        self.ask(0o22)

    def ask(self, mask):
        self.process.stdin.write(f"{mask}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 7
        self.process.stdout.close()

    def is_left_alone(self):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return "TracerPid:\t0" in text and "trapline" not in Path(f"/proc/{self.pid}/maps").read_text()


@pytest.fixture
def targets():
    made = [Target() for _ in range(3)]
    yield made
    for target in made:
        if target.process.poll() is None:
            target.end()


class Tracer:
    """``trapline trace -p`` of some processes, which have hold of all of them."""

    def __init__(self, trapline, path, *words, engine="auto", traced=(), options=()):
        self.path = path
        # A shell may have left SIGINT ignored.
        command = [
            "env",
            "--default-signal=INT",
            trapline,
            "trace",
            "-o",
            str(path),
            "--engine",
            engine,
            *options,
        ]
        self.process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
        for number, target in enumerate(traced):
            while f"umask(0{number + 1:o}11)" not in self.text():
                target.ask(int(f"{number + 1:o}11", 8))

    def text(self):
        return self.path.read_text() if self.path.exists() else ""

    def wait_for(self, line):
        while line not in self.text():
            assert self.process.poll() is None

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def words_for(how, targets):
    pids = [str(target.pid) for target in targets]
    return {
        "options": [word for pid in pids for word in ("-p", pid)],
        "commas": ["-p", ",".join(pids)],
        "blanks": [f"-p{' '.join(pids)}"],
        "lines": ["-p", "\n".join(pids) + "\n"],
    }[how]


@pytest.mark.parametrize("how", ["options", "commas", "blanks", "lines"])
def test_processes_are_named_as_strace_has_them(trapline, targets, tmp_path, how):
    tracer = Tracer(trapline, tmp_path / "out", *words_for(how, targets), traced=targets)
    for target in targets:
        target.end()
    assert tracer.end() == (0, "")
    threads = by_thread(tracer.text())
    assert len(threads) == 3
    assert all(lines[-1] == "+++ exited with 7 +++" for lines in threads)


@pytest.mark.parametrize("attaching", ATTACHING)
def test_what_one_after_the_other_does_is_shown_in_this_order(trapline, targets, tmp_path, attaching):
    tracer = Tracer(
        trapline, tmp_path / "out", *words_for("commas", targets), engine=attaching, traced=targets
    )
    masks = range(0o400, 0o477)
    for mask in masks:
        targets[mask % 3].ask(mask)
    for target in targets:
        target.end()
    assert tracer.end() == (0, "")
    found = [int(word, 8) for word in re.findall(r"umask\(0(4\d\d)\)", tracer.text())]
    assert found == list(masks)


@pytest.mark.parametrize("attaching", ATTACHING)
def test_what_has_been_done_is_shown_at_once(trapline, targets, tmp_path, attaching):
    tracer = Tracer(
        trapline, tmp_path / "out", *words_for("commas", targets), engine=attaching, traced=targets
    )
    targets[1].ask(0o123)
    if attaching == "ptrace":
        targets[1].ask(0o124)  # the tracer says that nothing is missing when there is more
    else:
        tracer.wait_for("umask(0123)")
    assert tracer.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("attaching", ATTACHING)
def test_one_that_ends_does_not_end_the_trace_of_the_others(trapline, targets, tmp_path, attaching):
    tracer = Tracer(
        trapline, tmp_path / "out", *words_for("options", targets), engine=attaching, traced=targets
    )
    first, *others = targets
    first.end()
    for target in others:
        target.ask(0o145)
        target.end()
    assert tracer.end() == (0, "")
    assert tracer.text().count("umask(0145)") == 2
    assert tracer.text().count("+++ exited with 7 +++") == 3


@pytest.mark.parametrize("attaching", ATTACHING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_go_of_all(trapline, targets, tmp_path, attaching, number):
    tracer = Tracer(
        trapline, tmp_path / "out", *words_for("commas", targets), engine=attaching, traced=targets
    )
    status, said = tracer.end(number)
    assert status == 0
    assert said == f"trapline: let go of processes {', '.join(str(target.pid) for target in targets)}\n"
    assert all(target.is_left_alone() for target in targets)
    for target in targets:
        target.ask(0o146)
    assert "0146" not in tracer.text()
    # They live on, so nothing is said of how they have ended.
    assert "+++" not in tracer.text()


def test_of_one_process_nothing_is_said_of_its_end_when_it_lives_on(trapline, targets, tmp_path):
    tracer = Tracer(trapline, tmp_path / "out", "-p", str(targets[0].pid), traced=targets[:1])
    assert tracer.end(signal.SIGTERM) == (0, f"trapline: let go of process {targets[0].pid}\n")
    assert "+++" not in tracer.text()
    assert targets[0].is_left_alone()


def gone():
    with subprocess.Popen(["true"]) as process:
        process.wait()
        return process.pid


def test_one_that_is_gone_is_reported_and_the_others_are_traced(trapline, targets, tmp_path):
    words = ["-p", str(gone()), *words_for("commas", targets), f"-p{gone()}"]
    tracer = Tracer(trapline, tmp_path / "out", *words, traced=targets)
    for target in targets:
        target.end()
    status, said = tracer.end()
    assert status == 0
    first, second = said.splitlines()
    assert re.fullmatch(r"trapline: engine '\w+' cannot attach to process \d+: .*: it is gone", first)
    assert re.fullmatch(
        r"trapline: engine '\w+' cannot attach to process \d+: .*: it is gone; the others are traced", second
    )
    assert tracer.text().count("+++ exited with 7 +++") == 3


def test_when_all_are_gone_that_is_a_failure(cli):
    done = cli("trace", "-p", f"{gone()},{gone()}")
    assert done.returncode == 125
    assert done.stderr.count("it is gone\n") == 2
    assert done.stderr.count("\n") == 2


def test_a_record_of_several_can_be_reported_later(trapline, cli, targets, tmp_path):
    path = tmp_path / "record"
    command = [trapline, "trace", "--format", "raw", "-o", str(path), *words_for("commas", targets)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        pids = {target.pid for target in targets}
        while (
            not path.exists() or path.stat().st_size < 24 or pids - {event.pid for event in read(str(path))}
        ):
            for target in targets:
                target.ask(0o22)
        for target in targets:
            target.ask(0o147)
            target.end()
        assert tracer.wait(60) == 0
        assert tracer.stderr.read() == b""
    events = list(read(str(path)))
    assert [event.end for event in events] == sorted(event.end for event in events)
    assert (
        sum(event.kind == CALL and event.name == "umask" and event.args[0] == 0o147 for event in events) == 3
    )
    assert cli("trace", "report", str(path)).stderr.count("+++ exited with 7 +++") == 3


def chunk(kind, pid, tid, data=b""):
    return struct.pack("<IIii", kind, len(data), pid, tid) + data


def clock(part, ticks, *, all_there=False):
    return chunk(CLOCK, part, int(all_there), struct.pack("<Qq", ticks, 10**18 + ticks))


def getpid(tid, end):
    return chunk(RECORDS, tid, tid, struct.pack("<HBBiQQq", 32, 0, 0, 39, end, end, tid))


def test_calls_are_held_back_until_every_part_has_told_the_time():
    grown = io.BytesIO(struct.pack("<8sIIII", b"tltrace\n", 2, 24, 0xC000003E, 32))
    grown.read()
    trace = None

    def seen(*chunks):
        nonlocal trace
        place = grown.tell() if trace else 0
        grown.seek(0, io.SEEK_END)
        grown.write(b"".join(chunks))
        grown.seek(place)
        trace = trace or TraceFile(grown)
        return [event.tid for event in trace.events(final=False)]

    assert seen(clock(1, 0), clock(2, 0), clock(1, 1000), getpid(11, 900)) == []
    assert seen(clock(1, 2000, all_there=True)) == []  # what part 2 had done before is not known
    assert seen(clock(2, 850, all_there=True)) == []
    assert seen(clock(2, 1500), getpid(22, 860)) == []  # it has only begun to look
    assert seen(clock(2, 1900, all_there=True)) == [22, 11]
    assert seen(getpid(11, 2500), clock(1, 3000, all_there=True)) == []
    assert seen(chunk(PART, 2, 0)) == [11]  # no more of it will come
