"""Plans kept from one session to the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trapline.rewriting import store as store_module
from trapline.rewriting.catalogue import SiteCatalogue
from trapline.rewriting.store import PlanStore, Stored, default_folder
from trapline.rewriting.wire import unpack

from .machine import GATE
from .test_catalogue import CODE, NOWHERE, PID, Mapped, libc_sites

IDENTITY = (64, 4711, 100_000, 10**18, 10**18)
ANSWERS = {1: b"x" * 200, 6: b"y" * 416, 2**40: b"\0\0\0"}


def gate_unused() -> object:
    raise AssertionError("a plan is made")


def kept(folder: Path, gate: object = "gate", identity: tuple[int, ...] = IDENTITY) -> dict[int, bytes]:
    return PlanStore(gate, str(folder)).load(identity).answers()


def keep(folder: Path, answers: dict[int, bytes], gate: object = "gate") -> None:
    store = PlanStore(gate, str(folder))
    stored = store.load(IDENTITY)
    for name, answer in answers.items():
        store.add(stored, name, answer)
    store.save()


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


# -- where it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/h"}, "/h/.cache/trapline/plans"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/trapline/plans"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/trapline/plans"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c", "TRAPLINE_PLAN_CACHE": "/p"}, "/p"),
        ({"HOME": "/h", "TRAPLINE_PLAN_CACHE": ""}, None),
        ({"HOME": "/h", "TRAPLINE_PLAN_CACHE": "relative"}, None),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_the_environment_says_where_plans_are_kept(environment: dict[str, str], folder: str | None) -> None:
    assert default_folder(environment) == folder


def test_folders_are_made_when_there_is_something_to_keep_and_are_nobody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "trapline" / "plans"
    store = PlanStore("gate", str(folder))
    assert not store.load(IDENTITY)
    store.save()
    assert not (tmp_path / "cache").exists()
    keep(folder, ANSWERS)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only_file(folder).stat().st_mode & 0o777 == 0o600


# -- what comes back -----------------------------------------------------------------------------------------------


def test_answers_come_back_and_more_are_added(tmp_path: Path) -> None:
    keep(tmp_path, ANSWERS)
    assert kept(tmp_path) == ANSWERS
    keep(tmp_path, {77: b"z" * 32})
    assert kept(tmp_path) == ANSWERS | {77: b"z" * 32}
    assert PlanStore("gate", str(tmp_path)).load(IDENTITY).get(5) is None


@pytest.mark.parametrize("changed", range(len(IDENTITY)))
def test_a_file_that_has_changed_is_another_one(tmp_path: Path, changed: int) -> None:
    keep(tmp_path, ANSWERS)
    identity = tuple(each + (at == changed) for at, each in enumerate(IDENTITY))
    assert kept(tmp_path, identity=identity) == {}


def test_answers_are_for_one_gate_and_one_planner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, ANSWERS)
    assert kept(tmp_path, gate="another") == {}
    copy = tmp_path / "modules"
    copy.mkdir()
    (copy / "windows.py").write_text("# another planner")
    monkeypatch.setattr(store_module, "__file__", str(copy / "store.py"))
    assert kept(tmp_path) == {}


def test_what_two_sessions_found_is_there_in_the_end(tmp_path: Path) -> None:
    first, second = PlanStore("gate", str(tmp_path)), PlanStore("gate", str(tmp_path))
    one, two = first.load(IDENTITY), second.load(IDENTITY)
    first.add(one, 1, b"one")
    second.add(two, 2, b"two")
    first.save()
    second.save()
    assert kept(tmp_path) == {1: b"one", 2: b"two"}


def test_writers_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    writers = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for turn in range(20):
                    keep(tmp_path, {number: bytes([number]) * 300, 100 + turn: b"t" * turn})
                    status = 0 if kept(tmp_path) else 1
            finally:
                os._exit(status)
        writers.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in writers] == [0] * 4
    found = kept(tmp_path)
    assert all(found.get(number, bytes([number]) * 300) == bytes([number]) * 300 for number in range(4))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_has_just_been_written_is_not_kept(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.write_bytes(b"x")
    status = code.stat()
    store = PlanStore("gate", str(tmp_path / "plans"))
    stored = store.load((status.st_dev, status.st_ino, 1, status.st_mtime_ns, status.st_ctime_ns))
    store.add(stored, 1, b"one")
    assert not store.is_changed


# -- what cannot be believed ---------------------------------------------------------------------------------------


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_never_gives_a_wrong_answer(data: st.DataObject) -> None:
    stored = Stored(IDENTITY)
    stored.fresh = dict(ANSWERS)
    key = b"k" * 64
    whole = bytearray(stored.pack(key))
    assert Stored(IDENTITY, bytes(whole), key).answers() == ANSWERS
    places = st.one_of(st.integers(0, 200), st.integers(0, len(whole) - 1))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(places)] = data.draw(st.one_of(st.sampled_from((0, 1, 0xFF)), st.integers(0, 255)))
    damaged = bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])
    for name, answer in Stored(IDENTITY, damaged, key).answers().items():
        assert ANSWERS[name] == answer


@pytest.mark.parametrize("content", [b"", b"trapline plans 1", b"\xff" * 5000, bytes(100)])
def test_what_is_no_file_of_plans_is_replaced(tmp_path: Path, content: bytes) -> None:
    keep(tmp_path, ANSWERS)
    only_file(tmp_path).write_bytes(content)
    assert kept(tmp_path) == {}
    keep(tmp_path, ANSWERS)
    assert kept(tmp_path) == ANSWERS


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_not_read(tmp_path: Path, mode: int) -> None:
    keep(tmp_path, ANSWERS)
    only_file(tmp_path).chmod(mode)
    assert kept(tmp_path) == {}


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path, mode: int) -> None:
    keep(tmp_path, ANSWERS)
    tmp_path.chmod(mode)
    assert kept(tmp_path) == {}
    keep(tmp_path, {9: b"nine"})
    tmp_path.chmod(0o700)
    assert kept(tmp_path) == ANSWERS


def test_files_and_folders_of_others_are_not_used(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    keep(tmp_path, ANSWERS)
    os.chown(only_file(tmp_path), 65534, -1)
    assert kept(tmp_path) == {}
    os.chown(only_file(tmp_path), 0, -1)
    assert kept(tmp_path) == ANSWERS
    os.chown(tmp_path, 65534, -1)
    assert kept(tmp_path) == {}
    # Nothing is made in somebody's home either.
    keep(tmp_path / "plans", ANSWERS)
    assert not (tmp_path / "plans").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    keep(folder, ANSWERS)
    (tmp_path / "link").symlink_to(folder)
    assert kept(tmp_path / "link") == {}
    moved = only_file(folder).rename(tmp_path / "elsewhere")
    (folder / "40-1267").symlink_to(moved)
    assert kept(folder) == {}


@pytest.mark.parametrize("kind", ["file", "unwritable"])
def test_a_store_that_cannot_be_written_is_no_error(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "file" if kind == "file" else Path("/proc/trapline/plans")
    if kind == "file":
        folder.write_text("in the way")
    keep(folder, ANSWERS)
    assert kept(folder) == {}


# -- bounds --------------------------------------------------------------------------------------------------------


def test_the_oldest_files_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_FILES_MAX", 3)
    for number in range(5):
        (tmp_path / f"old{number}").write_bytes(b"left behind")
        os.utime(tmp_path / f"old{number}", (number, number))
    keep(tmp_path, ANSWERS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["40-1267", "old3", "old4"]
    size = (tmp_path / "40-1267").stat().st_size
    monkeypatch.setattr(store_module, "_FOLDER_MAX", size + 15)
    keep(tmp_path, {1: ANSWERS[1]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["40-1267", "old4"]


def test_a_file_of_plans_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_RECORDS_MAX", 10)
    keep(tmp_path, dict.fromkeys(range(20), b"x" * 100))
    assert len(kept(tmp_path)) == 10
    monkeypatch.setattr(store_module, "_RECORDS_MAX", 4096)
    monkeypatch.setattr(store_module, "_FILE_MAX", 10_000)
    keep(tmp_path, dict.fromkeys(range(100), b"x" * 100))
    assert only_file(tmp_path).stat().st_size <= 10_000
    assert 10 < len(kept(tmp_path)) < 100


# -- the catalogue over it -----------------------------------------------------------------------------------------


def test_the_next_session_gives_the_same_answers_and_plans_nothing(tmp_path: Path) -> None:
    base, sites = libc_sites()
    room = range(base - 0x400000, base)
    first = SiteCatalogue(GATE, store=PlanStore("gate", str(tmp_path)))
    near = [first.answer(PID, base + site, room) for site in sites[:40]]
    far = [first.answer(PID, base + site, NOWHERE) for site in sites[:20]]
    assert first.is_changed
    first.save()
    assert not first.is_changed
    second = SiteCatalogue(gate_unused, store=PlanStore("gate", str(tmp_path)))  # type: ignore[arg-type]
    assert [second.answer(PID, base + site, room) for site in sites[:40]] == near
    assert [second.answer(PID, base + site, NOWHERE) for site in sites[:20]] == far
    assert not second.is_changed
    # An answer for an agent out of reach was kept only where one was asked for; now it is planned.
    third = SiteCatalogue(GATE, store=PlanStore("gate", str(tmp_path)))
    assert third.answer(PID, base + sites[30], room) == near[30]
    assert unpack(third.answer(PID, base + sites[30], NOWHERE)).block.in_two
    assert third.is_changed


def test_refusals_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_SETTLED_NS", -1)
    path = tmp_path / "code"
    path.write_bytes(b"\xf4" * 4096)
    fd = os.open(path, os.O_RDWR)
    mapped = Mapped(fd)
    os.close(fd)
    folder = str(tmp_path / "plans")
    first = SiteCatalogue(GATE, store=PlanStore("gate", folder))
    answer = first.answer(PID, mapped.address + 64, NOWHERE)
    assert unpack(answer).reason == "no-syscall"
    first.save()
    second = SiteCatalogue(gate_unused, store=PlanStore("gate", folder))  # type: ignore[arg-type]
    assert second.answer(PID, mapped.address + 64, NOWHERE) == answer
    mapped.close()


def test_code_without_a_file_is_not_kept(tmp_path: Path) -> None:
    mapped = Mapped(code=CODE)
    catalogue = SiteCatalogue(GATE, store=PlanStore("gate", str(tmp_path)))
    assert unpack(catalogue.answer(PID, mapped.address + CODE.index(b"\x0f\x05"), NOWHERE)).reason is None
    assert not catalogue.is_changed
    mapped.close()


def test_an_answer_from_the_store_imports_next_to_nothing(tmp_path: Path) -> None:
    script = """
