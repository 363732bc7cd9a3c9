"""Decisions, and who gets to take them."""

from __future__ import annotations

import errno
import io
import os

import pytest

from trapline import Errno, HookError, UsageError, on
from trapline.errors import UnknownSyscallError

OPEN = ("openat", -100)


def test_fail_is_what_the_caller_gets(engine, calls, sys):
    @on("getppid")
    def hook(call):
        return call.fail(Errno.EHOSTDOWN)

    assert calls([sys("getppid")], [hook], engine=engine) == [str(-errno.EHOSTDOWN)]


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**63 - 1, -(2**63), -5000])
def test_reply_is_the_result_with_all_64_bits(engine, calls, sys, value):
    @on("getppid")
    def hook(call):
        return call.reply(value)

    assert calls([sys("getppid")], [hook], engine=engine) == [str(value)]


def test_a_failing_call_never_reaches_the_kernel(engine, calls, sys, tmp_path):
    @on("mkdir")
    def hook(call):
        return call.fail(Errno.EACCES)

    assert calls([sys("mkdir", f"s:{tmp_path}/made", 0o755)], [hook], engine=engine) == ["-13"]
    assert not (tmp_path / "made").exists()


def test_none_lets_the_kernel_perform_the_call_unchanged(engine, calls, sys, tmp_path):
    seen = []

    @on("mkdir")
    def hook(call):
        seen.append((call.path, call.args.mode))

    assert calls([sys("mkdir", f"s:{tmp_path}/made", 0o750)], [hook], engine=engine) == ["0"]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o750
    assert seen == [(f"{tmp_path}/made", 0o750)]


def test_proceed_ends_the_decision_in_favour_of_the_kernel(engine, calls, sys, tmp_path):
    @on("mkdir")
    def first(call):
        return call.proceed()

    @on("mkdir")
    def second(call):
        return call.fail(Errno.EACCES)

    assert calls([sys("mkdir", f"s:{tmp_path}/made", 0o755)], [first, second], engine=engine) == ["0"]


def test_the_first_decision_wins_in_order_of_registration(engine, calls, sys):
    asked = []

    def make(name, answer):
        @on("getppid")
        def hook(call):
            asked.append(name)
            return None if answer is None else call.reply(answer)

        return hook

    hooks = [make("a", None), make("b", 2), make("c", 3)]
    assert calls([sys("getppid")], hooks, engine=engine) == ["2"]
    assert asked == ["a", "b"]


def test_one_function_may_be_registered_twice_for_one_call(engine, calls, sys):
    asked = []

    @on("getppid")
    @on("getppid", "getuid")
    def hook(call):
        asked.append(call.name)

    calls([sys("getppid"), sys("getuid")], [hook], engine=engine)
    assert asked.count("getuid") == 1
    assert asked.count("getppid") == 2


def test_a_method_of_an_object_is_a_hook_of_that_object(engine, calls, sys):
    class Counter:
        def __init__(self):
            self.count = 40

        @on("getppid")
        def count_up(self, call):
            self.count += 1
            return call.reply(self.count)

    counter = Counter()
    assert calls([sys("getppid")] * 2, [counter.count_up], engine=engine) == ["41", "42"]


def test_star_sees_every_call_but_leaves_them_alone(engine, calls, sys):
    names = set()

    @on("*")
    def hook(call):
        names.add(call.name)

    assert calls([sys("getuid"), "sys 1000"], [hook], engine=engine) == [
        str(os.getuid()),
        "-38",
    ]
    assert {"execve", "openat", "getuid", "syscall_1000", "exit_group"} <= names


def test_star_and_a_name_are_asked_in_order_of_registration(engine, calls, sys):
    asked = []

    @on("*", when=None)
    def star(call):
        if call.name == "getppid":
            asked.append("star")

    @on("getppid")
    def name(call):
        asked.append("name")

    calls([sys("getppid")], [star, name], engine=engine)
    calls([sys("getppid")], [name, star], engine=engine)
    assert asked == ["star", "name", "name", "star"]


@pytest.mark.parametrize("number", [999, 1023, 1024, 4000])
def test_a_number_without_a_name_can_be_given_a_meaning(engine, calls, number):
    @on(f"syscall_{number}")
    def hook(call):
        assert call.nr == number
        assert call.name == f"syscall_{number}"
        return call.reply(call.args.arg0 + call.args[1])

    assert calls([f"sys {number} 40 2"], [hook], engine=engine) == ["42"]


def test_an_unknown_name_is_refused_with_the_name():
    with pytest.raises(UnknownSyscallError, match="opnat"):
        on("opnat")(lambda call: None)


