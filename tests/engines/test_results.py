"""Hooks that see what calls return."""

from __future__ import annotations

import os
import subprocess

import pytest

import trapline as library
from trapline import Errno, arg, on, on_return


def test_a_hook_on_return_sees_result_and_error(result_engine, calls, sys):
    seen = []

    @on_return("openat", "getppid")
    def log(call):
        if call.name == "getppid" or call.path in ("/dev/null", "/no/such"):
            seen.append((call.name, call.returned, call.result, call.error))

    words = [sys("openat", -100, "s:/dev/null", 0), sys("openat", -100, "s:/no/such", 0), sys("getppid")]
    lines = calls(words, [log], engine=result_engine)
    assert seen == [
        ("openat", True, int(lines[0]), None),
        ("openat", True, -2, Errno.ENOENT),
        ("getppid", True, os.getpid(), None),
    ]


@pytest.mark.parametrize("kind", ["dynamic", "static", "32"])
def test_a_hook_on_return_replaces_the_result_or_keeps_it(result_engine, calls, sys, kind):
    arch = "i386" if kind == "32" else "x86_64"

    @on_return("getpid", "getppid", "getuid", "getgid")
    def change(call):
        if call.name == "getpid":
            return call.reply(77)
        if call.name == "getppid":
            return call.fail(Errno.EIO)
        return call.proceed() if call.name == "getuid" else None

    words = [sys(name, arch=arch) for name in ("getpid", "getppid", "getuid", "getgid")]
    lines = calls(words, [change], kind=kind, engine=result_engine)
    assert lines == ["77", "-5", str(os.getuid()), str(os.getgid())]


def test_before_a_call_returns_there_is_no_result(result_engine, calls, sys):
    @on("getppid")
    def early(call):
        assert not call.returned
        for name in ("result", "error"):
            with pytest.raises(AttributeError, match="no result yet"):
                getattr(call, name)

    calls([sys("getppid")], [early], engine=result_engine)


def test_a_call_that_two_hooks_see_counts_once(result_engine, calls, sys):
    order = []

    @on("getppid")
    def first(call):
        order.append(("first", call.returned))

    @on_return("getppid")
    def second(call):
        order.append(("second", call.result))
        return call.reply(5)

    assert calls([sys("getppid"), sys("getppid")], [second, first], engine=result_engine) == ["5", "5"]
    assert order == [("first", False), ("second", os.getpid())] * 2
    assert calls.done.stats.calls["getppid"] == 2


def test_a_hook_on_return_sees_what_another_made_up(result_engine, calls, sys):
    seen = []

    @on("getpid", "getppid", "openat")
    def make_up(call):
        if call.name == "openat":
            return call.reply_fd(b"text") if call.path == "/virtual" else None
        return call.reply(1234) if call.name == "getpid" else call.fail(Errno.EPERM)

    @on_return("getpid", "getppid", "openat")
    def see(call):
        if call.name != "openat" or call.path == "/virtual":
            seen.append((call.name, call.result))
            return call.reply(call.result + 1) if call.name == "getpid" else None

    words = [sys("getpid"), sys("getppid"), sys("openat", -100, "s:/virtual", 0), "cat $"]
    lines = calls(words, [make_up, see], engine=result_engine)
    assert lines[:2] == ["1235", "-1"]
    assert lines[3] == "text"
    assert seen == [("getpid", 1234), ("getppid", -1), ("openat", int(lines[2]))]


def test_the_last_of_several_results_counts_and_the_first_decision_ends_it(result_engine, calls, sys):
    @on_return("getppid")
    def indifferent(call):
        return None

    @on_return("getppid")
    def decides(call):
        return call.reply(1)

    @on_return("getppid")
    def never(call):
        raise AssertionError("the call was decided")

    assert calls([sys("getppid")], [indifferent, decides, never], engine=result_engine) == ["1"]


def test_conditions_hold_for_the_hooks_they_were_given_for(result_engine, calls, sys):
    before, after = [], []

    @on("getpriority", when=arg("who") == 1)
    def one(call):
        before.append(call.args.who)

    @on_return("getpriority", when=arg("who") == 2)
    def two(call):
        after.append(call.args.who)

    calls([sys("getpriority", 3, who) for who in range(4)], [one, two], engine=result_engine)
    assert (before, after) == ([1], [2])


