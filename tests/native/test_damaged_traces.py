"""Recorded files that are damaged, seen by AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trapline.trace.plans import plan
from trapline.trace.select import Selection

NATIVE = Path(__file__).parent.parent.parent / "native"
HEADER, CALLS = 24, 1024


def test_no_damage_has_the_reader_look_beyond_what_is_there(trapline, victim, tmp_path):
    sources = [
        NATIVE / "core" / f"{name}.c"
        for name in ("trace_reader", "trace_clock", "trace_text", "trace_call", "text_buffer")
    ]
    flags = (f"-I{NATIVE / 'core'}", f"-I{NATIVE / 'agent'}", "-D_GNU_SOURCE", "-lm")
    program = victim("damaged_trace", "sanitized", tuple(sources), *flags)
    command = [
        trapline,
        "trace",
        "--format",
        "raw",
        "-o",
        tmp_path / "record",
        "--",
        "sh",
        "-c",
        "ls -l / | sort",
    ]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (tmp_path / "chunks").write_bytes((tmp_path / "record").read_bytes()[HEADER:])
    known = [plan(nr, Selection().names, Selection().status) for nr in range(CALLS)]
    size = max(map(len, known))
    (tmp_path / "plans").write_bytes(b"".join(one.ljust(size, b"\0") for one in known))
    command = [program, tmp_path / "chunks", tmp_path / "plans", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "good\n", "")
