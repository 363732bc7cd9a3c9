"""The same hooks written for sandlock. usage: peer_sandlock.py getppid|openat COMMAND [ARG...]."""

from __future__ import annotations

import os
import sys

from sandlock import Handler, NotifAction, Sandbox  # type: ignore[import-untyped]

_GETPPID = {"x86_64": 110, "aarch64": 173}


class Orphan(Handler):  # type: ignore[misc]
    """Answers with 1."""

    def handle(self, ctx: object) -> object:
        return NotifAction.returns(1)


class Hide(Handler):  # type: ignore[misc]
    """Reads the path and lets the kernel go on."""

    def handle(self, ctx: object) -> object:
        if ctx.read_path() == "/nowhere":  # type: ignore[attr-defined]
            return NotifAction.errno(2)
        return NotifAction.continue_()


def main() -> int:
    kind, *command = sys.argv[1:]
    handler = (_GETPPID[os.uname().machine], Orphan()) if kind == "getppid" else ("openat", Hide())
    result = Sandbox(fs_readable=["/"], fs_writable=["/dev"]).run_with_handlers(command, [handler])
    sys.stdout.write(result.stdout.decode())
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main())
