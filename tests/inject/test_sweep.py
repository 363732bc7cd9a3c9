"""The sweep finds the faults that a program does not survive, and only these."""

from __future__ import annotations

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


def test_a_command_that_cannot_run_is_said(cli):
    done = cli("sweep", "--", "/nowhere/at/all")
    assert done.returncode in (0, 125, 127)


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