import os, sys
from trapline import _native
before = set(sys.modules)
from trapline.rewriting.catalogue import SiteCatalogue
from trapline.rewriting.store import PlanStore
def gate():
    from trapline.rewriting.blocks import Gate
    return Gate(b"\\x0f\\x05", 0)
base, offset = int(sys.argv[1]), int(sys.argv[2])
line = next(line.split() for line in open("/proc/self/maps") if "libc.so" in line and " r-xp " in line)
site = int(line[0].partition("-")[0], 16) - int(line[2], 16) + offset
catalogue = SiteCatalogue(gate, store=PlanStore("gate", sys.argv[3]))
answer = catalogue.answer(os.getpid(), site, range(site - 0x400000, site))
assert len(answer) > 32
catalogue.save()
print(*sorted(set(sys.modules) - before))
"""
    base, sites = libc_sites()
    words = [sys.executable, "-c", script, str(base), str(sites[0]), str(tmp_path)]
    cold, warm = (subprocess.run(words, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert "iced_x86._iced_x86_py" in cold.split()
    assert set(warm.split()) <= {
        "trapline.rewriting",
        "trapline.rewriting.catalogue",
        "trapline.rewriting.mappings",
        "trapline.rewriting.store",
        "errno",
        "time",
    }


def test_only_the_extension_module_of_iced_is_loaded() -> None:
    script = """
import sys
from trapline.rewriting.instructions import decode_one
assert decode_one(b"\\x0f\\x05", 0, 0).len == 2
assert "iced_x86" not in sys.modules and "contextlib" not in sys.modules
import iced_x86
assert iced_x86.Decoder(64, b"\\x0f\\x05").decode().mnemonic == iced_x86.Mnemonic.SYSCALL
"""
    subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}"], check=True
    )


# -- sessions ------------------------------------------------------------------------------------------------------


def test_sessions_keep_what_they_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trapline: str, never_matches: str
) -> None:
    words = [trapline, "run", "--engine", "rewrite", "-s", never_matches, "--"]
    words += ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=100000", "status=none"]
    for variable, is_kept in ((str(tmp_path / "plans"), True), ("", False)):
        monkeypatch.setenv("TRAPLINE_PLAN_CACHE", variable)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for _ in range(2):
            run = subprocess.run(words, capture_output=True, text=True, check=True)
            assert run.stderr == ""
        assert (tmp_path / "plans").exists()
        assert not (tmp_path / "cache").exists()
        if is_kept:
            assert list((tmp_path / "plans").iterdir())
