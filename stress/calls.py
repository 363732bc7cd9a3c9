"""64 threads x 10,000 hooked calls under 1 kHz of signals and between forks: none lost, doubled or stuck; memory flat.

::

    python stress/calls.py [--engine ENGINE]... [THREADS] [CALLS] [ROUNDS]

Without ``--engine`` all engines that can be started are tried.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import trapline
from trapline.engines.base import STARTABLE

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from conftest import Victims  # noqa: E402


def resident() -> int:
    """Return this process's resident memory in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def call_often(victim: str, engine: str, threads: int, calls: int, mode: str) -> bool:
    """Run it once, say what came of it, and return whether that is right."""
    count = 0

    @trapline.on("getpriority")
    def hook(call: trapline.Call) -> object:
        nonlocal count
        count += 1
        return call.reply(call.args.who + 1)

    before, began = resident(), time.monotonic()
    command = [victim, str(threads), str(calls), "1000", "1000", mode]
    done = trapline.run(command, hooks=[hook], engine=engine, capture_output=True, text=True, timeout=1800)
    good, interrupted, wrong, signals = map(int, done.stdout.split())
    expected = threads * calls + threads * (calls // 1000) * 10
    right = done.returncode == 0 and good == count == expected and not wrong
    seconds = time.monotonic() - began
    print(
        f"{engine} {mode}: {'good' if right else 'WRONG'}; {good} answered of {expected}, hook ran {count} "
        f"times, {wrong} wrong, {interrupted} interrupted before receipt, {signals} signals, "
        f"{seconds:.1f} s, {seconds / expected * 1e6:.1f} us a call, "
        f"memory {before} KiB before and {resident()} KiB after",
        flush=True,
    )
    return right


def main() -> int:
    """Run and report; the exit status is 1 if a call was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", action="append", choices=STARTABLE, help="may be repeated; default: all")
    parser.add_argument("threads", nargs="?", type=int, default=64)
    parser.add_argument("calls", nargs="?", type=int, default=10000)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        victim = Victims(Path(folder))("stress")
        for engine in options.engine or STARTABLE:
            for _ in range(options.rounds):
                for mode in ("restart", "interrupt"):
                    bad += not call_often(victim, engine, options.threads, options.calls, mode)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
