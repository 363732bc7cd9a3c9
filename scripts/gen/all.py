"""Write everything that is generated from data/*.tsv, or compare it with what is committed.

``python scripts/gen/all.py`` writes; ``--check`` writes nothing and fails with a diff when a file differs.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import captures
import constants
import structs
import syscalls
from tables import ROOT, DataError

GENERATORS = (syscalls, constants, structs, captures)


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed files, write nothing"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to read data/ from and to write to")
    args = parser.parse_args()

    files: dict[str, str] = {}
    try:
        for generator in GENERATORS:
            files |= generator.generate(args.root / "data")
    except DataError as error:
        print(f"data/: {error}", file=sys.stderr)
        return 1

    stale = []
    for name, text in sorted(files.items()):
        path = args.root / name
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        stale.append(name)
        if args.check:
            diff = difflib.unified_diff(
                old.splitlines(True), text.splitlines(True), name, f"{name} (generated)", n=1
            )
            sys.stdout.writelines(list(diff)[:60])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {name}")
    if args.check and stale:
        print(f"{len(stale)} of {len(files)} generated files differ: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
