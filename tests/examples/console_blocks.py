"""Reading the console blocks of the documentation, and running them as a reader would paste them.

A block is a fenced ``console`` block. The HTML comment in front of it says what the test does with it::

    <!-- run -->                    run it; the output must be what stands there, "..." stands for anything
    <!-- dry run -->                every command is a make target: it must exist
    <!-- not run: reason -->        shown only

``<!-- file: NAME -->`` in front of any other block writes it to a file for the commands that follow. A
command that fails must be followed by ``$ echo $?``.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

from example_runs import ROOT

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S
)
_SENTINEL = "@@trapline-docs@@"


class Block:
    """One fenced block.

    :ivar mark: what the comment in front says, or an empty string.
    :ivar line: where it begins in its file.
    """

    def __init__(self, found: re.Match[str], line: int) -> None:
        self.mark = found["mark"] or ""
        self.language = found["language"]
        self.text = found["text"]
        self.line = line

    def steps(self) -> list[tuple[str, list[str]]]:
        """Return commands, each with the lines that it is to print."""
        steps: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                assert steps, f"line {self.line}: a console block begins with a command"
                steps[-1][1].append(line)
        return steps


def blocks(path: pathlib.Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file in order."""
    text = path.read_text()
    return [Block(found, text.count("\n", 0, found.start()) + 1) for found in _BLOCK.finditer(text)]


def run(block: Block, folder: pathlib.Path) -> list[tuple[str, int, str]]:
    """Run the commands of a block in one shell; return each with its exit status and what it printed."""
    script = ["exec 2>&1"]
    for command, _ in block.steps():
        script += [command, f"status=$?; printf '\\n{_SENTINEL} %d\\n' $status; (exit $status)"]
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "LC_ALL": "C", "TZ": "UTC", "HOME": str(folder), "no_proxy": "*"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    parts = re.split(rf"\n{_SENTINEL} (\d+)\n", done.stdout)
    assert len(parts) == 2 * len(block.steps()) + 1, done.stdout + done.stderr
    return [
        (command, int(parts[2 * index + 1]), parts[2 * index])
        for index, (command, _) in enumerate(block.steps())
    ]


def matches(expected: list[str], printed: str) -> bool:
    """Whether output is as shown: ``...`` is anything in a line; alone, any number of lines."""
    pattern = ""
    for line in expected:
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ \t]*\n"
    lines = printed.rstrip("\n")
    return re.fullmatch(pattern, f"{lines}\n" if lines else "") is not None


def make_targets() -> str:
    """Return the Makefile's text."""
    return (ROOT / "Makefile").read_text()
