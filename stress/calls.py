"""64 threads x 10,000 hooked calls under 1 kHz of signals and between forks: none lost, doubled or stuck; memory flat.

::

    python stress/calls.py [THREADS] [CALLS] [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import trapline

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from conftest import Victims  # noqa: E402


def resident() -> int:
    """Return this process's resident memory in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def main() -> int:
    """Run and report; the exit status is 1 if a call was lost, doubled or wrong."""
    threads, calls, rounds = [
        int(word) for word in (*sys.argv[1:], *("64", "10000", "3")[len(sys.argv) - 1 :])
    ]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        victim = Victims(Path(folder))("stress")
        for number in range(rounds):
            for mode in ("restart", "interrupt"):
                count = 0

                @trapline.on("getpriority")
                def hook(call: trapline.Call) -> object:
                    nonlocal count
                    count += 1
                    return call.reply(call.args.who + 1)

                before, began = resident(), time.monotonic()
                command = [victim, str(threads), str(calls), "1000", "1000", mode]
                done = trapline.run(command, hooks=[hook], capture_output=True, text=True, timeout=1800)
                good, interrupted, wrong, signals = map(int, done.stdout.split())
                expected = threads * calls + threads * (calls // 1000) * 10
                right = done.returncode == 0 and good == count == expected and not wrong
                bad += not right
                seconds = time.monotonic() - began
                print(
                    f"round {number} {mode}: {'good' if right else 'WRONG'}; {good} answered of {expected}, "
                    f"hook ran {count} "
                    f"times, {wrong} wrong, {interrupted} interrupted before receipt, {signals} signals, "
                    f"{seconds:.1f} s, {seconds / expected * 1e6:.1f} us a call, "
                    f"memory {before} KiB before and {resident()} KiB after",
                    flush=True,
                )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
