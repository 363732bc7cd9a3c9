"""Instruction-pointer filters as a binary search, beside the linear form that everybody writes first.

Run it as ``python bench/linear_ranges.py``: instruction counts, longest paths, and nanoseconds per
``getppid`` (median; the filters take turns in fresh processes).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from trapline import abi
from trapline.bpf import measure, ranges
from trapline.bpf.action import RET_ALLOW, RET_KILL_PROCESS, errno
from trapline.bpf.assembler import JUMP_EQ, JUMP_GE, JUMP_GT, Assembler
from trapline.bpf.conditions import ip
from trapline.bpf.policy import Program, compile_policy, rules_for

COUNTS = (1, 16, 256, 700)


def linear(spans: Sequence[ranges.Range], action: int) -> Program:
    """Return a filter that asks range after range: *action* inside one of *spans*, ALLOW outside.

    The shape is the usual one, with the high words compared first; about 6 instructions a range.
    """
    asm = Assembler()
    native = asm.label()
    asm.load(4)
    asm.branch(JUMP_EQ, abi.AUDIT_ARCH[abi.native_arch()], native, None)
    asm.ret(RET_KILL_PROCESS)
    asm.place(native)
    for start, end in ranges.normalize(spans):
        following, low, below, high_end = (asm.label() for _ in range(4))
        last = end - 1
        asm.load(12)
        if start >> 32 == last >> 32:
            asm.branch(JUMP_EQ, start >> 32, low, following)
            asm.place(low)
            asm.load(8)
            asm.branch(JUMP_GE, start & 0xFFFFFFFF, below, following)
            asm.place(below)
            asm.branch(JUMP_GT, last & 0xFFFFFFFF, following, asm.returning(action))
        else:
            asm.branch(JUMP_GT, start >> 32, high_end, below)
            asm.place(below)
            asm.branch(JUMP_EQ, start >> 32, low, following)
            asm.place(low)
            asm.load(8)
            asm.branch(JUMP_GE, start & 0xFFFFFFFF, asm.returning(action), following)
            asm.place(high_end)
            inside = asm.label()
            asm.branch(JUMP_GE, last >> 32, inside, asm.returning(action))
            asm.place(inside)
            asm.branch(JUMP_EQ, last >> 32, None, following)
            asm.load(8)
            asm.branch(JUMP_GT, last & 0xFFFFFFFF, following, asm.returning(action))
        asm.place(following)
    asm.ret(RET_ALLOW)
    return Program(asm.assemble())


def scattered(count: int) -> list[ranges.Range]:
    """Return *count* ranges of 64 KiB, 16 MiB apart, as a loader might map libraries."""
    return [(0x1000_0000_0000 + (n << 24), 0x1000_0000_0000 + (n << 24) + 0x10000) for n in range(count)]


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--rounds", type=int, default=15, help="how often each filter is measured (default: 15)"
    )
    args = parser.parse_args()
    programs: dict[str, Program | None] = {"no filter": None, "always allow": compile_policy([])}
    for count in COUNTS:
        spans = scattered(count)
        rules = rules_for(["getppid"], ip.within(*spans), errno(1))
        programs[f"search {count}"] = compile_policy(rules)
        programs[f"linear {count}"] = linear(spans, errno(1))
    cost = measure.nanoseconds(programs, args.rounds)
    print(f"{'filter':<14} {'instructions':>12} {'longest path':>12} {'ns/getppid':>10} {'ratio':>6}")
    figures = []
    for name, program in programs.items():
        length, path = (len(program), program.longest_path()) if program else (0, 0)
        ratio = cost[name] / cost["no filter"]
        print(f"{name:<14} {length:>12} {path:>12} {cost[name]:>10.1f} {ratio:>6.2f}")
        figures.append(
            {"filter": name, "instructions": length, "path": path, "ns": cost[name], "ratio": ratio}
        )
    last, first = cost[f"search {COUNTS[-1]}"], cost[f"search {COUNTS[0]}"]
    print(f"search: {COUNTS[-1]} ranges over {COUNTS[0]}: {last / first:.3f}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as stream:
            json.dump(figures, stream, indent=1)


if __name__ == "__main__":
    main()
