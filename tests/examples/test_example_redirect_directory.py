"""examples/redirect_directory.py"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from example_runs import Run, needed


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> dict[str, object]:
    """``from`` holds one file, ``to`` another of the same name, a folder and a link."""
    original, other = tmp_path / "original", tmp_path / "other"
    original.mkdir()
    (original / "name").write_text("original\n")
    (other / "folder").mkdir(parents=True)
    (other / "name").write_text("other\n")
    (other / "link").symlink_to("name")
    return {"from": original, "to": other}


@pytest.fixture
def shell(settings: dict[str, object], hooked: Run) -> Callable[[str], str]:
    """Run a line whose $D is the redirected directory; returns what it prints to both streams."""

    def run(line: str) -> str:
        done = hooked(
            "redirect_directory", "sh", "-c", f"exec 2>&1; D={settings['from']}; {line}", settings=settings
        )
        return str(done.stdout)

    return run


def test_file_is_read_from_the_other_directory(
    settings: dict[str, object], shell: Callable[[str], str], native: Run
) -> None:
    assert native("cat", f"{settings['from']}/name").stdout == "original\n"
    assert shell("cat $D/name; cat $D/../original/./name; cat $D/link") == "other\n" * 3


def test_static_program_is_redirected_too(shell: Callable[[str], str]) -> None:
    needed("busybox")
    assert shell("busybox cat $D/name; busybox ls $D") == "other\nfolder\nlink\nname\n"


def test_listing_shows_the_other_directory(settings: dict[str, object], shell: Callable[[str], str]) -> None:
    found = shell(
        "ls $D; find $D -type f; stat -c %F $D/folder $D/link; readlink $D/link; test -r $D/name; echo $?"
    )
    assert found.splitlines() == [
        "folder", "link", "name", f"{settings['from']}/name", "directory", "symbolic link", "name", "0",
    ]  # fmt: skip


def test_written_file_lands_in_the_other_directory_with_the_callers_umask(
    settings: dict[str, object], shell: Callable[[str], str]
) -> None:
    assert shell("umask 077; echo new > $D/made; stat -c %a $D/made; cat $D/made") == "600\nnew\n"
    assert (pathlib.Path(str(settings["to"])) / "made").read_text() == "new\n"
    assert not (pathlib.Path(str(settings["from"])) / "made").exists()


def test_what_is_not_there_is_missing_with_the_right_error(shell: Callable[[str], str]) -> None:
    assert "No such file or directory" in shell("cat $D/nothing")
    assert "Is a directory" in shell("cat $D/folder")


def test_other_calls_are_refused_and_the_original_stays(
    settings: dict[str, object], shell: Callable[[str], str]
) -> None:
    printed = shell("rm -f $D/name; mkdir $D/more; mv $D/name $D/other; cd $D")
    assert printed.count("not supported") >= 3
    assert (pathlib.Path(str(settings["from"])) / "name").read_text() == "original\n"
    assert (pathlib.Path(str(settings["to"])) / "name").read_text() == "other\n"


def test_directory_whose_name_only_begins_alike_is_left_alone(
    settings: dict[str, object], shell: Callable[[str], str]
) -> None:
    sibling = pathlib.Path(f"{settings['from']}-2")
    sibling.mkdir()
    (sibling / "name").write_text("sibling\n")
    assert shell("cat $D-2/name") == "sibling\n"
