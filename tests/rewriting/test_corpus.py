"""Over real libraries and programs: nearly every site has a window, and objdump sees the same instructions."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from trapline.rewriting.catalogue import plan_in_file
from trapline.rewriting.elf import CodeFile
from trapline.rewriting.windows import Plan

CORPUS = {
    "glibc": "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "ld.so": "/lib64/ld-linux-x86-64.so.2",
    "musl": "/lib/ld-musl-x86_64.so.1",
    "busybox, static": "/bin/busybox",
    "Go": "/usr/lib/go*/bin/gofmt",
}
#: Of 100 sites so many may be left alone.
LEFT_ALONE = {"musl": 2, "Go": 3, "ld.so": 3}


def listing(path: str) -> tuple[list[int], set[int]]:
    """Return what objdump says: the addresses of `syscall` instructions, and of all instructions."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed (binutils)")
    command = ["objdump", "--disassemble", "--wide", "--no-show-raw-insn", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [(int(at, 16), name) for at, name in re.findall(r"^ *([0-9a-f]+):\t(\S+)", text, re.MULTILINE)]
    return [at for at, name in found if name == "syscall"], {at for at, _ in found}


@pytest.mark.parametrize("name", CORPUS)
def test_nearly_every_site_can_be_patched(name: str) -> None:
    paths = glob.glob(CORPUS[name])
    if not paths:
        pytest.skip(f"{CORPUS[name]} is not installed")
    sites, instructions = listing(paths[0])
    assert sites
    code = CodeFile(os.open(paths[0], os.O_RDONLY))
    reasons: Counter[str] = Counter()
    planned = 0
    for site in sites:
        offset = code.offset_of(site)
        assert offset is not None
        found = plan_in_file(code, offset)
        if isinstance(found, Plan):
            planned += 1
            begin = [site + found.start, *(site + at for at in found.boundaries), site + found.end]
            assert set(begin) <= instructions, f"{found} at {site:#x} is not between instructions"
        else:
            reasons[found.reason] += 1
    print(f"{name}: {planned} of {len(sites)} sites planned, left alone: {dict(reasons)}")
    assert len(sites) - planned <= max(1, len(sites) * LEFT_ALONE.get(name, 1) // 100), reasons


def test_a_go_program_without_symbols_is_patched_too(tmp_path: Path) -> None:
    paths = glob.glob(CORPUS["Go"])
    if not paths or shutil.which("strip") is None:
        pytest.skip("no Go program, or no strip (binutils)")
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", str(stripped), paths[0]], check=True)
    data = stripped.read_bytes()
    code = CodeFile(os.open(stripped, os.O_RDONLY))
    assert code.function(code.segments[0][1] + 0x1000).start is None
    pattern = rb"\xb8[\x00-\xff][\x00\x01]\x00\x00\x0f\x05"  # mov $number, %eax; syscall
    sites = [match.end() - 2 for match in re.finditer(pattern, data)]
    assert len(sites) > 10
    kinds = Counter(getattr(plan_in_file(code, at), "kind", "left alone") for at in sites)
    assert kinds["left alone"] <= 1
    assert kinds["move"] > len(sites) * 0.9
