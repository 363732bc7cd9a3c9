from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from confinement import in_child, libc

from trapline import _native, features

WALL = 0x40000000  # waits for children of every kind


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    return Path("/proc/thread-self/children").read_text().split()


def test_a_probe_that_works_says_so():
    assert _native.probe("self_test_works") == (True, 0, "it works")


def test_a_refusal_carries_its_errno_and_its_name():
    assert _native.probe("self_test_missing") == (False, errno.ENOSYS, "nothing failed with ENOSYS")


def test_a_probe_that_crashes_is_reported_with_its_signal():
    assert _native.probe("self_test_crash") == (False, 0, "the attempt ended with SIGSEGV")


def test_a_probe_that_hangs_is_ended_at_the_deadline_with_what_it_started():
    def hang():
        result = _native.probe("self_test_hang", timeout_ms=50)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, WALL)
        return list(result)

    # As a subreaper the child would inherit whatever the probe left behind.
    assert in_child(lambda: libc.prctl(36, 1, 0, 0, 0), hang) == [
        None,
        errno.ETIMEDOUT,
        "no answer within 50 ms",
    ]


def test_an_unknown_probe_is_a_value_error_that_names_it():
    with pytest.raises(ValueError, match="there is no probe called 'sud_sideways'"):
        _native.probe("sud_sideways")


def test_self_tests_are_not_listed():
    names = _native.probe_names()
    assert len(names) == len(set(names)) > 40
    assert not [name for name in names if name.startswith("self_test")]


def test_ten_rounds_leave_no_child_and_no_descriptor_behind():
    before = descriptors(), children()
    # One probe keeps a CPU busy for 10 ms each time; it has had its turn elsewhere.
    names = [name for name in _native.probe_names() if name != "notify_addfd_send_retry"]
    for _ in range(10):
        for name in names:
            _native.probe(name)
        _native.probe("self_test_crash")
    assert (descriptors(), children()) == before


def test_every_probe_reaps_what_it_started_itself():
    def all_probes():
        left = []
        for name in _native.probe_names():
            _native.probe(name)
            try:
                left.append((name, os.waitpid(-1, WALL | os.WNOHANG)))
            except ChildProcessError:
                continue
        return left

    assert in_child(lambda: libc.prctl(36, 1, 0, 0, 0), all_probes) == []


def test_a_handler_for_sigchld_is_never_called():
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:
        for name in ("self_test_works", "self_test_crash", "notify_listener", "ptrace_seize"):
            _native.probe(name)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert seen == []


def test_ignoring_sigchld_changes_no_answer():
    def answers():
        return [
            list(_native.probe(name)) for name in ("self_test_works", "self_test_crash", "ptrace_traceme")
        ]

    ignored = in_child(lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN), answers)
    assert ignored == answers()


def test_signals_during_a_probe_do_not_end_it_early():
    seen = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        assert _native.probe("self_test_hang", timeout_ms=100)[1] == errno.ETIMEDOUT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen


def test_the_gil_is_free_while_a_probe_runs():
    answers = []
    thread = threading.Thread(target=lambda: answers.append(_native.probe("self_test_hang", timeout_ms=300)))
    start = time.monotonic()
    thread.start()
    steps = 0
    while not answers and time.monotonic() - start < 60:
        steps += 1
    thread.join()
    # With the GIL held throughout, this loop would have had no turn until the answer was there.
    assert steps > 1000


def test_threads_can_probe_at_the_same_time():
    names = (
        "notify_listener",
        "ptrace_seize",
        "seccomp_kill_process",
        "pidfd_getfd",
        "sud_exclusive",
        "arena",
    )
    expected = {name: _native.probe(name) for name in names}
    wrong = []

    def work():
        answers = [(name, _native.probe(name)) for name in names * 5]
        wrong.extend((name, answer) for name, answer in answers if answer != expected[name])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_probing_changes_nothing_in_this_process():
    def state():
        status = Path("/proc/self/status").read_text().splitlines()
        kept = ("Seccomp", "NoNewPrivs", "SigBlk", "SigIgn", "SigCgt", "Uid", "Cap", "TracerPid")
        return [line for line in status if line.startswith(kept)], Path("/proc/self/limits").read_text()

    before = state()
    for name in _native.probe_names():
        _native.probe(name)
    assert state() == before


def test_answers_are_remembered_until_forgotten(monkeypatch):
    calls = []
    monkeypatch.setattr(
        features._native, "probe", lambda name, timeout_ms: calls.append(name) or (True, 0, "")
    )
    features.forget()
    assert features.sud_inclusive()
    assert features.sud_inclusive()
    assert features.probe("sud_inclusive", fresh=True)
    features.forget()
    assert features.sud_inclusive()
    assert calls == ["sud_inclusive"] * 3
    features.forget()


def test_what_could_not_be_tried_is_tried_again(monkeypatch):
    answers = [(None, errno.EAGAIN, "no process"), (True, 0, "")]
    monkeypatch.setattr(features._native, "probe", lambda name, timeout_ms: answers.pop(0))
    features.forget()
    assert not features.pidfd_open()
    assert features.pidfd_open()
    features.forget()
