"""The sweep finds the faults that a program does not survive, and only these."""

from __future__ import annotations

import os

import pytest

from trapline.inject.sweep import Outcome, sweep, verdict


def test_crashes_hangs_and_lost_output_are_found(cli, victim):
    program = victim("fragile")
    done = cli("sweep", "--timeout", "4", "-e", "openat,access,write,fstat", "--", program)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    found = {line.split(":")[0]: line.split(": ", 1)[1] for line in lines[:-1:2]}
    assert found == {
        "openat (/etc/hostname) EACCES": "ended by SIGSEGV",
        "openat (/etc/hostname) EMFILE": "ended by SIGSEGV",
        "openat (/etc/hostname) EIO": "ended by SIGSEGV",
        "access (/etc/passwd) EACCES": "hangs",
        "write (descriptor 1) short": "says that all is well, with other output",
    }
    assert lines[1].startswith("    trapline inject -q -e openat:error=EACCES:when=")


def test_what_it_prints_does_it_again(cli, victim):
    program = victim("fragile")
    found, tried = sweep([program], names=("openat",), timeout=10)
    assert len(found) == 3
    assert tried == 3
    again = cli(*found[0].command.split()[1:])
    assert again.returncode == 139


def test_a_sound_program_survives_everything(cli):
    done = cli("sweep", "-e", "openat,read,write,close", "--", "sort", "/etc/passwd")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("survived\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--", "/nowhere/at/all"], "the command cannot be traced: "),
        (["--timeout", "0.5", "--", "sleep", "100"], "does not end in time"),
        (["-e", "fsync", "--", "true"], "meets none of these faults"),
        (["--error", "EXDEV", "--", "true"], "meets none of these faults"),
        (
            ["--engine", "notify", "--", "true"],
            "'notify' cannot tell what a call returns, which decides what is tried",
        ),
    ],
)
def test_nothing_is_survived_by_what_was_not_tried(cli, words, why):
    done = cli("sweep", *words)
    assert (done.returncode, done.stdout) == (125, "")
    assert why in done.stderr


def test_a_program_is_found_by_its_relative_name(victim, monkeypatch):
    program = victim("fragile")
    monkeypatch.chdir(os.path.dirname(program))
    found, tried = sweep([f"./{os.path.basename(program)}"], names=("openat",))
    assert (len(found), tried) == (3, 3)


MEETING = """
import fcntl, os, sys
def tried(make, *arguments):
    try:
        make(*arguments)
    except OSError:
        return False
    return True
tried(os.memfd_create, "name")
tried(fcntl.flock, 1, fcntl.LOCK_SH)
os.chdir(sys.argv[1])
if not tried(os.mkdir, "traced"):
    with open("meeting", "r" if tried(os.mkdir, "first") else "w") as other:
        other.fileno()
"""


def test_several_runs_go_on_at_one_time(tmp_path):
    # Of the two runs with a fault the first waits for the second.
    os.mkfifo(tmp_path / "meeting")
    command = ["/usr/bin/python3", "-Sc", MEETING, str(tmp_path)]
    found, tried = sweep(command, names=("memfd_create", "flock"), jobs=2)
    assert (tmp_path / "first").is_dir()
    assert [finding.why for finding in found] == []
    assert tried == 2


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(0, b"out", b""), ""),
        (Outcome(1, b"", b"tool: disk full\n"), ""),
        (Outcome(0, b"other", b""), "says that all is well, with other output"),
        (Outcome(None, b"", b""), "hangs"),
        (Outcome(139, b"", b""), "ended by SIGSEGV"),
        (Outcome(1, b"", b"Traceback (most recent call last):\nOSError: no\n"), "unhandled: OSError: no"),
        (Outcome(101, b"", b"thread 'main' panicked at x.rs:1:1:\nno\n"), "unhandled: no"),
    ],
)
def test_what_counts_as_not_surviving(outcome, why):
    assert verdict(outcome, Outcome(0, b"out", b"")) == why
