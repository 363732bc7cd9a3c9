r"""Import system call numbers and prototypes into data/syscalls.tsv.

Run once per kernel generation, by hand; nothing in the build needs it::

    python scripts/gen/import_syscalls.py --source linux-source-6.1 --headers ziglang/lib/libc/include \\
        --newest 469 --out data/syscalls.tsv

Numbers come from the UAPI headers under *headers* (x86-linux-any, aarch64-linux-any), prototypes from the
SYSCALL_DEFINE and COMPAT_SYSCALL_DEFINE macros under *source*, found through the entry points named in its
syscall tables. A call whose entry point has no macro gets ``?``; data/prototypes.tsv fills those in by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

HEADERS = {
    "x86_64": "x86-linux-any/asm/unistd_64.h",
    "i386": "x86-linux-any/asm/unistd_32.h",
    "aarch64": "aarch64-linux-any/asm/unistd_64.h",
}
DEFINE = re.compile(r"^\s*((?:COMPAT_)?SYSCALL(?:32)?_DEFINE)([0-6])\s*\(", re.M)
TREES = (
    "fs",
    "kernel",
    "mm",
    "net",
    "ipc",
    "io_uring",
    "security",
    "block",
    "drivers",
    "arch/x86",
    "arch/arm64",
)


def read_numbers(path: Path, newest: int) -> dict[str, int]:
    """Read ``#define __NR_name number`` lines, leaving out calls newer than *newest*."""
    found = re.findall(r"^#define __NR_(\w+)\s+(\d+)\s*$", path.read_text(), re.M)
    return {name: int(nr) for name, nr in found if int(nr) <= newest}


def read_definitions(source: Path) -> dict[str, str]:
    """Map ``sys_x`` and ``compat_sys_x`` to the parameter list in their defining macro."""
    prototypes = {"sys_ni_syscall": "?"}
    for tree in TREES:
        for path in sorted((source / tree).rglob("*.c")):
            if path.name == "sys32.c":  # arm64's 32-bit calls: not an architecture of ours
                continue
            text = path.read_text(errors="replace")
            if "SYSCALL_DEFINE" not in text:
                continue
            text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
            # 64-bit arguments in two registers, as little-endian architectures pass them.
            text = re.sub(r"\b(?:compat_arg_u64_dual|SC_ARG64)\((\w+)\)", r"u32, \1_lo, u32, \1_hi", text)
            text = re.sub(r"\barg_u32p\((\w+)\)", r"u32, \1", text)
            for match in DEFINE.finditer(text):
                end = text.index(")", match.end())
                fields = [" ".join(field.split()) for field in text[match.end() : end].split(",")]
                entry = ("compat_sys_" if match[1] != "SYSCALL_DEFINE" else "sys_") + fields[0]
                pairs = list(zip(fields[1::2], fields[2::2], strict=False))
                if len(fields) != 1 + 2 * int(match[2]) or len(pairs) != int(match[2]):
                    sys.exit(f"{path}: {entry}: {match[2]} parameters announced, found {fields[1:]}")
                joined = ", ".join(join_declaration(ctype, name) for ctype, name in pairs) or "void"
                # The first one wins: later ones are for other configurations (no MMU, other clone orders).
                prototypes.setdefault(entry, joined)
    return prototypes


def join_declaration(ctype: str, name: str) -> str:
    """Write one declaration the way the kernel's trace events do, without ``__user``."""
    ctype = re.sub(r"\s+", " ", ctype.replace("__user", " ").replace("*", " * ")).strip()
    return f"{ctype} {name}"


def read_table(path: Path, abis: tuple[str, ...]) -> dict[str, str]:
    """Map a call's name to its entry point in a syscall table; a compat entry point is preferred."""
    entries = {}
    for line in path.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 4 and not line.startswith("#") and fields[1] in abis:
            entries[fields[2]] = fields[4] if len(fields) > 4 else fields[3]
    return entries


def read_generic(path: Path) -> dict[str, str]:
    """Map a call's name to its entry point in asm-generic/unistd.h, for 64-bit architectures."""
    text = re.sub(r"\\\n", " ", path.read_text())
    macros = r"__SYSCALL|__SC_COMP|__SC_3264|__SC_COMP_3264"
    entries = {}
    for macro, name, rest in re.findall(rf"^({macros})\(__NR(?:3264)?_(\w+),\s*([^)]*)\)", text, re.M):
        fields = [field.strip() for field in rest.split(",")]
        entries[name] = fields[1] if macro == "__SC_3264" or macro == "__SC_COMP_3264" else fields[0]
    for old, new in re.findall(r"^#define __NR_(\w+)\s+__NR3264_(\w+)", text, re.M):
        if new in entries:
            entries.setdefault(old, entries[new])
    return entries


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="a kernel source tree")
    parser.add_argument(
        "--headers", type=Path, required=True, help="UAPI headers, one directory per architecture"
    )
    parser.add_argument("--newest", type=int, required=True, help="the newest number to keep")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    numbers = {arch: read_numbers(args.headers / path, args.newest) for arch, path in HEADERS.items()}
    tables = args.source / "arch/x86/entry/syscalls"
    entries = {
        "x86_64": read_table(tables / "syscall_64.tbl", ("common", "64")),
        "i386": read_table(tables / "syscall_32.tbl", ("i386",)),
        "aarch64": read_generic(args.source / "include/uapi/asm-generic/unistd.h"),
    }
    prototypes = read_definitions(args.source)

    lines = [
        "# System call numbers: Linux 7.2 UAPI headers (asm/unistd_*.h), none newer than Linux 6.18.",
        "# Prototypes: SYSCALL_DEFINE and COMPAT_SYSCALL_DEFINE macros of Linux 6.1.",
        "# '-': not in this architecture. '?': no macro there; see prototypes.tsv. '=': as in 'proto',",
        "# which is x86_64's (or, for calls that it lacks, the first other architecture's). i386 is what a",
        "# 64-bit kernel offers to 32-bit programs. Written by scripts/gen/import_syscalls.py.",
        "name\tx86_64\ti386\taarch64\tproto\ti386 proto\taarch64 proto",
    ]
    every = sorted(set().union(*numbers.values()))
    for name in every:
        protos = [
            prototypes.get(entries[arch].get(name, ""), "?") if name in numbers[arch] else "-"
            for arch in HEADERS
        ]
        first = next(proto for proto in protos if proto != "-")
        columns = [name, *(str(numbers[arch].get(name, "-")) for arch in HEADERS), first]
        columns += ["=" if proto == first else proto for proto in protos[1:]]
        lines.append("\t".join(columns))
    args.out.write_text("\n".join(lines) + "\n")
    print(f"{args.out}: {len(every)} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
