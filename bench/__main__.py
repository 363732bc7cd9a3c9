"""``python -m bench``: see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import filters, guests, hooking, inprocess, peers, sites, startup, tracing, unmatched, whole
from bench.engine_commands import startable
from bench.measure import Group, measure
from bench.programs import Programs


def main() -> int:
    """Measure what the command line names and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure trapline beside plain C and beside its peers. Each round measures every contender once; "
        "a ratio is the median over the rounds of its cost over the first one's in the same round, [quartiles] beside.",
        epilog=peers.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every single cost there too")
    parser.add_argument("--rounds", metavar="N", type=int, default=31, help="default %(default)s")
    parser.add_argument(
        "--pin", metavar="CPU", type=int, help="keep everything on one CPU; for comparison only"
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="groups to measure, or beginnings of their names (trace, unmatched); all of them by default",
    )
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.pin is not None:
        os.sched_setaffinity(0, {args.pin})
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as folder:
        programs = Programs(Path(folder))
        engines = startable()
        others = peers.find(programs)
        groups = [
            group
            for module in (hooking, unmatched, startup, filters, guests, tracing)
            for group in module.groups(programs)
        ]
        groups += [
            group for module in (inprocess, whole) for group in module.groups(programs, engines, others)
        ]
        return _run(parser, args, groups, engines)


def _is_named(group: str, names: list[str]) -> bool:
    return not names or any(group == name or group.startswith(f"{name}-") for name in names)


def _run(
    parser: argparse.ArgumentParser, args: argparse.Namespace, groups: list[Group], engines: list[str]
) -> int:
    known = [group.name for group in groups] + ["sites"]
    for name in args.names:
        if not any(_is_named(group, [name]) for group in known):
            parser.error(f"no group {name!r}; there are {', '.join(known)}")
    found: dict[str, Any] = {}
    for group in groups:
        if _is_named(group.name, args.names):
            measured = measure(group, args.rounds)
            sys.stdout.write(str(measured))
            sys.stdout.flush()
            found[group.name] = measured.as_dict()
    if "rewrite" in engines and _is_named("sites", args.names):
        report = sites.report()
        sys.stdout.write(sites.table(report))
        found["sites"] = report
    if args.json:
        args.json.write_text(json.dumps({"rounds": args.rounds, "groups": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
