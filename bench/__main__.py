"""``python -m bench``: see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench import filters, hooking, startup, unmatched
from bench.measure import Group, measure, table
from bench.programs import Programs


def main() -> int:
    """Measure what the command line names and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure trapline beside plain C and beside its peers. Each round measures every contender once; "
        "a ratio is the median over the rounds of its cost over the first one's in the same round, [quartiles] beside.",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every single cost there too")
    parser.add_argument("--rounds", metavar="N", type=int, default=31, help="default %(default)s")
    parser.add_argument(
        "--pin", metavar="CPU", type=int, help="keep everything on one CPU; for comparison only"
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="groups to measure; all of them by default")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.pin is not None:
        os.sched_setaffinity(0, {args.pin})
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as folder:
        programs = Programs(Path(folder))
        groups = [
            group for module in (hooking, unmatched, startup, filters) for group in module.groups(programs)
        ]
        return _run(parser, args, groups)


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace, groups: list[Group]) -> int:
    known = [group.name for group in groups]
    for name in args.names:
        if name not in known:
            parser.error(f"no group {name!r}; there are {', '.join(known)}")
    found = {}
    for group in groups:
        if not args.names or group.name in args.names:
            rows = measure(group, args.rounds)
            sys.stdout.write(table(group, rows))
            sys.stdout.flush()
            found[group.name] = {
                "title": group.title,
                "unit": group.unit,
                "rows": [row.as_dict() for row in rows],
            }
    if args.json:
        args.json.write_text(json.dumps({"rounds": args.rounds, "groups": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
