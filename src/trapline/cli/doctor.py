"""``trapline doctor``: what works on this machine, what does not, and the exact remedy."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPILOG = """\
Each feature is tried in a process of its own; nothing is read off a version. No privilege is needed, and
what a filter, container or security module refuses is reported as missing, with the remedy. Where the audit
log is on, trying what filters can kill leaves a few SECCOMP lines in it.

exit status:
  0  the default engine works here
  1  it does not

examples:
  trapline doctor
  trapline doctor --json | jq -r '.features[] | select(.state == "missing") | .name + ": " + .remedy'
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``doctor`` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="what works on this machine, what does not, and the exact remedy",
        description="Try each kernel feature that trapline uses; say what works, what for, how to get more.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="give each attempt this long before it counts as hanging (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report and return 0 when the default engine works, else 1."""
    from trapline import doctor
    from trapline.errors import UsageError

    if not 0.001 <= args.timeout <= 3600:
        raise UsageError("--timeout must be between 0.001 and 3600 seconds: give for example --timeout 10")
    examination = doctor.examine(timeout_ms=int(args.timeout * 1000))
    if args.json:
        import json

        print(json.dumps(doctor.as_json(examination), indent=2))
    else:
        from trapline.doctor import text

        print(text.render(examination), end="")
    return 0 if examination.ok else 1
