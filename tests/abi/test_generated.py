"""The generator: what is committed is what it writes, and contradictions in the tables stop it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def generate(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/gen/all.py"), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tables and of what was generated from them."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    done = generate(tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_committed_is_what_the_tables_say() -> None:
    done = generate(ROOT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_generated_file_that_was_edited_is_found_and_shown(tree: Path) -> None:
    edit(tree / "src/trapline/abi/numbers_x86_64.py", '"openat": 257', '"openat": 258')
    done = generate(tree, "--check")
    assert done.returncode == 1
    assert '-    "openat": 258,' in done.stdout
    assert '+    "openat": 257,' in done.stdout
    assert "1 of" in done.stderr
    assert '"openat": 258' in (tree / "src/trapline/abi/numbers_x86_64.py").read_text()


def test_a_table_that_was_edited_makes_its_files_stale(tree: Path) -> None:
    edit(tree / "data/constants.tsv", "open\tO_CREAT\t0x40", "open\tO_CREAT\t0x80000000")
    done = generate(tree, "--check")
    assert done.returncode == 1
    assert "src/trapline/abi/families.py" in done.stdout


def test_a_missing_file_is_stale(tree: Path) -> None:
    (tree / "src/trapline/abi/families.py").unlink()
    assert generate(tree, "--check").returncode == 1


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("params", "lseek,_llseek\twhence", "lseek,_llseek\tthence", "lseek,_llseek thence: matches no call"),
        (
            "params",
            "read\tbuf\tbuf out size=count",
            "read\tbuf\tbuf out size=length",
            "no parameter 'length'",
        ),
        ("paths", "creat\tpathname", "creat\tfilename", "creat has no parameter 'filename'"),
        (
            "params",
            "uname\tname\tptr out struct=utsname\n",
            "",
            "uname.name (struct new_utsname *): direction unknown",
        ),
        ("params", "fsopen\t_fs_name\tstr\n", "", "fsopen._fs_name (const char *): path, str or buf?"),
        ("params", "seek\n", "sook\n", "flag family 'sook'"),
        ("structs", "tv_nsec\tlong", "tv_nsec\tlang", "timespec.tv_nsec: unknown type 'lang'"),
        ("types", "umode_t\tmode\t16\tno", "umode_t\tmode\t16", "3 columns where the header has 4"),
    ],
)
def test_tables_that_contradict_each_other_stop_the_generator(
    tree: Path, table: str, old: str, new: str, message: str
) -> None:
    edit(tree / f"data/{table}.tsv", old, new)
    done = generate(tree)
    assert done.returncode == 1
    assert message in done.stderr


def test_every_table_states_its_origin() -> None:
    for path in sorted((ROOT / "data").glob("*.tsv")):
        head = [line for line in path.read_text().splitlines()[:10] if line.startswith("#")]
        assert "Linux" in " ".join(head) or "by hand" in " ".join(head).lower(), path.name
