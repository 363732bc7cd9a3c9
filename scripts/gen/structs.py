"""Write abi/layouts.py: sizes and offsets of structs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tables import ARCHES, ROOT, DataError, heading, rows

SCALARS = {f"{sign}{bits}": bits // 8 for sign in "us" for bits in (8, 16, 32, 64)} | {"be16": 2, "be32": 4}
WORDS = {"long": "s", "ulong": "u", "ptr": "u"}


@dataclass
class Layout:
    """One struct on one architecture while its fields are being placed."""

    name: str
    align: int = 1
    size: int = 0  # without the padding at its end, until close()
    packed: bool = False
    extensible: bool = False
    flexible: bool = False
    fields: list[tuple[str, int, str, int]] = field(
        default_factory=list
    )  # name, offset, type, count; 0: no array

    def to(self, align: int) -> None:
        """Move on to the next multiple of *align*."""
        if not self.packed:
            self.align = max(self.align, align)
            self.size = -(-self.size // align) * align

    def add(self, name: str, kind: str, size: int, align: int, count: int = 0) -> None:
        """Place a field."""
        self.to(align)
        self.fields.append((name, self.size, kind, count))
        self.size += size * (count or 1)

    def close(self) -> None:
        """Pad the end; a struct with a flexible end is as long as what comes before it."""
        if not self.flexible:
            self.to(self.align)


def place(layout: Layout, name: str, kind: str, word: int, known: dict[str, Layout]) -> None:
    """Add one row of structs.tsv to a layout."""
    array = re.fullmatch(r"(\w+)\[(\d*)\]", kind)
    base, count = (array[1], int(array[2] or 0)) if array else (kind, 0)
    if kind == "align word":
        layout.to(word)
    elif kind.startswith("fill "):
        layout.to(word)
        layout.add(name, "bytes", 1, 1, int(kind[5:]) - layout.size)
    elif kind in ("char[]", "u8[]"):
        layout.fields.append((name, layout.size, "text" if base == "char" else "rest", 0))
        layout.flexible = True
    elif kind.startswith("struct "):
        inner = known[kind[7:]]
        layout.add(name, kind[7:], inner.size, inner.align)
    elif array and base in ("char", "u8"):
        layout.add(name, "chars" if base == "char" else "bytes", 1, 1, count)
    else:
        base = f"{WORDS[base]}{word * 8}" if base in WORDS else base
        size = SCALARS[base]
        layout.add(name, base, size, min(size, word), count)


def read(arch: str, data: Path) -> dict[str, Layout]:
    """Lay every struct of one architecture out."""
    word = 4 if arch == "i386" else 8
    known: dict[str, Layout] = {}
    for row in rows("structs", data):
        if row["arches"] != "*" and arch not in row["arches"].split(","):
            continue
        layout = known.get(row["struct"])
        if layout is None:
            if known:
                next(reversed(known.values())).close()
            layout = known[row["struct"]] = Layout(row["struct"])
        if row["field"] == "-":
            setattr(layout, row["type"], True)
            continue
        try:
            place(layout, row["field"], row["type"], word, known)
        except KeyError as error:
            raise DataError(f"structs.tsv: {row['struct']}.{row['field']}: unknown type {error}") from None
    next(reversed(known.values())).close()
    return known


def encode(layout: Layout) -> str:
    """Write a layout as one string, which abi/structs.py reads."""
    parts = [f"{layout.size}{'+' if layout.flexible else '*' if layout.extensible else ''}"]
    parts += [f"{name},{offset},{kind},{count}" for name, offset, kind, count in layout.fields]
    return ";".join(parts)


def generate(data: Path = ROOT / "data") -> dict[str, str]:
    """Return the file to write, by its path below the root."""
    lines = [
        heading("structs.py", "structs"),
        "# ruff: noqa: E501\n# fmt: off\n",
        '"""Layouts of structs, as structs.py reads them: size; name, offset, type, count of fields."""\n\n',
    ]
    base = {name: encode(layout) for name, layout in read("x86_64", data).items()}
    for arch in ARCHES:
        comment = "" if arch == "x86_64" else "  # only those that differ from x86_64; '' where it has none"
        lines.append(f"{arch.upper()}: dict[str, str] = {{{comment}\n")
        table = {name: encode(layout) for name, layout in read(arch, data).items()}
        for name in sorted(base | table):
            text = table.get(name, "")
            if arch == "x86_64" or text != base.get(name):
                lines.append(f'    "{name}": "{text}",\n')
        lines.append("}\n\n")
    return {"src/trapline/abi/layouts.py": "".join(lines).rstrip("\n") + "\n"}
