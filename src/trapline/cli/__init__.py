"""The command line: one file per subcommand, each imported only when it is asked for."""

from __future__ import annotations


def main() -> int:
    """Run the subcommand that ``sys.argv`` names and return its exit status."""
    raise SystemExit("trapline: no subcommand yet")
