"""How many `syscall` instructions of real programs `rewrite` meets, patches and leaves alone."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import trapline

PROGRAMS = {
    "true": ("/bin/true",),
    "ls": ("ls", "-lR", "/etc"),
    "sh": ("sh", "-c", "for i in 1 2 3; do /bin/true; done"),
    "busybox, static": ("busybox", "find", "/etc"),
    "git": ("git", "--version"),
    "gcc": ("gcc", "--version"),
    "python3": (sys.executable, "-c", "import json, subprocess; subprocess.run(['true'])"),
    "node": ("node", "-e", "require('fs').readdirSync('/')"),
    "go": ("go", "version"),
    "redis-server": ("redis-server", "--version"),
}


def report() -> dict[str, Any]:
    """Return for each program here what ``stats.sites`` says of it."""
    found: dict[str, Any] = {}
    for name, command in PROGRAMS.items():
        if shutil.which(command[0]) is None:
            sys.stderr.write(f"bench: {command[0]} is not installed, so sites leaves it out\n")
            continue
        done = trapline.run(command, engine="rewrite", capture_output=True)
        found[name] = getattr(done.stats, "sites", None) if done.returncode == 0 else None
    return found


def table(found: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = ["sites: `syscall` instructions that were met, patched, and left alone, by program"]
    for name, sites in found.items():
        if sites is None:
            lines.append(f"  {name:44s} no report")
            continue
        left = ", ".join(f"{count} {reason}" for reason, count in sites["left"].items())
        lines.append(f"  {name:44s} {sites['seen']:5d} met {sites['patched']:5d} patched  {left}".rstrip())
    return "\n".join(lines) + "\n"
