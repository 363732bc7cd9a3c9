"""Run real programs many times natively and under hooks that never match, and print every difference.

::

    python stress/identity.py [--engine ENGINE]... [TIMES] [NAME...]

Without ``--engine`` all engines that can be started are tried.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trapline.engines.base import STARTABLE

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "programs"), str(ROOT / "tests")]

from catalog import Catalog, environment  # noqa: E402

from conftest import Victims  # noqa: E402

HOOKS = (
    "from trapline import arg, on\n\n\n"
    '@on("personality", "ustat", "sysfs", when=arg(0) == 0x7177)\n'
    "def never(call):\n"
    '    raise AssertionError("no program calls this")\n'
)


def outcome(command: list[str], env: dict[str, str]) -> tuple[object, ...]:
    """Return all that can be seen of a run."""
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=120, check=False
        )
    except subprocess.TimeoutExpired as error:
        return ("hangs", error.stdout, error.stderr)
    return (done.returncode, done.stdout, done.stderr)


def compare(catalog: Catalog, program: str, prefix: list[str], engine: str, times: int) -> int:
    """Run a program so many times, say what differed, and return how often."""
    try:
        command, prepare = catalog.make(program)
    except FileNotFoundError as error:
        print(f"{engine:8} {program:16} skipped: {error}")
        return 0
    env = {} if program == "no_environment" else environment()
    prepare = prepare or (lambda: None)
    prepare()
    outcome(command, env)
    prepare()
    native = outcome(command, env)
    began, bad, unsteady = time.monotonic(), 0, 0
    for number in range(times):
        prepare()
        hooked = outcome([*prefix, *command], env)
        if hooked != native:
            prepare()
            if outcome(command, env) != native:
                unsteady += 1
            bad += 1
            print(f"{engine} {program} run {number}:\n  native {native!r}\n  hooked {hooked!r}")
    seconds = time.monotonic() - began
    print(
        f"{engine:8} {program:16} {times} runs, {bad} different ({unsteady} natively too), {seconds:.1f} s",
        flush=True,
    )
    return bad


def main() -> int:
    """Run and report; the exit status is 1 if anything differed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", action="append", choices=STARTABLE, help="may be repeated; default: all")
    parser.add_argument("times", nargs="?", type=int, default=50)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hooks = folder / "never.py"
        hooks.write_text(HOOKS)
        trapline = str(Path(sys.executable).parent / "trapline")
        catalog = Catalog(folder, Victims(folder))
        for engine in options.engine or STARTABLE:
            prefix = [trapline, "run", "--engine", engine, "-s", str(hooks), "--"]
            for program in options.names or catalog.names():
                different += compare(catalog, program, prefix, engine, options.times)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
