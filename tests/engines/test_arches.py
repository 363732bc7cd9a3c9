"""Calls by other conventions than the native one, and what their arguments mean."""

from __future__ import annotations

import errno
import os

import pytest

from trapline import Errno, abi, arg, on

X32 = 0x40000000


@pytest.fixture
def sys32(sys):
    return lambda name, *arguments: sys(name, *arguments, arch="i386")


def int80(name, *arguments):
    return " ".join(["int80", str(abi.number(name, "i386")), *map(str, arguments)])


def test_a_32_bit_program_is_hooked_by_the_same_names(engine, calls, sys32):
    seen = []

    @on("open", "getppid", "openat")
    def hook(call):
        seen.append((call.arch, call.name, call.nr))
        if call.name == "getppid":
            return call.reply(-7)
        return call.reply_fd(b"thirty-two") if call.path == "/virtual" else None

    words = [sys32("open", "c:/virtual", 0), "cat $", sys32("getppid")]
    assert calls(words, [hook], kind="32", engine=engine)[1:] == ["thirty-two", "-7"]
    assert ("i386", "open", 5) in seen
    assert ("i386", "getppid", 64) in seen


def test_a_32_bit_program_reads_as_one(engine, calls, sys32):
    @on("write")
    def hook(call):
        if call.args.fd == 77:
            assert call.read(call.args.buf, call.args.count) == b"hello"
            assert call.args.buf < 1 << 32
            return call.reply(5)

    assert calls([sys32("write", 77, "e:hello", 5)], [hook], kind="32", engine=engine) == ["5"]


def test_calls_inside_socketcall_are_found_by_their_own_names(engine, calls, sys32):
    seen = []

    @on("socket")
    def socket(call):
        seen.append((call.name, call.args.family, call.args[1]))
        return call.fail(Errno.EAFNOSUPPORT)

    @on("bind")
    def bind(call):
        seen.append((call.name, call.args.fd))
        return call.reply(11)

    words = [
        sys32("socketcall", 1, "h:0a0000000100000000000000"),
        sys32("socketcall", 2, "h:630000000000000000000000"),
        sys32("socketcall", 99, "h:00"),
        sys32("socket", 10, 2, 0),
    ]
    lines = calls(words, [socket, bind], kind="32", engine=engine)
    assert lines == [str(-errno.EAFNOSUPPORT), "11", str(-errno.EINVAL), str(-errno.EAFNOSUPPORT)]
    assert seen == [("socket", 10, 1), ("bind", 99), ("socket", 10, 2)]


def test_a_condition_holds_for_calls_inside_socketcall(engine, calls, sys32):
    @on("socket", when=arg("family") == 10)
    def hook(call):
        return call.fail(Errno.EAFNOSUPPORT)

    words = [
        sys32("socketcall", 1, "h:0a0000000100000000000000"),
        sys32("socketcall", 1, "h:010000000100000000000000"),
    ]
    assert calls(words, [hook], kind="32", engine=engine) == [str(-errno.EAFNOSUPPORT), "3"]


def test_a_rule_applies_inside_socketcall(engine, calls, sys32):
    words = [sys32("socketcall", 1, "h:0a0000000100000000000000"), sys32("socketcall", 2, "h:00")]
    assert calls(words, kind="32", rules=["socket:error=EMFILE"], engine=engine) == [
        "-24",
        str(-errno.ENOTSOCK),
    ]


def test_calls_inside_ipc_are_found_by_their_own_names(engine, calls, sys32):
    seen = []

    @on("msgget", "shmget")
    def hook(call):
        seen.append((call.name, call.args.key))
        return call.reply(5)

    words = [
        sys32("ipc", 13, 77, 0, 0, 0),
        sys32("ipc", 23, 78, 4096, 0, 0),
        sys32("ipc", 2, 79, 99999999, 0, 0),
    ]
    assert calls(words, [hook], kind="32", engine=engine)[:2] == ["5", "5"]
    assert seen == [("msgget", 77), ("shmget", 78)]