def test_hooks_on_every_call_and_on_one_are_both_asked(result_engine, calls, sys):
    seen = []

    @on("*")
    def every(call):
        if call.name in ("getppid", "getuid"):
            seen.append((call.name, "before"))

    @on_return("getppid")
    def one(call):
        seen.append((call.name, "after"))

    calls([sys("getppid"), sys("getuid")], [every, one], engine=result_engine)
    assert seen == [("getppid", "before"), ("getppid", "after"), ("getuid", "before")]


def test_every_call_that_returns_can_be_seen_and_none_changes_for_it(result_engine, victim):
    seen = set()

    @on_return("*")
    def every(call):
        seen.add(call.name)

    command = ["sh", "-c", "echo $(id -u); ls / | wc -l; exec cat /proc/self/comm"]
    native = subprocess.run(command, capture_output=True)
    done = library.run(command, hooks=[every], engine=result_engine, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, native.stdout, native.stderr)
    assert {"execve", "openat", "mmap", "wait4", "write"} <= seen
    assert "exit_group" not in seen


def test_a_coroutine_sees_results_too(result_engine, calls, sys):
    seen = []

    @on("getppid")
    async def before(call):
        return call.reply(9) if seen else None

    @on_return("getppid")
    async def after(call):
        seen.append(call.result)
        return call.reply(call.result + 1)

    lines = calls([sys("getppid"), sys("getppid")], [before, after], engine=result_engine)
    assert seen == [os.getpid(), 9]
    assert lines == [str(os.getpid() + 1), "10"]


def test_a_descriptor_can_be_the_result_after_all(result_engine, calls, sys):
    @on_return("openat")
    def serve(call):
        if call.path == "/no/such":
            assert call.error is Errno.ENOENT
            return call.reply_fd(b"instead")

    lines = calls([sys("openat", -100, "s:/no/such", 0), "cat $"], [serve], engine=result_engine)
    assert lines[1] == "instead"


def test_memory_that_the_call_has_filled_can_be_read_and_changed(result_engine, tmp_path):
    (tmp_path / "file").write_text("secret\n")

    @on_return("read")
    def censor(call):
        if call.result > 0 and call.fd_path(call.args.fd) == str(tmp_path / "file"):
            data = call.read(call.args.buf, call.result)
            call.write(call.args.buf, data.replace(b"secret", b"public"))

    done = library.run(
        ["cat", str(tmp_path / "file")], hooks=[censor], engine=result_engine, capture_output=True
    )
    assert done.stdout == b"public\n"


@pytest.mark.parametrize("how", ["eintr", "restart", "stop", "ignored"])
def test_an_interrupted_call_is_seen_when_it_is_over_and_only_then(result_engine, victim, how):
    command = [victim("interrupted"), how]
    native = subprocess.run(command, capture_output=True, text=True).stdout
    seen, begun = [], []

    @on_return("read", "clock_nanosleep")
    def see(call):
        if call.name == "clock_nanosleep" or call.args.count == 1:
            seen.append(call.result)

    done = library.run(command, hooks=[see], engine=result_engine, capture_output=True, text=True)
    assert done.stdout == native
    assert seen == [{"eintr": -4, "restart": 1}.get(how, 0)]

    # Once more with a hook before it: what is made again is decided again, what merely goes on is not.
    @on("read", "clock_nanosleep")
    def begin(call):
        if call.name == "clock_nanosleep" or call.args.count == 1:
            begun.append(call.name)

    done = library.run(command, hooks=[begin, see], engine=result_engine, capture_output=True, text=True)
    assert done.stdout == native
    assert len(begun) == (2 if how == "restart" else 1)


@pytest.mark.parametrize("kind", ["dynamic", "32"])
def test_the_failure_of_an_interrupted_call_can_be_replaced(result_engine, victim, kind):
    @on_return("read")
    def see(call):
        if call.error is Errno.EINTR:
            return call.reply(0)

    done = library.run(
        [victim("interrupted", kind), "eintr"],
        hooks=[see], engine=result_engine, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "0 0 1\n"


def test_threads_that_see_results_do_not_wait_for_each_other(result_engine, victim):
    import threading

    arrived = threading.Barrier(4, timeout=60)

    @on_return("getpriority")
    def together(call):
        arrived.wait()
        return call.reply(call.args.who + 1)

    done = library.run(
        [victim("stress"), "4", "3", "0", "0", "restart"],
        hooks=[together], engine=result_engine, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert done.stdout.split()[0] == "12"
