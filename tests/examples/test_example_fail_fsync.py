"""examples/fail_fsync.py, and the rule that does the same"""

from __future__ import annotations

import pathlib

import pytest

from example_runs import TRAPLINE, Run, execute, needed

ADD = "insert into t values (2)"
RULE = [str(TRAPLINE), "run", "-e", "fsync,fdatasync:error=EIO:when=3", "--"]


@pytest.fixture
def database(tmp_path: pathlib.Path, native: Run) -> str:
    needed("sqlite3")
    path = str(tmp_path / "test.db")
    made = native("sqlite3", path, "pragma journal_mode=delete; create table t (n); insert into t values (1)")
    assert made.returncode == 0
    return path


def assert_is_whole_and_unchanged(native: Run, database: str) -> None:
    done = native("sqlite3", database, "pragma integrity_check; select n from t order by n")
    assert done.stdout == "ok\n1\n"


def test_transaction_natively_succeeds(database: str, native: Run) -> None:
    assert native("sqlite3", database, ADD).returncode == 0
    assert native("sqlite3", database, "select count(*) from t").stdout == "2\n"


def test_sqlite_reports_the_third_fsync_and_the_database_is_whole(
    database: str, native: Run, hooked: Run
) -> None:
    done = hooked("fail_fsync", "sqlite3", database, ADD)
    assert done.returncode != 0
    assert "disk I/O error" in done.stderr
    assert "number 3 fails: /" in done.stderr
    assert_is_whole_and_unchanged(native, database)


def test_rule_without_python_does_the_same(database: str, native: Run) -> None:
    done = execute([*RULE, "sqlite3", database, ADD])
    assert done.returncode != 0
    assert "disk I/O error" in done.stderr
    assert_is_whole_and_unchanged(native, database)


def test_only_files_that_match_are_counted(database: str, native: Run, hooked: Run) -> None:
    done = hooked("fail_fsync", "sqlite3", database, ADD, settings={"nth": 1, "only": "*-journal"})
    assert f"number 1 fails: {database}-journal" in done.stderr
    assert_is_whole_and_unchanged(native, database)


def test_fewer_syncs_than_that_and_all_is_well(database: str, native: Run, hooked: Run) -> None:
    done = hooked("fail_fsync", "sqlite3", database, ADD, settings={"nth": 1000})
    assert (done.returncode, done.stderr) == (0, "")
    assert native("sqlite3", database, "select count(*) from t").stdout == "2\n"
