"""Hooks that change what the kernel gets, and descriptors that they hand over."""

from __future__ import annotations

import os
import tempfile

import pytest

import trapline as library
from trapline import on, on_return


@pytest.fixture
def calls(victim, inside):
    """``calls(words, hooks)`` runs the ``caller`` victim under these hooks and returns its lines."""

    def start(words, hooks, kind="dynamic", **options):
        done = library.run(
            [victim("caller", kind), *words],
            hooks=hooks,
            engine=inside,
            capture_output=True,
            text=True,
            **options,
        )
        assert done.returncode == 0, done
        return done.stdout.splitlines()

    return start


def test_a_number_can_be_changed(calls):
    @on("close", changes_args=True)
    def hook(call):
        if call.args.fd == 777:
            call.write_arg("fd", 9999)

    seen = []

    @on_return("close")
    def after(call):
        seen.append(call.args.fd)

    assert calls(["sys 3 777"], [hook, after]) == ["-9"]


@pytest.mark.parametrize("size", [0, 1, 11, 4096, 100_000, 3_000_000])
def test_data_can_be_shorter_longer_and_huge_and_the_callers_own_stays(calls, tmp_path, size):
    path = tmp_path / "written"
    data = os.urandom(size)

    @on("write", changes_args=True)
    def hook(call):
        if call.read(call.args.buf, min(call.args.count, 5)) == b"hello":
            call.write_arg("buf", data)
            call.write_arg("count", len(data))

    lines = calls([f"sys 2 s:{path} 0x41 0600", "sys 1 3 r:hello 5", "dump 6"], [hook])
    assert lines[1] == str(size)
    assert lines[2] == b"hello\0".hex()
    assert path.read_bytes() == data


def test_a_path_can_be_another(calls, tmp_path):
    (tmp_path / "real").write_text("this one")

    @on("open", "openat", changes_args=True)
    def hook(call):
        if call.path == "/somewhere/else":
            call.write_arg("filename", str(tmp_path / "real").encode() + b"\0")

    lines = calls(["sys 2 s:/somewhere/else 0", "cat $", "sys 257 -100 s:/somewhere/else 0", "cat $"], [hook])
    assert lines[1] == lines[3] == "this one"


def test_changed_arguments_are_the_changed_call_s_alone(calls, tmp_path):
    path = tmp_path / "log"
    times = []

    @on("write", changes_args=True)
    def hook(call):
        data = call.read(call.args.buf, call.args.count)
        if data.startswith(b"line"):
            times.append(data)
            if len(times) == 2:
                call.write_arg("buf", data.upper())

    lines = calls(
        [f"sys 2 s:{path} 0x441 0600", "sys 1 3 e:lineone 7", "sys 1 3 e:linetwo 7", "sys 1 3 e:linethree 9"],
        [hook],
    )
    assert lines[1:] == ["7", "7", "9"]
    assert path.read_text() == "lineoneLINETWOlinethree"


def test_arguments_can_be_changed_for_a_call_that_the_hook_performs(calls):
    @on("lseek", changes_args=True)
    def hook(call):
        call.write_arg("fd", 9999)
        assert call.perform() == -9
        return call.reply(123)

    assert calls(["sys 8 0 0 0"], [hook]) == ["123"]


def test_threads_change_their_arguments_at_the_same_time(victim, inside, tmp_path):
    """Each thread's copy for the kernel is its own."""
    path = tmp_path / "out"

    @on("write", changes_args=True)
    def hook(call):
        data = call.read(call.args.buf, call.args.count)
        if data == b"xxxxxxxx":
            call.write_arg("buf", b"%08d" % call.tid)

    words = [f"sys 2 s:{path} 0x441 0600"]
    words += ["thread sys 1 3 e:xxxxxxxx 8"] * 20
    done = library.run(
        [victim("caller"), *words], hooks=[hook], engine=inside, capture_output=True, text=True
    )
    assert done.returncode == 0
    written = path.read_bytes()
    assert len(written) == 160
    assert b"x" not in written


def test_a_descriptor_answers_and_its_flags_are_as_asked(calls):
    @on("open", "openat")
    def hook(call):
        return call.reply_fd(b"virtual text") if call.path == "/virtual" else None

    lines = calls(
        [
            "sys 2 s:/virtual 0",
            "cloexec $",
            "cat $",
            "sys 2 s:/virtual 0x80000",
            "cloexec $",
            "sys 2 s:/virtual 0",
        ],
        [hook],
    )
    assert lines[1:3] == ["0", "virtual text"]
    assert lines[4] == "1"


def test_a_file_and_a_socket_can_be_handed_over(calls):
    import socket

    ours, theirs = socket.socketpair()
    ours.send(b"through a socket")
    ours.shutdown(socket.SHUT_WR)
    file = tempfile.TemporaryFile()
    file.write(b"through a file")
    file.seek(0)

    @on("open")
    def hook(call):
        return {"/file": call.reply_fd, "/socket": call.reply_fd}.get(call.path, lambda fd: None)(
            file if call.path == "/file" else theirs
        )

    lines = calls(["sys 2 s:/file 0", "cat $", "sys 2 s:/socket 0", "cat $"], [hook])
    assert (lines[1], lines[3]) == ("through a file", "through a socket")
    for each in (ours, theirs, file):
        each.close()


def test_a_full_table_of_descriptors_is_the_callers_error(calls):
    @on("open")
    def hook(call):
        return call.reply_fd(b"text") if call.path == "/virtual" else None

    assert calls(["fill", "sys 2 s:/virtual 0"], [hook])[-1] == "-24"


def test_memory_of_the_caller_is_read_and_written_as_natively(calls):
    got = []

    @on("ustat")
    def hook(call):
        got.append(call.read_str(call.raw[0]))
        call.write(call.raw[1], b"\x01\x02\x03")
        return call.reply(0)

    assert calls(["sys 136 e:text b:8", "dump 4"], [hook]) == ["0", "01020300"]
    assert got == ["text"]


def test_a_process_s_ids_and_place_are_right_in_children_and_threads(calls):
    seen = []

    @on("getuid")
    def hook(call):
        seen.append((call.pid == call.tid, call.process.comm, call.ip > 0))
        return call.reply(1)

    assert calls(["sys 102", "thread sys 102", "fork sys 102", "vfork sys 102"], [hook]) == ["1"] * 4
    assert seen == [
        (True, seen[0][1], True),
        (False, seen[1][1], True),
        (True, seen[0][1], True),
        (True, seen[0][1], True),
    ]


@pytest.mark.limit("sud", "calls of 32-bit programs are not seen")
@pytest.mark.limit("rewrite", "calls of 32-bit programs are not seen")
def test_a_32_bit_program_has_hooks(calls):
    @on("getppid")
    def hook(call):
        return call.reply(7)

    assert calls(["sys 64"], [hook], kind="32") == ["7"]


def test_calls_by_int80_are_hooked_by_the_same_names(calls):
    seen = []

    @on("getppid")
    def hook(call):
        seen.append((call.arch, call.nr))
        return call.reply(7)

    assert calls(["int80 64", "sys 110"], [hook]) == ["7", "7"]
    assert seen == [("i386", 64), ("x86_64", 110)]
