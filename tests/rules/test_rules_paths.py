"""Rules about paths: they are compared in the supervisor, on every engine."""

from __future__ import annotations

import errno


def test_a_path_rule_matches_every_spelling_and_nothing_else(every, calls, sys, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("secret", "sub/secret", "open"):
        (tmp_path / name).write_text("")
    rule = f"open,openat:path={tmp_path}/*secret:error=EACCES"
    words = [
        sys("open", "s:secret", 0),
        sys("open", "s:./sub/../secret", 0),
        sys("open", "s:sub//secret", 0),
        sys("open", "s:open", 0),
        sys("openat", -100, f"e:{tmp_path}/secret", 0),
        sys("openat", -100, "s:/etc/hosts", 0),
        sys("openat", -100, "p:", 0),
    ]
    lines = calls(words, [rule], every, cwd=tmp_path)
    assert lines == ["-13", "-13", "-13", "3", "-13", "4", str(-errno.EFAULT)]


def test_a_path_rule_looks_at_both_paths_of_a_call(every, calls, sys, tmp_path):
    rule = f"rename,renameat2:path={tmp_path}/kept:error=EPERM"
    words = [
        sys("rename", "s:kept", "s:x"),
        sys("rename", "s:x", "s:kept"),
        sys("renameat2", -100, "s:x", -100, "s:kept", 0),
        sys("rename", "s:x", "s:y"),
    ]
    assert calls(words, [rule], every, cwd=tmp_path) == ["-1", "-1", "-1", "-2"]


def test_a_path_rule_for_all_calls_is_for_those_with_paths(every, calls, sys, tmp_path):
    rules = [f"*:path={tmp_path}/kept:error=EPERM", "mkdir:error=EIO"]
    words = [
        sys("rename", "s:kept", "s:x"),
        sys("mkdir", "s:kept", 0),
        sys("mkdir", "s:x", 0),
        sys("getgid"),
        "sys 999",
    ]
    lines = calls(words, rules, every, cwd=tmp_path)
    assert lines[:3] == ["-1", "-1", "-5"]
    assert lines[4] == "-38"
    assert calls.done.stats.rules == {rules[0]: 2}


def test_a_colon_in_a_path_is_escaped(every, calls, sys, tmp_path):
    rule = f"mkdir:path={tmp_path}/a\\:b:error=EPERM"
    assert calls([sys("mkdir", "s:a:b", 0)], [rule], every, cwd=tmp_path) == ["-1"]


def test_when_counts_over_threads_and_processes_and_only_what_matches(every, calls, sys, tmp_path):
    rule = f"mkdir:path={tmp_path}/*:when=3:error=EPERM"
    words = [
        sys("mkdir", "s:a", 0),
        sys("mkdir", "s:/proc/x", 0),
        "thread " + sys("mkdir", "s:b", 0),
        "fork " + sys("mkdir", "s:c", 0),
        sys("mkdir", "s:d", 0),
    ]
    lines = calls(words, [rule], every, cwd=tmp_path)
    assert lines[0] == "0"
    assert lines[2:] == ["0", "-1", "0"]
