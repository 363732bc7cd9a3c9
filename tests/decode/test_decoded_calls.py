"""Whole calls as one line."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline import abi, decode
from trapline.abi import ARCHES, structs
from trapline.errors import UnknownSyscallError

BASE = 0x7F0000000000


class Memory:
    """The memory of a pretended program: one page, unreadable around it."""

    def __init__(self, base: int = BASE) -> None:
        self.base = base
        self.data = b""

    def put(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % 8)
        address = self.base + len(self.data)
        self.data += data
        return address

    def read(self, address: int, size: int) -> bytes:
        offset = address - self.base
        page = self.data.ljust(4096, b"\0")
        if not 0 <= offset < len(page):
            raise OSError(14, "Bad address")
        return page[offset : offset + size]


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_opening_a_file(memory: Memory) -> None:
    path = memory.put(b"/etc/hosts\0")
    args = (0xFFFFFF9C, path, 0o2000000, 0xBAD)
    line = decode.call_text("openat", "x86_64", args, memory.read, result=3)
    assert line == 'openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 3'


def test_a_mode_is_shown_where_a_file_may_be_created(memory: Memory) -> None:
    path = memory.put(b"/tmp/x\0")
    line = decode.call_text("open", "x86_64", (path, 0o101, 0xFFFF0000000001A4), memory.read, result=-13)
    assert line == 'open("/tmp/x", O_WRONLY|O_CREAT, 0644) = -1 EACCES (Permission denied)'


def test_without_memory_pointers_are_addresses() -> None:
    line = decode.call_text("openat", "x86_64", (3, BASE, 0, 0))
    assert line == "openat(3, 0x7f0000000000, O_RDONLY)"


def test_memory_that_cannot_be_read_stays_an_address(memory: Memory) -> None:
    assert decode.call_text("chdir", "x86_64", (0x1000,), memory.read) == "chdir(0x1000)"
    assert decode.call_text("chdir", "x86_64", (0,), memory.read) == "chdir(NULL)"


def test_a_string_that_runs_off_its_page_is_shown_as_far_as_it_goes(memory: Memory) -> None:
    memory.data = b"\0" * 4092 + b"abcd"
    assert decode.call_text("chdir", "x86_64", (BASE + 4092,), memory.read) == 'chdir("abcd")'


def test_buffers_are_cut_and_read_after_the_call(memory: Memory) -> None:
    buf = memory.put(b"hello\n" + b"x" * 60)
    assert decode.call_text("write", "x86_64", (1, buf, 6), memory.read) == 'write(1, "hello\\n", 6)'
    assert decode.call_text("read", "x86_64", (0, buf, 100), memory.read) == f"read(0, {buf:#x}, 100)"
    line = decode.call_text("read", "x86_64", (0, buf, 100), memory.read, result=6)
    assert line == 'read(0, "hello\\n", 100) = 6'
    line = decode.call_text("write", "x86_64", (1, buf, 66), memory.read)
    assert line == f'write(1, "hello\\n{"x" * 26}"..., 66)'
    line = decode.call_text("read", "x86_64", (0, buf, 100), memory.read, result=-4)
    assert line == f"read(0, {buf:#x}, 100) = -1 EINTR (Interrupted system call)"


def test_programs_and_their_arguments(memory: Memory) -> None:
    words = [memory.put(b"ls\0"), memory.put(b"-l\0")]
    argv = memory.put(struct.pack("<3Q", *words, 0))
    path = memory.put(b"/bin/ls\0")
    line = decode.call_text("execve", "x86_64", (path, argv, 0), memory.read)
    assert line == 'execve("/bin/ls", ["ls", "-l"], NULL)'


def test_the_same_for_32_bit_programs() -> None:
    memory = Memory(0x8000000)
    words = [memory.put(b"ls\0")]
    argv = memory.put(struct.pack("<2I", *words, 0))
    line = decode.call_text("execve", "i386", (words[0], argv, 0), memory.read, result=0xFFFFFFFE)
    assert line == 'execve("ls", ["ls"], NULL) = -1 ENOENT (No such file or directory)'


def test_sockets(memory: Memory) -> None:
    line = decode.call_text("socket", "x86_64", (2, 0x80001, 6), result=4)
    assert line == "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 4"
    name = memory.put(structs.pack("sockaddr_in", sin_family=2, sin_port=53, sin_addr=bytes([1, 1, 1, 1])))
    line = decode.call_text("connect", "x86_64", (4, name, 16), memory.read, result=0)
    expected = 'connect(4, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.1.1.1")}, 16) = 0'
    assert line == expected
    assert (
        decode.call_text("setsockopt", "x86_64", (4, 6, 1, 0, 4))
        == "setsockopt(4, SOL_TCP, TCP_NODELAY, NULL, 4)"
    )


def test_a_multiplexed_call_is_shown_as_the_real_one() -> None:
    memory = Memory(0x8000000)
    text = memory.put(b"hi")
    args = memory.put(struct.pack("<4I", 5, text, 2, 0x4000))
    line = decode.call_text("socketcall", "i386", (9, args), memory.read, result=2)
    assert line == 'send(5, "hi", 2, MSG_NOSIGNAL) = 2'
    assert decode.call_text("socketcall", "i386", (9, 0x10)) == "socketcall(SYS_SEND, 0x10)"


def test_vectors_times_polls_and_pipes(memory: Memory) -> None:
    first, second = memory.put(b"ab"), memory.put(b"cdef")
    vector = memory.put(struct.pack("<4Q", first, 2, second, 4))
    line = decode.call_text("writev", "x86_64", (1, vector, 2), memory.read)
    assert line == 'writev(1, [{iov_base="ab", iov_len=2}, {iov_base="cdef", iov_len=4}], 2)'
    line = decode.call_text("readv", "x86_64", (1, vector, 2), memory.read, result=3)
    assert line == 'readv(1, [{iov_base="ab", iov_len=2}, {iov_base="c", iov_len=4}], 2) = 3'
    time = memory.put(struct.pack("<2q", 1, 500))
    line = decode.call_text("nanosleep", "x86_64", (time, 0), memory.read)
    assert line == "nanosleep({tv_sec=1, tv_nsec=500}, NULL)"
    polls = memory.put(structs.pack("pollfd", fd=3, events=1) * 2)
    line = decode.call_text("poll", "x86_64", (polls, 2, 0xFFFFFFFFFFFFFFFF), memory.read)
    one = "{fd=3, events=POLLIN, revents=0}"
    assert line == f"poll([{one}, {one}], 2, -1)"
    pipe = memory.put(struct.pack("<2i", 5, 6))
    assert decode.call_text("pipe2", "x86_64", (pipe, 0o2000000), memory.read, result=0) == (
        "pipe2([5, 6], O_RDONLY|O_CLOEXEC) = 0"
    )


def test_numbers_are_narrowed_by_their_type() -> None:
    assert decode.call_text("kill", "x86_64", (0xDEAD0000FFFFFFFF, 0xDEAD000000000009)) == "kill(-1, SIGKILL)"
    assert decode.call_text("close", "x86_64", (0xDEAD0000FFFFFFFF,)) == "close(-1)"
    line = decode.call_text("mmap", "x86_64", (0, 4096, 1, 2, 0xFFFFFFFFFFFFFFFF, 0))
    assert line == "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0)"
    assert decode.call_text("chown", "x86_64", (0, 0xFFFFFFFF, 0)) == "chown(NULL, -1, 0)"


def test_results_are_written_for_what_they_are() -> None:
    assert decode.call_text("brk", "x86_64", (0,), result=BASE) == "brk(NULL) = 0x7f0000000000"
    assert decode.call_text("umask", "x86_64", (0o22,), result=0o77) == "umask(0022) = 0077"
    assert decode.call_text("mmap", "x86_64", (0, 4096, 3, 0x22, 0xFFFFFFFF, 0), result=-12).endswith(
        "= -1 ENOMEM (Cannot allocate memory)"
    )
    assert decode.call_text("mmap", "x86_64", (0, 4096, 3, 0x22, 0xFFFFFFFF, 0)) == (
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"
    )


def test_fcntl_arguments_follow_the_command() -> None:
    assert decode.call_text("fcntl", "x86_64", (3, 2, 1)) == "fcntl(3, F_SETFD, FD_CLOEXEC)"
    assert decode.call_text("fcntl", "x86_64", (3, 1, 99)) == "fcntl(3, F_GETFD)"
    assert decode.call_text("fcntl", "x86_64", (3, 4, 0o4000)) == "fcntl(3, F_SETFL, O_RDONLY|O_NONBLOCK)"


def test_unknown_calls_show_their_registers() -> None:
    assert decode.call_text("syscall_999", "x86_64", (1, 2)) == "syscall_999(0x1, 0x2)"
    with pytest.raises(UnknownSyscallError):
        decode.call_text("opennat", "x86_64", ())


@pytest.mark.parametrize("arch", ARCHES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_arguments_upset_it(arch: str, data: st.DataObject) -> None:
    memory = Memory(0x8000000)
    memory.data = data.draw(st.binary(max_size=200))
    name = data.draw(st.sampled_from(sorted(abi.names(arch))))
    near = st.integers(0x8000000 - 8, 0x8000000 + 4100)
    word = st.one_of(near, st.integers(0, (1 << 64) - 1), st.integers(0, 64))
    args = data.draw(st.tuples(*[word] * 6))
    result = data.draw(st.one_of(st.none(), st.integers(-4095, 200)))
    line = decode.call_text(name, arch, args, memory.read, result=result)
    assert line.startswith(f"{name}(")
    assert "\n" not in line
