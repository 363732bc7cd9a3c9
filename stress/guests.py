"""Run guests many times on every engine: programs beside native, and one guest after another in one process.

::

    python stress/guests.py [--engine ENGINE]... [--runs TIMES] [--lives TIMES]

Prints every difference, and what a thousand guests leave behind of memory, descriptors, threads and mappings.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from trapline.guest import Guest
from trapline.guest.engines import ENGINES

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from conftest import Victims  # noqa: E402

VICTIMS = ("memory", "sixteen", "mappers", "handlers", "timers", "channels", "stacks", "interrupts")
SQL = (
    "create table t(a integer primary key, b text);"
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)"
    " insert into t select i, hex(i * i) from n; select count(*), sum(length(b)), max(b) from t;"
)
Outcome = tuple[object, bytes, bytes]


def commands(folder: Path) -> list[list[str]]:
    """Return what is run: what is not installed is left out."""
    victims = Victims(folder)
    found = [[victims(f"guest/{name}", "static"), str(folder)] for name in VICTIMS]
    for words in (["busybox", "sha256sum", "/bin/ls"], ["sqlite3", ":memory:", SQL], ["ls", "-la", "/etc"]):
        path = shutil.which(words[0])
        if path is not None:
            found.append([path, *words[1:]])
    if shutil.which("go") is not None:
        source = ROOT / "tests" / "victims" / "guest" / "goroutines.go"
        subprocess.run(["go", "build", "-o", folder / "goroutines", source], check=True,
                       env={**os.environ, "CGO_ENABLED": "0"})  # fmt: skip
        found.append([str(folder / "goroutines")])
    return found


def outcome(command: list[str]) -> Outcome:
    """Return all that can be seen of a run."""
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        return ("hangs", error.stdout or b"", error.stderr or b"")
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return (status, done.stdout, done.stderr)


def compare(engine: str, command: list[str], times: int) -> int:
    """Run a program so many times, say what differed from native, and return how often."""
    trapline = str(Path(sys.executable).parent / "trapline")
    native, bad, began = outcome(command), 0, time.monotonic()
    for number in range(times):
        got = outcome([trapline, "guest", "--engine", engine, "--", *command])
        if got != native:
            bad += 1
            print(f"{engine} {command[0]} run {number}:\n  native {native!r}\n  guest  {got!r}")
    seconds = time.monotonic() - began
    print(
        f"{engine:18} {os.path.basename(command[0]):24} {times} runs, {bad} different, {seconds:.1f} s",
        flush=True,
    )
    return bad


def state() -> tuple[int, int, int, int]:
    """Return descriptors, threads, lines of the memory map, and KiB of memory."""
    gc.collect()
    while len(os.listdir("/proc/self/task")) > threading.active_count():
        time.sleep(0.001)  # the kernel may still have threads that Python has joined
    with open("/proc/self/maps") as file:
        lines = len(file.readlines())
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), lines, pages * 4


def live(engine: str, program: list[str], times: int) -> int:
    """Run one guest after another in this process, and say what they leave; 1 if it is too much."""

    def one() -> None:
        with Guest(engine=engine) as guest:
            guest.load(program[0], program)
            assert guest.run() == 0

    for _ in range(20):
        one()
    before, began = state(), time.monotonic()
    for _ in range(times):
        one()
    seconds = time.monotonic() - began
    after = state()
    names = ("descriptors", "threads", "mappings", "KiB")
    text = ", ".join(f"{name} {a} to {b}" for name, a, b in zip(names, before, after, strict=True))
    print(
        f"{engine:18} {times} guests of {program[0]}, {seconds / times * 1e3:.1f} ms each: {text}", flush=True
    )
    return int(after[:2] != before[:2] or after[2] > before[2] + 20 or after[3] > before[3] + 8192)


def main() -> int:
    """Run and report; the exit status is 1 if anything differed or was left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be repeated; default: all")
    parser.add_argument("--runs", type=int, default=50, help="of each program")
    parser.add_argument("--lives", type=int, default=1000, help="guests one after another")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        programs = commands(Path(name))
        for engine in options.engine or ENGINES:
            if options.runs:
                bad += sum(compare(engine, command, options.runs) for command in programs)
            busybox = shutil.which("busybox")
            if options.lives and busybox is not None:
                bad += live(engine, [busybox, "true"], options.lives)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
