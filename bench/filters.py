"""What a filter on instruction-pointer ranges costs each call, as a search tree and one after the other."""

from __future__ import annotations

from pathlib import Path

from bench import linear_ranges
from bench.measure import Contender, Group
from bench.programs import Programs, printing
from trapline.bpf import ranges
from trapline.bpf.action import RET_ALLOW, RET_TRACE
from trapline.bpf.assembler import Assembler
from trapline.bpf.program import Program

_COUNTS = (1, 16, 256, 700)
_CALLS = "200000"
_OFFSETS = {"low": 8, "high": 12}


def _ranges(count: int) -> list[tuple[int, int]]:
    """Ranges of a megabyte around the loop's own code, which is in none of them (it is linked below 0x500000)."""
    return [(0x10000000 + i * 0x200000, 0x10000000 + i * 0x200000 + 0x100000) for i in range(count)]


def program(count: int, *, linear: bool) -> Program:
    """Return a filter that allows what no range holds. It looks at the pointer, so the kernel cannot cache it."""
    asm = Assembler()
    inside, outside = asm.returning(RET_TRACE), asm.returning(RET_ALLOW)
    if linear:
        linear_ranges.emit(asm, _ranges(count), inside, outside)
    else:
        ranges.emit(asm, ranges.tree(_ranges(count)), _OFFSETS, {True: inside, False: outside})
    return Program(asm.assemble())


def groups(programs: Programs) -> list[Group]:
    """Return the group ``ranges``."""
    contenders = []
    for linear in (False, True):
        for count in _COUNTS:
            file = Path(programs.folder) / f"{'linear' if linear else 'tree'}{count}.bpf"
            filter_ = program(count, linear=linear)
            file.write_bytes(filter_.to_bytes())
            name = f"{'linear' if linear else 'tree'}, {count} ranges ({len(filter_)} instructions)"
            aim = 1.05 if count == _COUNTS[-1] and not linear else None
            run = printing(programs.filtered, str(file), programs.loop, "getppid", _CALLS)
            contenders.append(Contender(name, run, aim=aim))
    contenders.append(Contender("no filter", printing(programs.loop, "getppid", _CALLS)))
    title = "getppid under a filter on ranges, over the tree of one range"
    # Some nanoseconds of a hundred and fifty are looked for, so it takes more rounds.
    return [Group("ranges", title, "ns", contenders, 2)]