def test_int80_from_a_64_bit_program_is_seen_as_what_it_is(engine, calls):
    seen = []

    @on("openat", "open", "getppid", "mkdir")
    def hook(call):
        seen.append((call.arch, call.name))
        if call.path == "/virtual":
            return call.reply_fd(b"by int80")
        return call.reply(9) if call.name == "getppid" else None

    words = [int80("open", "s:/virtual", 0), "cat $", int80("getppid")]
    assert calls(words, [hook], engine=engine)[1:] == ["by int80", "9"]
    assert ("i386", "open") in seen
    assert ("i386", "getppid") in seen


def test_a_number_means_another_call_by_another_convention(engine, calls, tmp_path):
    """39 is getpid by `syscall` and mkdir by `int $0x80`: the filter has to look at the convention first."""

    @on("mkdir")
    def hook(call):
        return call.fail(Errno.EROFS)

    words = ["sys 39", f"int80 39 s:{tmp_path}/x 0", int80("getpid")]
    lines = calls(words, [hook], engine=engine)
    assert lines[0] == lines[2]
    assert lines[1] == str(-errno.EROFS)


@pytest.mark.parametrize("number", [X32 | 39, X32 | 257, X32 | 512, X32 | 999])
def test_x32_numbers_do_not_slip_through(engine, calls, number):
    @on("openat")
    def hook(call):
        return None

    assert calls([f"sys {number} -100 s:/etc/hosts 0"], [hook], engine=engine) == [str(-errno.ENOSYS)]


def test_garbage_in_upper_halves_is_no_part_of_an_argument(engine, calls, sys):
    seen = []

    @on("write", when=arg("fd") == 77)
    def hook(call):
        seen.append((call.args.fd, call.args.count, call.raw[0]))
        return call.reply(1)

    @on("getpriority", when=arg("who") < 0)
    def priority(call):
        return call.reply(call.args.who - 5000)

    words = [
        sys("write", "0xdeadbeef0000004d", "s:x", 1),
        sys("write", "0x4d00000001", "s:", 0),
        sys("getpriority", 0, "0x00000000ffffffff"),
        sys("getpriority", 0, "0xffffffff00000001"),
    ]
    lines = calls(words, [hook, priority], engine=engine)
    assert lines[0] == "1"
    assert lines[-2] == "-5001"
    assert lines[-1] != "-4999"
    assert seen == [(77, 1, 0xDEADBEEF0000004D)]


def test_flags_are_flag_words_with_names(engine, calls, sys):
    seen = []

    @on("openat")
    def hook(call):
        if call.path == "/virtual":
            seen.append(call.args.flags)
            return call.reply(0)

    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    calls([sys("openat", -100, "s:/virtual", flags | (0xBAD << 32), 0)], [hook], engine=engine)
    assert seen == [flags]
    assert "O_CREAT" in repr(seen[0])
    assert "O_CLOEXEC" in repr(seen[0])


def test_the_instruction_pointer_is_just_behind_the_call(engine, calls, sys):
    seen = []

    @on("getppid")
    def hook(call):
        seen.append(call.read(call.ip - 2, 2))

    calls([sys("getppid"), int80("getppid")], [hook], engine=engine)
    assert seen[0] == b"\x0f\x05"
    assert b"\xcd\x80" in seen or len(seen) == 2


def test_args_answer_by_name_by_position_and_as_a_whole(engine, calls, sys):
    @on("openat")
    def hook(call):
        if call.path != "/virtual":
            return None
        args = call.args
        assert (args.dfd, args[0], args[1]) == (-100, -100, args.filename)
        assert len(args) == 4
        assert next(iter(args)) == -100
        assert dir(args)[:2] == ["dfd", "filename"]
        assert repr(args).startswith("(dfd=-100, filename=")
        with pytest.raises(AttributeError, match="only dfd, filename"):
            args.path  # noqa: B018
        return call.reply(1)

    assert calls([sys("openat", -100, "s:/virtual", 0, 0)], [hook], engine=engine) == ["1"]
