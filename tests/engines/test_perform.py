"""Hooks that have the kernel perform their call, and decide with the result in hand."""

from __future__ import annotations

import os

import pytest

import trapline as library
from trapline import CallGoneError, Errno, on, on_return


def test_perform_returns_the_result_and_the_hook_still_decides(result_engine, calls, sys):
    @on("getpid", "getppid", "getuid", "getgid", "openat")
    def hook(call):
        if call.name == "openat" and call.path != "/no/such":
            return None
        result = call.perform()
        assert result == call.result == call.perform()
        if call.name == "getpid":
            return call.reply(result + 1)
        if call.name == "getppid":
            return call.fail(Errno.EIO)
        if call.name == "openat":
            assert call.error is Errno.ENOENT
            return call.reply_fd(b"instead")
        return call.proceed() if call.name == "getuid" else None

    words = [
        "tid",
        sys("getppid"),
        sys("getuid"),
        sys("getgid"),
        sys("openat", -100, "s:/no/such", 0),
        "cat $",
    ]
    lines = calls(words, [hook], engine=result_engine)
    assert lines[1:4] == ["-5", str(os.getuid()), str(os.getgid())]
    assert lines[5] == "instead"


def test_a_call_is_performed_once(result_engine, tmp_path, calls, sys):
    @on("mkdir")
    def hook(call):
        assert call.perform() == 0
        assert (tmp_path / "made").is_dir()
        assert call.perform() == 0

    assert calls([sys("mkdir", f"s:{tmp_path}/made", 0o700)], [hook], engine=result_engine) == ["0"]


def test_hooks_on_return_see_what_was_performed(result_engine, calls, sys):
    seen = []

    @on("getppid")
    def hook(call):
        call.perform()

    @on_return("getppid")
    def see(call):
        seen.append(call.result)
        return call.reply(3)

    assert calls([sys("getppid")], [hook, see], engine=result_engine) == ["3"]
    assert seen == [os.getpid()]


def test_to_perform_on_return_is_to_know_already(result_engine, calls, sys):
    @on_return("getppid")
    def see(call):
        return call.reply(call.perform() + 1)

    assert calls([sys("getppid")], [see], engine=result_engine) == [str(os.getpid() + 1)]


def test_arguments_can_be_changed_before_but_not_after(result_engine, calls, sys):
    @on("openat", changes_args=True)
    def hook(call):
        if call.path != "/no/such":
            return
        call.write_arg("filename", "/dev/null")
        assert call.perform() >= 0
        with pytest.raises(RuntimeError, match="already"):
            call.write_arg("filename", "/dev/zero")

    assert int(calls([sys("openat", -100, "s:/no/such", 0)], [hook], engine=result_engine)[0]) >= 0


def test_one_thread_performs_while_others_are_decided(result_engine, tmp_path, victim):
    os.mkfifo(tmp_path / "fifo")
    done = []

    @on("openat")
    def hook(call):
        if call.path == str(tmp_path / "fifo"):
            done.append(call.perform())

    script = f"cat {tmp_path}/fifo & echo written > {tmp_path}/fifo; wait"
    ran = library.run(
        ["sh", "-c", script], hooks=[hook], engine=result_engine, capture_output=True, timeout=60
    )
    assert ran.stdout == b"written\n"
    assert len(done) == 2


def test_a_call_that_a_signal_interrupts_is_gone_for_who_performs_it(result_engine, victim):
    seen = []

    @on("read")
    def hook(call):
        if call.args.count != 1:
            return
        try:
            seen.append(call.perform())
        except CallGoneError:
            seen.append("gone")
            raise

    done = library.run(
        [victim("interrupted"), "restart"],
        hooks=[hook], engine=result_engine, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "1 0 1\n"
    assert seen == ["gone", 1]


def test_a_process_that_ends_in_its_call_is_gone(result_engine, calls, sys):
    seen = []

    @on("exit_group")
    def hook(call):
        try:
            call.perform()
        except CallGoneError:
            seen.append("gone")
            raise

    calls([sys("getppid")], [hook], engine=result_engine)
    assert seen == ["gone"]
