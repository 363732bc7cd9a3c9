"""``when=``: what never matches never leaves the program, and what matches is what the hook sees."""

from __future__ import annotations

import errno
import os

import pytest

from trapline import Errno, UsageError, arg, ip, on


def test_calls_that_do_not_match_never_reach_this_process(engine, calls, sys):
    @on("lseek", when=arg("fd") == 77)
    def hook(call):
        return call.reply(1)

    words = [sys("lseek", 77, 0, 1), *[sys("lseek", 0, 0, 1)] * 20]
    assert calls(words, [hook], engine=engine)[0] == "1"
    assert calls.done.stats.received == 1


def test_two_hooks_of_one_call_each_get_only_what_they_asked_for(engine, calls, sys):
    seen = []

    @on("lseek", when=arg("fd") == 77)
    def first(call):
        seen.append(("first", call.args.fd))

    @on("lseek", when=arg("fd") == 78)
    def second(call):
        seen.append(("second", call.args.fd))

    @on("lseek", when=(arg("fd") == 77) | (arg("fd") == 78))
    def third(call):
        seen.append(("third", call.args.fd))
        return call.reply(call.args.fd)

    words = [sys("lseek", fd, 0, 1) for fd in (77, 78, 79)]
    assert calls(words, [first, second, third], engine=engine) == ["77", "78", str(-errno.EBADF)]
    assert seen == [("first", 77), ("third", 77), ("second", 78), ("third", 78)]


def test_a_condition_stands_beside_hooks_without_one_and_beside_star(engine, calls, sys):
    seen = []

    @on("lseek", when=arg("fd") == 77)
    def narrow(call):
        seen.append("narrow")

    @on("*")
    def wide(call):
        if call.name == "lseek":
            seen.append("wide")

    calls([sys("lseek", 77, 0, 1), sys("lseek", 78, 0, 1)], [narrow, wide], engine=engine)
    assert seen == ["narrow", "wide", "wide"]


def test_a_condition_stands_beside_a_rule_of_the_same_call(engine, calls, sys):
    seen = []

    @on("lseek", when=arg("fd") == 77)
    def hook(call):
        seen.append(call.args.fd)
        return call.reply(5)

    words = [sys("lseek", 77, 0, 1), sys("lseek", 78, 0, 1), sys("lseek", 77, 0, 1)]
    lines = calls(words, [hook], rules=["lseek:when=2:error=EIO"], engine=engine)
    assert lines == ["5", "-5", "5"]
    assert seen == [77, 77]


def test_an_async_hook_with_a_condition_beside_another_is_asked_only_for_its_own(engine, calls, sys):
    seen = []

    @on("lseek", when=arg("fd") == 77)
    async def first(call):
        seen.append("first")

    @on("lseek", when=arg("fd") == 78)
    async def second(call):
        seen.append("second")
        return call.reply(1)

    calls([sys("lseek", 77, 0, 1), sys("lseek", 78, 0, 1)], [first, second], engine=engine)
    assert seen == ["first", "second"]


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        (arg("flags").has(os.O_CREAT), {os.O_CREAT, os.O_CREAT | os.O_RDWR}),
        (arg("flags").any(os.O_CREAT | os.O_RDWR), {os.O_CREAT, os.O_RDWR, os.O_CREAT | os.O_RDWR}),
        ((arg("flags") & os.O_ACCMODE) == os.O_RDWR, {os.O_RDWR, os.O_CREAT | os.O_RDWR}),
        (~arg("flags").any(os.O_CREAT) & (arg("dfd") == -100), {0, os.O_RDWR}),
        (arg("flags").isin([0, os.O_CREAT]), {0, os.O_CREAT}),
    ],
    ids=["has", "any", "masked", "not and", "isin"],
)
def test_conditions_on_flags_mean_what_they_say(engine, calls, sys, condition, matches):
    seen = set()

    @on("openat", when=condition)
    def hook(call):
        if call.path == "/virtual":
            seen.add(int(call.args.flags))
            return call.fail(Errno.EDOM)

    tried = [0, os.O_CREAT, os.O_RDWR, os.O_CREAT | os.O_RDWR]
    lines = calls([sys("openat", -100, "s:/virtual", flags, 0) for flags in tried], [hook], engine=engine)
    assert seen == matches
    assert [line == "-33" for line in lines] == [flags in matches for flags in tried]


def test_a_condition_on_the_instruction_pointer_tells_code_from_code(engine, calls, sys):
    """The same call is made by the program through libc, and by libc for itself."""
    seen = []

    @on("getppid", when=~ip.within((0, 0x1000)))
    def outside(call):
        seen.append(call.ip)
        return call.reply(4)

    @on("getppid", when=ip.within((0, 0x1000)))
    def inside(call):
        return call.reply(5)

    assert calls([sys("getppid")], [outside, inside], engine=engine) == ["4"]
    assert seen[0] > 0x1000


def test_a_parameter_that_the_call_does_not_have_is_refused(engine, calls, sys):
    @on("getppid", when=arg("fd") == 1)
    def hook(call):
        return None

    with pytest.raises(UsageError, match="fd"):
        calls([sys("getppid")], [hook], engine=engine)
