"""Struct layouts: against a C compiler, and bytes to records and back."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.abi import ARCHES, structs
from trapline.errors import UsageError

DATA = Path(__file__).parents[2] / "data"
# Only the C library's or the kernel's own headers have these, or a member has another name there.
C_NAMES = {
    ("old_sigaction", "sa_handler"): "_u._sa_handler",
    ("siginfo_kill", "si_pid"): "_sifields._kill._pid",
    ("siginfo_kill", "si_uid"): "_sifields._kill._uid",
    ("siginfo_chld", "si_pid"): "_sifields._sigchld._pid",
    ("siginfo_chld", "si_uid"): "_sifields._sigchld._uid",
    ("siginfo_chld", "si_status"): "_sifields._sigchld._status",
    ("siginfo_chld", "si_utime"): "_sifields._sigchld._utime",
    ("siginfo_chld", "si_stime"): "_sifields._sigchld._stime",
    ("siginfo_queue", "si_pid"): "_sifields._rt._pid",
    ("siginfo_queue", "si_uid"): "_sifields._rt._uid",
    ("siginfo_queue", "si_value"): "_sifields._rt._sigval",
    ("siginfo_fault", "si_addr"): "_sifields._sigfault._addr",
    ("siginfo_sigsys", "si_call_addr"): "_sifields._sigsys._call_addr",
    ("siginfo_sigsys", "si_syscall"): "_sifields._sigsys._syscall",
    ("siginfo_sigsys", "si_arch"): "_sifields._sigsys._arch",
    ("siginfo_poll", "si_band"): "_sifields._sigpoll._band",
    ("siginfo_poll", "si_fd"): "_sifields._sigpoll._fd",
}
# Newer than the headers that stable distributions ship, or bit fields.
MAY_BE_MISSING = re.compile(r"statx\.stx_(subvol|atomic|dio_read|mnt_id|dio_mem|dio_offset)|user_desc\.flags")
PARTS = ("siginfo_kill", "siginfo_chld", "siginfo_queue", "siginfo_fault", "siginfo_sigsys", "siginfo_poll")


def table() -> dict[tuple[str, str], tuple[str, str]]:
    """Header and C tag of every struct that C has, by name and architecture."""
    found = {}
    for line in (DATA / "structs.tsv").read_text().splitlines():
        if line.startswith(("#", "struct\t")):
            continue
        name, arches, field, _, header, tag = line.split("\t")
        if header == "-" or field in ("-", ":"):
            continue
        for arch in ARCHES if arches == "*" else arches.split(","):
            found[name, arch] = (header, name if tag == "-" else tag)
    return found


def complaints(text: str, arch: str) -> list[str]:
    """What the compiler has against a C text."""
    command = ["gcc", "-m32" if arch == "i386" else "-m64", "-w", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    return [line for line in done.stderr.splitlines() if "error:" in line]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: install gcc")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the system's headers are not x86's")
@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_layouts_are_those_of_a_c_compiler(arch: str) -> None:
    checked = 0
    for (name, row_arch), (header, tag) in table().items():
        if row_arch != arch:
            continue
        shape = structs.layout(name, arch)
        start = f"#include <linux/types.h>\n#include <{header}>\n"
        if complaints(f"{start}int x = sizeof(struct {tag});\n", arch):
            continue  # older headers lack a few of the structs
        claims = {}
        for field in shape.fields:
            if not field.name.startswith("__spare"):  # those move with every member that is added
                member = C_NAMES.get((name, field.name), field.name)
                claims[field.name] = f"__builtin_offsetof(struct {tag}, {member}) == {field.offset}"
        if name not in PARTS and not shape.flexible and not shape.extensible:
            claims["its size"] = f"sizeof(struct {tag}) == {shape.size}"
        lines = [f'_Static_assert({claim}, "wrong");' for claim in claims.values()]
        if complaints(start + "\n".join(lines), arch):
            for what, line in zip(claims, lines, strict=True):
                found = complaints(start + line, arch)
                missing = found and "has no member" in found[0]
                may_be_missing = what.startswith("__") or MAY_BE_MISSING.match(f"{name}.{what}")
                assert not found or (missing and may_be_missing), f"{arch}: struct {name}, {what}: {found}"
        checked += 1
    assert checked > 45


def number(kind: str) -> st.SearchStrategy[int]:
    bits = int(kind.lstrip("usbe"))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    return st.integers(low, high)


def members(name: str, arch: str) -> st.SearchStrategy[dict[str, object]]:
    """Any values that the members of a struct can hold."""
    strategies: dict[str, st.SearchStrategy[object]] = {}
    for field in structs.fields(name, arch):
        if field.code is not None:
            one = number(field.kind)
            strategies[field.name] = st.tuples(*[one] * field.count) if field.count else one
        elif field.kind == "bytes":
            strategies[field.name] = st.binary(min_size=field.size, max_size=field.size)
        elif field.kind == "chars":
            strategies[field.name] = st.binary(max_size=field.size).map(lambda raw: raw.rstrip(b"\0"))
        elif field.kind == "rest":
            strategies[field.name] = st.binary(max_size=30)
        elif field.kind == "text":
            strategies[field.name] = st.binary(max_size=30).map(lambda raw: raw.replace(b"\0", b"x"))
        else:
            strategies[field.name] = st.builds(structs.Record, st.just(field.kind), members(field.kind, arch))
    return st.fixed_dictionaries(strategies)


@pytest.mark.parametrize("arch", ARCHES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_packed_unpacks_to_the_same(arch: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(structs.names(arch)))
    wanted = data.draw(members(name, arch))
    raw = structs.pack(name, arch, **wanted)
    record = structs.unpack(name, raw, arch)
    assert structs.values(record) == wanted
    assert structs.pack(name, arch, **structs.values(record)) == raw


@pytest.mark.parametrize("arch", ARCHES)
def test_no_two_members_overlap_and_all_lie_inside(arch: str) -> None:
    for name in structs.names(arch):
        end = 0
        for field in structs.fields(name, arch):
            assert field.offset >= end, f"{name}.{field.name}"
            end = field.offset + field.size
        assert end <= structs.sizeof(name, arch)


def test_architectures_differ_where_the_kernel_does() -> None:
    sizes = {
        "stat": (144, 64, 128),
        "epoll_event": (12, 12, 16),
        "sigaction": (32, 20, 32),
        "msghdr": (56, 28, 56),
        "timespec": (16, 8, 16),
        "__kernel_timespec": (16, 16, 16),
        "siginfo": (128, 128, 128),
    }
    for name, wanted in sizes.items():
        assert tuple(structs.sizeof(name, arch) for arch in ARCHES) == wanted
    assert not structs.exists("stat64", "x86_64")


def test_directory_entries_are_read_one_after_the_other() -> None:
    entries = [structs.pack("linux_dirent64", d_ino=7, d_reclen=24, d_type=8, d_name=b"a\0\0\0\0")] * 2
    assert [record.d_name for record in structs.unpack_all("linux_dirent64", b"".join(entries))] == [
        b"a",
        b"a",
    ]


def test_inotify_events_of_different_lengths_are_told_apart() -> None:
    first = structs.pack("inotify_event", wd=1, mask=2, len=16, name=b"file".ljust(16, b"\0"))
    second = structs.pack("inotify_event", wd=2, mask=4)
    assert [(e.wd, e.name) for e in structs.unpack_all("inotify_event", first + second)] == [
        (1, b"file"),
        (2, b""),
    ]


def test_an_old_getdents_entry_keeps_its_type_out_of_its_name() -> None:
    raw = structs.pack("linux_dirent", "x86_64", d_ino=1, d_reclen=24, d_name=b"abc\0\0\x04")
    (entry,) = structs.unpack_all("linux_dirent", raw, "x86_64")
    assert entry.d_name == b"abc"


def test_an_entry_that_claims_no_length_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(UsageError, match="claims a length of 0"):
        list(structs.unpack_all("linux_dirent64", bytes(64)))


def test_extensible_structs_take_the_old_kernels_shorter_form() -> None:
    record = structs.unpack("clone_args", struct.pack("<8Q", 0x100, 0, 0, 0, 17, 0, 0, 0), "x86_64")
    assert (record.flags, record.exit_signal, record.cgroup) == (0x100, 17, 0)
    with pytest.raises(UsageError, match="has 16 bytes, got 3"):
        structs.unpack("timespec", b"abc", "x86_64")


def test_mistakes_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"no layout for struct 'timspec' on x86_64; did you mean .*timespec"
    ):
        structs.sizeof("timspec", "x86_64")
    with pytest.raises(UsageError, match="unknown architecture 'vax'"):
        structs.sizeof("timespec", "vax")
    with pytest.raises(UsageError, match="has no member 'sec': it has tv_sec, tv_nsec"):
        structs.pack("timespec", "x86_64", sec=1)
    with pytest.raises(UsageError, match="does not fit in u16"):
        structs.pack("sockaddr", "x86_64", sa_family=65536)
    with pytest.raises(UsageError, match="120 bytes do not fit in 108"):
        structs.pack("sockaddr_un", "x86_64", sun_path=b"x" * 120)
    with pytest.raises(AttributeError, match="struct timespec has no member 'sec'"):
        _ = structs.unpack("timespec", bytes(16), "x86_64").sec
