"""examples/fake_root.py"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import pytest

from example_runs import NOBODY, Run, command_line, execute, needed


@pytest.fixture
def folder() -> Iterator[str]:
    """A directory of nobody's that nobody can reach (pytest's own are not)."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="trapline-"))
    (path / "site").mkdir()
    (path / "site" / "index.html").write_text("hello\n")
    (path / "site" / "link").symlink_to("index.html")
    if os.geteuid() == 0:
        for one in (path, path / "site", path / "site" / "index.html", path / "site" / "link"):
            os.chown(one, NOBODY, NOBODY, follow_symlinks=False)
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture
def unprivileged(as_nobody: list[str], folder: str) -> Callable[..., str]:
    """Run a shell line as nobody in that directory, under the example or natively; returns what it prints."""

    def run(line: str, *, natively: bool = False) -> str:
        command = ["sh", "-c", line] if natively else command_line("fake_root", "sh", "-c", line)
        done = execute([*as_nobody, *command], cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_id_is_root_without_being_it(unprivileged: Callable[..., str]) -> None:
    assert unprivileged("id -u; id -ru; id -g", natively=True) != "0\n0\n0\n"
    assert unprivileged("id -u; id -ru; id -g; id -G") == "0\n0\n0\n0\n"


def test_static_program_is_root_too(unprivileged: Callable[..., str]) -> None:
    needed("busybox")
    assert unprivileged("busybox id -u") == "0\n"


def test_tar_records_root_as_owner(unprivileged: Callable[..., str]) -> None:
    listing = "tar c site | tar tv --numeric-owner"
    assert all(line.split()[1] != "0/0" for line in unprivileged(listing, natively=True).splitlines())
    hooked = unprivileged(listing).splitlines()
    assert [line.split()[1] for line in hooked] == ["0/0"] * 3
    assert [line.split()[0][0] for line in sorted(hooked)] == ["-", "d", "l"]


def test_archive_is_the_same_but_for_the_owner(unprivileged: Callable[..., str]) -> None:
    line = "tar c --numeric-owner --owner=0 --group=0 --sort=name --format=gnu site | sha256sum"
    assert unprivileged(line) == unprivileged(line, natively=True)


def test_chown_is_remembered_and_changes_nothing_on_disk(
    unprivileged: Callable[..., str], folder: str, native: Run
) -> None:
    before = os.stat(f"{folder}/site/index.html")
    line = "chown 12:34 site/index.html && chown :56 site/index.html && stat -c %u:%g site/index.html site"
    assert unprivileged(line) == "12:56\n0:0\n"
    assert os.stat(f"{folder}/site/index.html").st_uid == before.st_uid


def test_link_and_what_it_points_to_have_owners_of_their_own(unprivileged: Callable[..., str]) -> None:
    line = "chown -h 7:7 site/link && stat -c %u site/link site/index.html && stat -L -c %u:%F site/link"
    assert unprivileged(line) == "7\n0\n0:regular file\n"


def test_owner_of_a_removed_file_is_not_inherited_by_its_inode(unprivileged: Callable[..., str]) -> None:
    again = "i=0; while [ $i -lt 50 ]; do touch f$i; i=$((i+1)); done; stat -c %u f* | sort -u"
    assert unprivileged(f"touch f; chown 7 f; stat -c %u f; rm f; {again}") == "7\n0\n"
    assert unprivileged(f"touch f g; chown 8 g; mv f g; stat -c %u g; {again}") == "0\n0\n"


def test_extracted_archive_has_its_owners_for_the_program(unprivileged: Callable[..., str]) -> None:
    make = "tar cf a.tar --owner=12 --group=34 --numeric-owner site"
    assert (
        unprivileged(f"{make}; mkdir out; tar xf a.tar -C out; stat -c %u:%g out/site/*") == "12:34\n12:34\n"
    )


def test_missing_file_and_pipes_are_what_they_are(unprivileged: Callable[..., str]) -> None:
    line = "test -e nothing || echo missing; true | stat -L -c %F /dev/stdin; stat -c %n:%F ."
    assert unprivileged(line) == "missing\nfifo\n.:directory\n"
