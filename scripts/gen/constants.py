"""Write abi/errno.py, abi/signals.py and abi/families.py."""

from __future__ import annotations

from pathlib import Path

from tables import ARCHES, ROOT, DataError, heading, rows

ERRNO = '''"""Error numbers, the same on every architecture here."""

from __future__ import annotations

from enum import IntEnum


class Errno(IntEnum):
    """An error number as the kernel returns it, negated: ``Errno.ENOENT == 2``.

    ``str()`` and f-strings give the name. Aliases (``EWOULDBLOCK``, ``ENOTSUP``) are the same member as
    the name that comes first.
    """

%s
    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)

    @property
    def message(self) -> str:
        """What the C library says of it: ``"No such file or directory"``."""
        import os

        return os.strerror(self)
'''

SIGNALS = '''"""Signal numbers, the same on every architecture here."""

from __future__ import annotations

from enum import IntEnum


class Signal(IntEnum):
    """A signal number: ``Signal.SIGKILL == 9``.

    ``str()`` and f-strings give the name. Real-time signals between the two ends are ``SIGRT_1`` to
    ``SIGRT_31``, counted from the kernel's SIGRTMIN, 32; the C library keeps the first few for itself.
    """

%s
    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)

    @classmethod
    def _missing_(cls, value: object) -> Signal | None:
        if not isinstance(value, int) or not cls.SIGRTMIN < value < cls.SIGRTMAX:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"SIGRT_{value - cls.SIGRTMIN}"
        member._value_ = value
        return member
'''


def read(data: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Map architecture, family and constant to the value as it is written in the table."""
    result: dict[str, dict[str, dict[str, str]]] = {arch: {} for arch in ARCHES}
    for row in rows("constants", data):
        for arch in ARCHES:
            text = row["x86_64"] if row[arch] == "=" else row[arch]
            if text != "-":
                result[arch].setdefault(row["family"], {})[row["name"]] = text
    return result


def values(arch: str, data: Path) -> dict[str, int]:
    """Map every constant's name to its value on *arch*."""
    result: dict[str, int] = {}
    for family, constants in read(data)[arch].items():
        for name, text in constants.items():
            value = int(text, 0)
            if result.setdefault(name, value) != value:
                raise DataError(f"{name} is {value:#x} in family {family} and {result[name]:#x} in another")
    return result


def enumeration(template: str, constants: dict[str, str]) -> str:
    """Write one of the two enumerations."""
    body = "".join(f"    {name} = {text}\n" for name, text in constants.items())
    return heading("constants.py", "constants") + template % body


def generate(data: Path = ROOT / "data") -> dict[str, str]:
    """Return the files to write, by their path below the root."""
    tables = read(data)
    kinds = {row["family"]: (row["kind"], row["mask"]) for row in rows("families", data)}
    lines = [
        heading("constants.py", "constants"),
        "# ruff: noqa: E501\n# fmt: off\n",
        '"""Families of constants, as flags.py reads them: kind, value_mask, names and values."""\n\n',
    ]
    for arch in ARCHES:
        comment = "" if arch == "x86_64" else "  # only families that differ from x86_64"
        lines.append(f"{arch.upper()}: dict[str, str] = {{{comment}\n")
        for family in sorted(kinds):
            constants = tables[arch].get(family, {})
            if arch != "x86_64" and constants == tables["x86_64"].get(family, {}):
                continue
            kind, mask = kinds[family]
            words = " ".join(f"{name}={text}" for name, text in constants.items())
            lines.append(f'    "{family}": "{kind} {int(mask, 0) if mask != "-" else 0:#x} {words}",\n')
        lines.append("}\n\n")
    return {
        "src/trapline/abi/errno.py": enumeration(ERRNO, tables["x86_64"]["errno"]),
        "src/trapline/abi/signals.py": enumeration(SIGNALS, tables["x86_64"]["signal"]),
        "src/trapline/abi/families.py": "".join(lines).rstrip("\n") + "\n",
    }
