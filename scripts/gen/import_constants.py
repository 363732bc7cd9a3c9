r"""Import the constants that data/families.tsv asks for into data/constants.tsv.

Run by hand when the headers are renewed; nothing in the build needs it::

    python scripts/gen/import_constants.py --source linux-source-6.1 --headers ziglang/lib/libc/include \
        --out data/constants.tsv

The compiler finds the names (macros and enumerators that match a family's pattern) and evaluates them, once
with each architecture's headers. It only sees constant expressions, so one compiler serves all three.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tables import ARCHES, rows

INCLUDES = {"x86_64": "x86-linux-any", "i386": "x86-linux-any", "aarch64": "aarch64-linux-any"}
# Headers of the kernel's own do not compile alone: they are read for plain #define lines and enumerators.
SIMPLE_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+([^\n]*)", re.M)
ENUM_MEMBER = re.compile(r"^\s*(\w+)\s*=\s*(\w+)\s*,", re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def compiler(arch: str, headers: Path) -> list[str]:
    """Return the compiler with one architecture's UAPI headers and no others."""
    directories = [headers / INCLUDES[arch], headers / "any-linux-any"]
    return [
        "gcc",
        "-m32" if arch == "i386" else "-m64",
        "-nostdinc",
        "-ftrack-macro-expansion=0",
        *[f"-I{path}" for path in directories],
    ]


def run(command: list[str], source: str) -> tuple[str, str]:
    """Run the compiler over *source*; return output and messages."""
    done = subprocess.run(
        [*command, "-x", "c", "-"], input=source, capture_output=True, text=True, check=False
    )
    return done.stdout, done.stderr


def internal_defines(path: Path) -> str:
    """Turn the definitions of a header of the kernel's own into one that compiles."""
    text = COMMENT.sub("", path.read_text()).replace("\\\n", " ")
    found = SIMPLE_DEFINE.findall(text) + ENUM_MEMBER.findall(text)
    return "".join(f"#ifndef {name}\n#define {name} {value}\n#endif\n" for name, value in found)


def unit(headers: list[str], source: Path) -> str:
    """Write the translation unit that a family's names come from."""
    text = "typedef __SIZE_TYPE__ size_t;\ntypedef long time_t;\n"
    text += "#include <linux/types.h>\n#include <linux/fcntl.h>\n"
    for header in headers:
        if header.startswith("src:"):
            text += internal_defines(source / header[4:])
        else:
            text += f"#include <{header}>\n"
    return text


def candidates(command: list[str], text: str, row: dict[str, str]) -> list[str]:
    """Return the macros and identifiers of a unit that belong to the family."""
    pattern, without = re.compile(row["pattern"]), re.compile(row["without"])
    macros, _ = run([*command, "-E", "-dM"], text)
    code, messages = run([*command, "-E", "-P"], text)
    if "error" in messages:
        sys.exit(messages)
    names = re.findall(r"^#define (\w+) +\S", macros, re.M) + re.findall(r"\b[A-Za-z_]\w+\b", code)
    return sorted({name for name in names if pattern.fullmatch(name) and not without.fullmatch(name)})


def evaluate(command: list[str], text: str, names: list[str]) -> dict[str, int]:
    """Evaluate constants; what the compiler rejects is left out, with a note."""
    names = list(names)
    while names:
        lines = text.count("\n")
        body = "".join(f"const long long tl_{name} = (long long)({name});\n" for name in names)
        output, messages = run([*command, "-w", "-S", "-o", "-"], text + body)
        rejected = {int(number) - lines - 1 for number in re.findall(r"<stdin>:(\d+):\d+: error", messages)}
        if not rejected:
            return read_assembly(output)
        for index in sorted(rejected, reverse=True):
            print(f"left out: {names.pop(index)}", file=sys.stderr)
    return {}


def read_assembly(text: str) -> dict[str, int]:
    """Read 64-bit constants back from the compiler's assembly."""
    values: dict[str, int] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("tl_"):
            name = line[3:].rstrip(":")
            values[name] = 0
            halves: list[int] = []
        elif match := re.match(r"\s+\.(quad|long|zero)\s+(-?\d+)", line):
            if match[1] == "quad":
                values[name] = int(match[2])
            elif match[1] == "long":
                halves.append(int(match[2]) & 0xFFFFFFFF)
                if len(halves) == 2:
                    values[name] = halves[0] | halves[1] << 32
                    values[name] -= (values[name] >> 63) << 64
    return values


def show(value: int, kind: str) -> str:
    """Write flags in hexadecimal, values in decimal; bit 31 of an int is no sign in a flag word."""
    if kind == "flag":
        return f"{value & 0xFFFFFFFF if value < 0 else value:#x}"
    return str(value) if abs(value) < 0x1000 else f"{value & 0xFFFFFFFF if value < 0 else value:#x}"


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="a kernel source tree")
    parser.add_argument(
        "--headers", type=Path, required=True, help="UAPI headers, one directory per architecture"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    lines = [
        "# Constants by family. Linux 7.2 UAPI headers; 'src:' families of families.tsv: Linux 6.1.",
        "# '=': as on x86_64. '-': not on that architecture. Written by scripts/gen/import_constants.py.",
        "family\tname\tx86_64\ti386\taarch64",
    ]
    for row in rows("families"):
        if row["headers"] == "by-hand":
            for word in row["pattern"].split():
                name, _, value = word.partition("=")
                lines.append("\t".join([row["family"], name, show(int(value, 0), row["kind"]), "=", "="]))
            continue
        values: dict[str, dict[str, int]] = {}
        for arch in ARCHES:
            command = compiler(arch, args.headers)
            available = [
                header
                for header in row["headers"].split(",")
                if header.startswith("src:")
                or any((args.headers / base / header).exists() for base in (INCLUDES[arch], "any-linux-any"))
            ]
            text = unit(available, args.source)
            values[arch] = evaluate(command, text, candidates(command, text, row))
        names = sorted({name for found in values.values() for name in found}, key=lambda n: order(n, values))
        if not names:
            print(f"family {row['family']}: no constants found", file=sys.stderr)
        for name in names:
            shown = [show(values[a][name], row["kind"]) if name in values[a] else "-" for a in ARCHES]
            columns = [shown[0], *("=" if text == shown[0] != "-" else text for text in shown[1:])]
            lines.append("\t".join([row["family"], name, *columns]))
    args.out.write_text("\n".join(lines) + "\n")
    print(f"{args.out}: {len(lines) - 3} constants")
    return 0


def order(name: str, values: dict[str, dict[str, int]]) -> tuple[int, str]:
    """Sort by value on the first architecture that has the constant."""
    value = next(found[name] for found in values.values() if name in found)
    return value & 0xFFFFFFFFFFFFFFFF, name


if __name__ == "__main__":
    sys.exit(main())
