"""Flag values that the syscall tables refer to by name."""

from __future__ import annotations

from pathlib import Path

from tables import rows


def values(arch: str, data: Path) -> dict[str, int]:
    """Map every constant's name to its value on *arch*."""
    result = {}
    for row in rows("constants", data):
        text = row[arch]
        if text not in ("=", "-"):
            result[row["name"]] = int(text, 0)
        elif text == "=":
            result[row["name"]] = int(row["x86_64"], 0)
    return result
