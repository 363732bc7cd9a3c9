"""Descriptors as answers."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile

import pytest

from trapline import on

OPEN = ("openat", -100)


def test_reply_fd_of_bytes_is_a_sealed_read_only_file(engine, calls, sys):
    @on("openat")
    def hook(call):
        if call.path == "/virtual":
            return call.reply_fd(b"served\n")

    lines = calls(
        [sys(*OPEN, "s:/virtual", os.O_RDWR), "cat $", sys("write", "$", "s:x", 1)],
        [hook],
        engine=engine,
    )
    assert int(lines[0]) >= 3
    assert lines[1] == "served"
    assert lines[3] == str(-errno.EBADF)


def test_reply_fd_of_an_empty_reply_reads_as_an_empty_file(engine, calls, sys):
    @on("openat")
    def hook(call):
        return call.reply_fd(b"") if call.path == "/virtual" else None

    assert calls([sys(*OPEN, "s:/virtual", 0), "cat $"], [hook], engine=engine)[1:] == [""]


def test_reply_fd_of_four_megabytes_arrives_whole(engine, calls, sys):
    data = os.urandom(4 << 20)

    @on("openat")
    def hook(call):
        return call.reply_fd(memoryview(data)) if call.path == "/virtual" else None

    words = [sys(*OPEN, "s:/virtual", 0), sys("lseek", "$", -1, 2), sys("lseek", 3, 0, 2)]
    lines = calls(words, [hook], engine=engine)
    assert lines[0] == "3"
    assert lines[1:] == [str(len(data) - 1), str(len(data))]


def test_reply_fd_of_a_file_object_is_flushed_and_shares_its_offset(engine, calls, sys):
    with tempfile.TemporaryFile("w+") as file:
        file.write("first second")
        file.flush()
        file.seek(6)
        os.lseek(file.fileno(), 6, os.SEEK_SET)

        @on("openat")
        def hook(call):
            return call.reply_fd(file) if call.path == "/virtual" else None

        assert calls([sys(*OPEN, "s:/virtual", 0), "cat $"], [hook], engine=engine)[1:] == ["second"]
        assert not file.closed
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 12


def test_reply_fd_of_a_descriptor_leaves_it_open_here(engine, calls, sys):
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)

    @on("openat")
    def hook(call):
        return call.reply_fd(reader) if call.path == "/virtual" else None

    try:
        assert calls([sys(*OPEN, "s:/virtual", 0), "cat $"], [hook], engine=engine)[1:] == ["through a pipe"]
        fcntl.fcntl(reader, fcntl.F_GETFD)
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("flags", "forced", "expected"),
    [(0, None, "0"), (os.O_CLOEXEC, None, "1"), (0, True, "1"), (os.O_CLOEXEC, False, "0")],
)
def test_reply_fd_is_close_on_exec_as_the_call_asked_or_the_hook_says(
    engine, calls, sys, flags, forced, expected
):
    @on("openat")
    def hook(call):
        return call.reply_fd(b"x", cloexec=forced) if call.path == "/virtual" else None

    assert calls([sys(*OPEN, "s:/virtual", flags), "cloexec $"], [hook], engine=engine)[1:] == [expected]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            ("openat2", -100, "s:/virtual", "h:" + os.O_CLOEXEC.to_bytes(8, "little").hex() + "00" * 16, 24),
            "1",
        ),
        (("openat2", -100, "s:/virtual", "h:" + "00" * 24, 24), "0"),
        (("socket", 2, 1 | 0o2000000, 0), "1"),
        (("socket", 2, 1, 0), "0"),
        (("accept4", 0, 0, 0, 0o2000000), "1"),
        (("accept", 0, 0, 0), "0"),
        (("memfd_create", "s:x", 1), "1"),
        (("memfd_create", "s:x", 0), "0"),
        (("eventfd2", 0, 0o2000000), "1"),
        (("dup3", 0, 50, 0o2000000), "1"),
        (("fcntl", 0, fcntl.F_DUPFD_CLOEXEC, 0), "1"),
    ],
)
def test_reply_fd_knows_where_each_call_says_close_on_exec(engine, calls, sys, call, expected):
    @on(call[0])
    def hook(found):
        return found.reply_fd(b"x") if found.args[0] in (-100, 0, 2) or found.name == "memfd_create" else None

    # fcntl itself is hooked in one case, so the flag is asked for last, with another command.
    if call[0] == "fcntl":

        @on("fcntl")
        def hook(found):
            return found.reply_fd(b"x") if found.args.cmd == fcntl.F_DUPFD_CLOEXEC else None

    assert calls([sys(*call), "cloexec $"], [hook], engine=engine)[1:] == [expected]


def test_reply_fd_into_a_full_table_is_emfile(engine, calls, sys):
    @on("openat")
    def hook(call):
        return call.reply_fd(b"x") if call.path == "/virtual" else None

    # A tracer passes a file through a pair of sockets, which need room as well where the limit cannot be raised.
    room = [5] if engine == "notify" else [7, 6, 5]
    words = [
        "fill",
        sys(*OPEN, "s:/virtual", 0),
        sys("getppid"),
        *[sys("close", fd) for fd in room],
        sys(*OPEN, "s:/virtual", 0),
        "cat $",
    ]
    lines = calls(words, [hook], engine=engine)
    assert lines[0] == str(-errno.EMFILE)
    assert lines[-2:] == ["5", "x"]


def test_reply_fd_leaves_no_descriptor_behind_here_when_another_decision_follows(engine, calls, sys):
    @on("openat")
    def hook(call):
        if call.path == "/virtual":
            call.reply_fd(b"not this")
            return call.reply_fd(b"but this")

    assert calls([sys(*OPEN, "s:/virtual", 0), "cat $"], [hook], engine=engine)[1:] == ["but this"]
