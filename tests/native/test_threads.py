"""The core's threads, seen by ThreadSanitizer."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent.parent / "native" / "core"


@pytest.mark.parametrize("kind", ["dynamic", "tsan"])
def test_the_listener_answers_every_call_once_and_without_a_data_race(victim, kind):
    names = ("error", "listener", "notif", "receiver", "task", "stop_signal")
    machine = CORE / platform.machine()
    sources = (*[CORE / f"{name}.c" for name in names], machine / "wait_unless.S")
    program = victim("listener_threads", kind, sources, f"-I{CORE}", f"-I{machine}", "-D_GNU_SOURCE")
    # Without address space layout randomisation: the sanitizer needs its place.
    command = ["setarch", "-R", program, "8", "150"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "TSAN_OPTIONS": "exitcode=66"},
    )
    assert "ThreadSanitizer" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (0, "good\n"), done
