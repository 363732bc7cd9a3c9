"""Numbers and addresses as text."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trapline import decode
from trapline.abi import flags, structs
from trapline.abi.errno import Errno


@pytest.mark.parametrize(
    ("family", "value", "text"),
    [
        ("open", 0, "O_RDONLY"),
        ("open", 0o2, "O_RDWR"),
        ("open", 0o2000101, "O_WRONLY|O_CREAT|O_CLOEXEC"),
        ("open", 0x101000, "O_RDONLY|O_SYNC"),
        ("open", 0x1000, "O_RDONLY|O_DSYNC"),
        ("open", 0x410002, "O_RDWR|O_TMPFILE"),
        ("open", 0x40000003, "0x3|0x40000000"),
        ("prot", 0, "PROT_NONE"),
        ("prot", 5, "PROT_READ|PROT_EXEC"),
        ("map", 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
        ("map", 0x3, "MAP_SHARED_VALIDATE"),
        ("socket_type", 0x80003, "SOCK_RAW|SOCK_CLOEXEC"),
        ("clone", 0x11, "SIGCHLD"),
        ("clone", 0x1200011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
        ("futex", 0x80, "FUTEX_WAIT|FUTEX_PRIVATE_FLAG"),
        ("futex", 0x189, "FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME"),
        ("access", 0, "F_OK"),
        ("access", 6, "W_OK|R_OK"),
        ("seek", 2, "SEEK_END"),
        ("seek", 77, "77"),
        ("ioctl", 0x5401, "TCGETS"),
        ("ioctl", 0xDEADBEEF, "0xdeadbeef"),
        ("msg", 0, "0"),
        ("shmget", 0o1600, "0600|IPC_CREAT"),
        ("mode", 0o100644, "S_IFREG|0644"),
        ("statx", 0xFFF, "STATX_BASIC_STATS|STATX_BTIME"),
    ],
)
def test_flag_words_read_like_the_source_that_made_them(family: str, value: int, text: str) -> None:
    assert decode.flags_text(family, value, "x86_64") == text


def test_flag_words_are_of_their_architecture() -> None:
    assert decode.flags_text("open", 0o40000, "aarch64") == "O_RDONLY|O_DIRECTORY"
    assert decode.flags_text("open", 0o40000, "x86_64") == "O_RDONLY|O_DIRECT"


@given(st.sampled_from([name for name in flags.names() if flags.is_flags(name)]), st.integers(0, 0xFFFFFFFF))
def test_no_bit_is_lost_in_text(family: str, value: int) -> None:
    members = flags.members(family, "x86_64") | {"signal": 0} | flags.members("signal", "x86_64")
    total = 0
    for word in decode.flags_text(family, value, "x86_64").split("|"):
        if word in members:
            total |= members[word]
        elif word.startswith("SIGRT_"):
            total |= 32 + int(word[6:])
        else:
            octal = word.startswith("0") and not word.startswith("0x")
            total |= int(word, 8) if octal else int(word, 0)
    assert total == value


def test_errors_come_with_their_meaning() -> None:
    assert decode.errno_text(Errno.ENOENT) == "ENOENT (No such file or directory)"
    assert decode.errno_text(512) == "ERESTARTSYS (the kernel will restart the call)"
    assert decode.errno_text(4000) == "errno 4000"


def test_signals_and_sets_of_them() -> None:
    assert [decode.signal_text(number) for number in (0, 9, 17, 29, 33, 64, 99)] == [
        *("0", "SIGKILL", "SIGCHLD", "SIGIO", "SIGRT_1", "SIGRTMAX", "99")
    ]
    assert decode.sigset_text(0) == "[]"
    assert decode.sigset_text(1 << 1 | 1 << 16) == "[SIGINT SIGCHLD]"
    assert decode.sigset_text((1 << 64) - 1 - (1 << 8)) == "~[SIGKILL]"


def test_wait_statuses_of_real_children() -> None:
    def status(code: str) -> int:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", code], {})
        return os.waitpid(pid, 0)[1]

    assert decode.wait_status_text(status("exit 7")) == "WIFEXITED(s) && WEXITSTATUS(s) == 7"
    assert decode.wait_status_text(status("kill -TERM $$")) == "WIFSIGNALED(s) && WTERMSIG(s) == SIGTERM"
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -STOP $$"], {})
    stopped = os.waitpid(pid, os.WUNTRACED)[1]
    assert decode.wait_status_text(stopped) == "WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP"
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, 0)
    assert decode.wait_status_text(0xFFFF) == "WIFCONTINUED(s)"
    assert decode.wait_status_text(0x4057F) == "WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP, PTRACE_EVENT_EXEC"
    assert decode.wait_status_text(0x8B) == "WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)"


def test_ip_addresses() -> None:
    found = decode.sockaddr(
        structs.pack("sockaddr_in", sin_family=2, sin_port=80, sin_addr=bytes([127, 0, 0, 1]))
    )
    assert (found.family, found.host, found.port, str(found)) == (
        socket.AF_INET,
        "127.0.0.1",
        80,
        "127.0.0.1:80",
    )
    assert found.text() == '{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}'
    raw = structs.pack(
        "sockaddr_in6",
        sin6_family=10,
        sin6_port=443,
        sin6_addr=b"\xfe\x80" + bytes(13) + b"\x01",
        sin6_scope_id=2,
    )
    six = decode.sockaddr(raw)
    assert (six.host, six.port, six.scope, str(six)) == ("fe80::1", 443, 2, "[fe80::1%2]:443")
    assert six == decode.sockaddr(raw)
    assert six != found


def test_unix_addresses_are_paths_abstract_names_or_nothing() -> None:
    path = decode.sockaddr(b"\x01\x00/run/x.sock\0junk")
    assert (path.path, str(path)) == ("/run/x.sock", "/run/x.sock")
    abstract = decode.sockaddr(b"\x01\x00\0name")
    assert (abstract.path, str(abstract)) == ("\0name", "@name")
    assert abstract.text() == '{sa_family=AF_UNIX, sun_path=@"name"}'
    assert str(decode.sockaddr(b"\x01\x00")) == "(unnamed)"


def test_other_families_keep_what_they_have() -> None:
    netlink = decode.sockaddr(structs.pack("sockaddr_nl", nl_family=16, nl_pid=77))
    assert (netlink.port, netlink.text()) == (77, "{sa_family=AF_NETLINK, nl_pid=77}")
    vsock = decode.sockaddr(structs.pack("sockaddr_vm", svm_family=40, svm_cid=3, svm_port=1024))
    assert str(vsock) == "3:1024"
    odd = decode.sockaddr(b"\xe7\x03ab")
    assert (odd.family, odd.text()) == (999, "{sa_family=999, sa_data=6162}")
    assert decode.sockaddr(b"").host is None
    assert decode.sockaddr(b"\x02\x00\x00").text() == "{sa_family=AF_INET, sa_data=00}"


@given(st.binary(max_size=40))
def test_no_bytes_upset_the_address_decoder(raw: bytes) -> None:
    found = decode.sockaddr(raw)
    assert isinstance(str(found) + found.text() + repr(found), str)


def test_the_addresses_of_real_sockets(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        host, port = server.getsockname()
        raw = structs.pack("sockaddr_in", sin_family=2, sin_port=port, sin_addr=socket.inet_aton(host))
        assert str(decode.sockaddr(raw)) == f"{host}:{port}"


def test_structs_name_their_flags() -> None:
    raw = structs.pack("pollfd", "x86_64", fd=3, events=1, revents=0x11)
    assert decode.struct_text("pollfd", raw, "x86_64") == "{fd=3, events=POLLIN, revents=POLLIN|POLLHUP}"
    raw = structs.pack("sigaction", "x86_64", sa_handler=0x1000, sa_flags=0x4000000, sa_mask=2)
    text = "{sa_handler=0x1000, sa_flags=SA_RESTORER, sa_restorer=NULL, sa_mask=[SIGINT]}"
    assert decode.struct_text("sigaction", raw, "x86_64") == text
    raw = structs.pack("itimerspec", "x86_64", it_value={"tv_sec": 1})
    text = "{it_interval={tv_sec=0, tv_nsec=0}, it_value={tv_sec=1, tv_nsec=0}}"
    assert decode.struct_text("itimerspec", raw, "x86_64") == text


@given(st.binary(max_size=64))
def test_quoted_bytes_are_c_strings(raw: bytes) -> None:
    text = decode.quote(raw)
    assert text[1:-1].encode().decode("unicode_escape").encode("latin-1") == raw


def test_every_struct_of_every_architecture_can_be_written() -> None:
    for arch in ("x86_64", "i386", "aarch64"):
        for name in structs.names(arch):
            size = structs.sizeof(name, arch)
            assert decode.struct_text(name, bytes(size), arch)
            assert decode.struct_text(name, b"\xff" * size, arch)
