"""The core's threads, seen by ThreadSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent.parent / "native" / "core"


@pytest.mark.parametrize("kind", ["dynamic", "tsan"])
def test_the_listener_answers_every_call_once_and_without_a_data_race(victim, kind):
    sources = tuple([CORE / f"{name}.c" for name in ("error", "listener", "notif", "receiver", "task", "stop_signal")])
    program = victim("listener_threads", kind, sources, f"-I{CORE}", "-D_GNU_SOURCE")
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