def test_a_function_that_was_not_decorated_is_refused(calls, sys):
    def plain(call):
        return None

    with pytest.raises(UsageError, match="decorate it"):
        calls([sys("getppid")], [plain])


# -- descriptors -------------------------------------------------------------------------------------------------------


def test_the_later_of_two_decisions_of_one_hook_counts(engine, calls, sys):
    @on("getppid")
    def hook(call):
        call.fail(Errno.EIO)
        return call.reply(3)

    assert calls([sys("getppid")], [hook], engine=engine) == ["3"]


# -- kill --------------------------------------------------------------------------------------------------------------


def test_kill_ends_the_process_and_the_call_never_happens(engine, victim, sys, tmp_path):
    import trapline

    @on("mkdir")
    def hook(call):
        return call.kill()

    done = trapline.run(
        [victim("caller"), sys("mkdir", f"s:{tmp_path}/made", 0o755)], hooks=[hook], engine=engine
    )
    assert done.returncode == -9
    assert not (tmp_path / "made").exists()


def test_kill_ends_the_whole_process_when_a_thread_made_the_call(engine, victim, sys):
    import trapline

    @on("getppid")
    def hook(call):
        return call.kill()

    done = trapline.run(
        [victim("caller"), "thread " + sys("getppid")], hooks=[hook], engine=engine, timeout=60
    )
    assert done.returncode == -9


def test_kill_with_a_signal_that_is_not_fatal_ends_the_call(engine, calls, sys):
    @on("getppid")
    def hook(call):
        return call.kill(17)

    assert calls([sys("getppid"), sys("getuid")], [hook], engine=engine) == [
        str(-errno.EINTR),
        str(os.getuid()),
    ]


def test_kill_with_a_chosen_signal_is_how_the_program_ends(engine, victim, sys):
    import trapline

    @on("getppid")
    def hook(call):
        return call.kill(6)

    assert trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine).returncode == -6


# -- hooks that do it wrong --------------------------------------------------------------------------------------------


def wrong_decisions():
    def forgotten(call):
        call.reply(1)

    def number(call):
        return 5

    def true(call):
        return True

    def out_of_range(call):
        return call.fail(0)

    def too_big(call):
        return call.fail(4096)

    def wide(call):
        return call.reply(2**64)

    def no_signal(call):
        return call.kill(65)

    def no_descriptor(call):
        return call.reply_fd(-1)

    def closed_file(call):
        file = io.BytesIO()
        return call.reply_fd(file)

    def raises(call):
        raise KeyError("oops")

    def exits(call):
        raise SystemExit(3)

    return [
        forgotten,
        number,
        true,
        out_of_range,
        too_big,
        wide,
        no_signal,
        no_descriptor,
        closed_file,
        raises,
        exits,
    ]


@pytest.mark.parametrize("function", wrong_decisions(), ids=lambda function: function.__name__)
def test_a_hook_that_does_it_wrong_ends_the_session_with_the_reason(engine, victim, sys, function):
    import trapline

    hook = on("getppid")(function)
    with pytest.raises(HookError, match="getppid") as caught:
        trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine, timeout=60)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("function", wrong_decisions(), ids=lambda function: function.__name__)
@pytest.mark.parametrize(("policy", "expected"), [("fail:EIO", "-5"), ("continue", None)])
def test_a_hook_that_does_it_wrong_is_reported_and_the_call_goes_on(
    engine, calls, sys, function, policy, expected, capfd
):
    hook = on("getppid")(function)
    lines = calls([sys("getppid"), sys("getppid")], [hook], engine=engine, on_hook_error=policy)
    assert lines == [expected or str(os.getpid())] * 2
    said = capfd.readouterr().err
    assert said.count("a hook for getppid raised") == 2


def test_a_failing_hook_does_not_let_later_hooks_decide(engine, calls, sys, capfd):
    @on("getppid")
    def first(call):
        raise ValueError

    @on("getppid")
    def second(call):
        return call.reply(5)

    assert calls([sys("getppid")], [first, second], engine=engine, on_hook_error="fail:EIO") == ["-5"]


def test_the_hook_of_another_call_cannot_be_answered_with_this_one(engine, calls, sys):
    kept = []

    @on("getuid")
    def first(call):
        kept.append(call)

    @on("getppid")
    def second(call):
        with pytest.raises(RuntimeError, match="answered already"):
            kept[0].reply(1)
        return call.reply(8)

    assert calls([sys("getuid"), sys("getppid")], [first, second], engine=engine)[1] == "8"
