"""What README.md and docs/ show is what happens."""

from __future__ import annotations

import pathlib
import re

import pytest

from console_blocks import Block, blocks, make_targets, matches, run
from example_runs import ROOT, needed

#: Written with output that is cut for reading; their commands have tests of their own.
ILLUSTRATED = ("doctor.md", "filters.md", "benchmarks.md")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + [
    path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in ILLUSTRATED
]
#: What the others share is in modules of its own.
EXAMPLE_FILES = [
    path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith("caller_")
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


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_in_the_documents_is_python(path: pathlib.Path) -> None:
    for block in blocks(path):
        if block.language == "python":
            compile(block.text, f"{path.name}, line {block.line}", "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_relative_links_lead_to_files(path: pathlib.Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("path", EXAMPLE_FILES, ids=name_of)
def test_every_example_says_how_to_call_it_and_is_in_readme_and_recipes(path: pathlib.Path) -> None:
    text = path.read_text()
    assert f"    trapline run -s examples/{path.name}" in text.split('"""')[1]
    assert f"examples/{path.name}" in (ROOT / "README.md").read_text()
    assert f"`{path.name}`" in (ROOT / "docs" / "recipes.md").read_text()
