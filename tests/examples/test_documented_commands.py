"""What README.md and docs/ show is what happens."""

from __future__ import annotations

import pathlib
import re

import pytest
from console_blocks import Block, blocks, make_targets, matches, run
from example_runs import ROOT, needed

#: Written with output that is cut for reading; their commands have tests of their own.
ILLUSTRATED = ("doctor.md", "filters.md", "benchmarks.md")
DOCUMENTS = [ROOT / "README.md"] + [
    path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in ILLUSTRATED
]
PROGRAMS = ("curl", "sqlite3", "busybox", "getent", "setsid")


def console_blocks(path: pathlib.Path) -> list[Block]:
    return [block for block in blocks(path) if block.language == "console"]


def name_of(path: pathlib.Path) -> str:
    return path.name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_console_block_says_whether_it_is_run(path: pathlib.Path) -> None:
    marks = {block.line: block.mark for block in console_blocks(path)}
    assert all(re.fullmatch("run|dry run|not run: .+", mark) for mark in marks.values()), marks


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_print_what_the_document_shows(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in blocks(path):
        place = f"{path.name}, line {block.line}"
        if block.mark.startswith("file: "):
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.text)
        elif block.mark == "dry run":
            for command, _ in block.steps():
                assert f"\n{command.removeprefix('make ')}:" in make_targets(), f"{place}: {command}"
        elif block.mark == "run":
            needed(*[program for program in PROGRAMS if re.search(rf"\b{program}\b", block.text)])
            steps = block.steps()
            for index, (command, status, printed) in enumerate(run(block, tmp_path)):
                assert matches(steps[index][1], printed), f"{place}: {command} printed:\n{printed}"
                is_told = index + 1 < len(steps) and steps[index + 1][0] == "echo $?"
                assert status == 0 or is_told, f"{place}: {command} exits {status}"


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["one", "two"], "one\ntwo\n", True),
        (["one"], "one\ntwo\n", False),
        (["...", "two"], "one\ntwo\n", True),
        (["o...e ..."], "one 1.5\n", True),
        ([], "", True),
        ([], "x\n", False),
        (["a.c"], "abc\n", False),
    ],
)
def test_output_is_compared_line_by_line(expected: list[str], printed: str, same: bool) -> None:
    assert matches(expected, printed) == same
