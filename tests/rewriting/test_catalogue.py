"""Finding what is mapped where, which function that is, and remembering what was planned."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trapline import _native
from trapline.rewriting import mappings
from trapline.rewriting.catalogue import _AROUND, SiteCatalogue
from trapline.rewriting.elf import CodeFile
from trapline.rewriting.surroundings import VOTES_FROM, WINDOW_MAX
from trapline.rewriting.windows import Plan, Refusal
from trapline.rewriting.wire import unpack

from .machine import GATE

LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
PID = os.getpid()
NOWHERE = range(0x10000, 0x20000)
#: push %rbp; mov %rsp, %rbp; ... often enough for votes, then mov $39, %eax; syscall; ret
CODE = bytes.fromhex("554889e54883ec10488b4708488b5710" * 8 + "b827000000 0f05 c3".replace(" ", ""))


class Mapped:
    """Code mapped into this process, that can be read and executed."""

    def __init__(self, fd: int = -1, code: bytes = b"") -> None:
        self.size = mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
        self._map = mmap.mmap(fd, self.size, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._view = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._view)
        self.write(0, code)

    def write(self, offset: int, code: bytes) -> None:
        self.protect(mmap.PROT_READ | mmap.PROT_WRITE)
        ctypes.memmove(self.address + offset, code, len(code))
        self.protect(mmap.PROT_READ | mmap.PROT_EXEC)

    def protect(self, protection: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size), protection) == 0

    def close(self) -> None:
        del self._view
        self._map.close()


@pytest.fixture
def made_at_run_time() -> Iterator[Mapped]:
    mapped = Mapped(code=CODE)
    yield mapped
    mapped.close()


def maps_lines() -> list[str]:
    return Path("/proc/self/maps").read_text().splitlines()


def code_file(path: str) -> CodeFile:
    return CodeFile(os.open(path, os.O_RDONLY))


def libc_sites() -> tuple[int, list[int]]:
    """Where this process has its libc, and offsets of `mov $number, %eax; syscall` in it."""
    fields = next(line.split() for line in maps_lines() if "libc.so" in line and " r-xp " in line)
    low, offset = int(fields[0].partition("-")[0], 16), int(fields[2], 16)
    data = Path(fields[5]).read_bytes()
    code = code_file(fields[5])
    start, _, size = code.segments[0]
    found = []
    at = start
    while (at := data.find(b"\x00\x00\x00\x0f\x05", at + 1)) >= 0 and at < start + size:
        if data[at - 2] == 0xB8:
            found.append(at + 3)
    return low - offset, found


# -- mappings ------------------------------------------------------------------------------------------------------


def test_a_mapping_is_found_as_maps_has_it() -> None:
    files = [line.split(maxsplit=5) for line in maps_lines() if ".so" in line]
    assert len(files) > 5
    for fields in files:
        low, high = (int(each, 16) for each in fields[0].split("-"))
        for address in (low, high - 1):
            found = mappings.find(PID, address)
            assert found is not None
            assert (found.start, found.end, found.offset) == (low, high, int(fields[2], 16))
            assert (found.inode, found.path) == (int(fields[4]), fields[5])


def test_the_query_and_the_text_say_the_same(made_at_run_time: Mapped) -> None:
    base, sites = libc_sites()
    for address in (base + sites[0], made_at_run_time.address, 8):
        try:
            _native.find_mapping(PID, address)
        except OSError as error:
            if error.errno != errno.ENOENT:
                pytest.skip(f"this kernel cannot be asked for one mapping: {error}")
        asked = mappings.find(PID, address)
        looked_up = mappings._look_up(PID, address)
        for name in ("device", "end", "inode", "is_shared", "is_writable", "offset", "path", "start"):
            assert getattr(asked, name, None) == getattr(looked_up, name, None)


def test_the_text_is_read_where_the_kernel_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(pid: int, address: int) -> NoReturn:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    monkeypatch.setattr(_native, "find_mapping", unknown)
    base, sites = libc_sites()
    found = mappings.find(PID, base + sites[0])
    assert found is not None
    assert "libc" in found.path
    assert mappings.find(PID, 8) is None


def test_a_process_that_is_gone_has_no_mappings_to_ask_for() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(ProcessLookupError):
        mappings.find(gone.pid, 0x401000)


# -- functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [LIBC, "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"])
def test_functions_are_those_that_pyelftools_reads(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"{path} is not installed")
    code = code_file(path)
    with open(path, "rb") as file:
        elf = ELFFile(file)
        executable = [
            (each["p_offset"], each["p_vaddr"], each["p_filesz"])
            for each in elf.iter_segments("PT_LOAD")
            if each["p_flags"] & 1
        ]
        assert code.segments == executable
        symbols = {
            each["st_value"]: each["st_size"]
            for each in elf.get_section_by_name(".dynsym").iter_symbols()
            if each["st_info"]["type"] in ("STT_FUNC", "STT_LOOS") and each["st_shndx"] != "SHN_UNDEF"
        }
    checked = 0
    for start, size in list(symbols.items())[:: max(1, len(symbols) // 400)]:
        if size:
            checked += 1
            assert code.function(start + size // 2).start in (start, *range(start, start + size // 2 + 1))
            assert code.function(start).start == start
            following = code.function(start).next
            assert following is None or following > start
    assert checked > 20


def test_unwind_tables_are_read_as_readelf_reads_them() -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed (binutils)")
    text = subprocess.run(["readelf", "--debug-dump=frames", LIBC], capture_output=True, text=True).stdout
    code = code_file(LIBC)
    checked = 0
    signal_frames = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "CIE":
            current = fields[0]
        elif fields[:1] == ["Augmentation:"] and "S" in fields[1]:
            signal_frames.add(current)
        elif " FDE cie=" in line and checked < 2000:
            checked += 1
            low, high = (int(each, 16) for each in fields[-1].removeprefix("pc=").split(".."))
            if fields[4].removeprefix("cie=") in signal_frames:
                assert code.function(low + 1).start is None
            elif high > low:
                assert code.function(low).start == low
                assert code.function(high - 1).start == low
    assert checked > 1000
    assert signal_frames


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_no_reason_to_fail(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(Path("/lib64/ld-linux-x86-64.so.2").read_bytes()[:0x4000])
    for _ in range(data.draw(st.integers(0, 20))):
        place = data.draw(st.one_of(st.integers(0, 63), st.integers(64, 1200)))
        whole[place] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
    path = tmp_path / "damaged"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    code = code_file(str(path))
    code.segment_of(0x1000)
    for address in (0, 0x1000, 0x2345, (1 << 64) - 1):
        code.function(address)


def test_a_file_that_is_no_elf_file_has_no_segments(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("#!/bin/sh\n")
    assert code_file(str(path)).segments == []
    assert code_file("/dev/null").segments == []


# -- the catalogue -------------------------------------------------------------------------------------------------


def test_sites_of_a_library_are_planned_from_its_file() -> None:
    base, sites = libc_sites()
    catalogue = SiteCatalogue(GATE)
    found = [catalogue.plan(PID, base + site) for site in sites]
    assert sum(isinstance(each, Plan) and each.kind == "move" for each in found) > len(found) * 0.9
    for site, each in zip(sites, found, strict=True):
        if isinstance(each, Plan):
            window = ctypes.string_at(base + site + each.start, each.length)
            assert window == each.original


def test_the_second_process_gets_the_same_bytes_and_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    base, sites = libc_sites()
    catalogue = SiteCatalogue(GATE)
    room = range(base - 0x400000, base)
    first = [catalogue.answer(PID, base + site, room) for site in sites[:50]]

    def unexpected(*_: object) -> bytes:
        raise AssertionError("a file is read")

    monkeypatch.setattr(CodeFile, "read", unexpected)
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert [catalogue.answer(child, base + site, room) for site in sites[:50]] == first
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_block_has_two_pieces_where_the_agent_is_out_of_reach() -> None:
    base, sites = libc_sites()
    catalogue = SiteCatalogue(GATE)
    near = unpack(catalogue.answer(PID, base + sites[0], range(base - 0x400000, base)))
    far = unpack(catalogue.answer(PID, base + sites[0], NOWHERE))
    assert not near.block.in_two
    assert far.block.in_two
    assert far.window == near.window
    # Room in reach, in which no address traps where it must, is not enough.
    found = catalogue.plan(PID, base + sites[0])
    assert isinstance(found, Plan)


def test_code_made_at_run_time_is_planned_from_memory(made_at_run_time: Mapped) -> None:
    catalogue = SiteCatalogue(GATE)
    site = made_at_run_time.address + CODE.index(b"\x0f\x05")
    found = catalogue.plan(PID, site)
    assert isinstance(found, Plan)
    assert found.kind == "move"
    assert unpack(catalogue.answer(PID, site, NOWHERE)).window == CODE[-8:-1]
    # Other code at the same place is another plan.
    made_at_run_time.write(CODE.index(b"\x0f\x05") - 5, bytes.fromhex("9090909090 0f05 483d01f0ffff"))
    changed = catalogue.plan(PID, site)
    assert isinstance(changed, Plan)
    assert changed.kind == "after"


def test_a_file_without_functions_is_planned_by_votes(tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_bytes(CODE.ljust(mmap.PAGESIZE, b"\x90"))
    fd = os.open(path, os.O_RDWR)
    mapped = Mapped(fd)
    os.close(fd)
    catalogue = SiteCatalogue(GATE)
    site = mapped.address + CODE.index(b"\x0f\x05")
    found = catalogue.plan(PID, site)
    assert isinstance(found, Plan)
    assert found.kind == "move"
    # The file is gone: what is mapped is read instead.
    path.unlink()
    assert isinstance(SiteCatalogue(GATE).plan(PID, site), Plan)
    # Another file has its name: not a byte of it is believed.
    path.write_bytes(b"\xf4" * mmap.PAGESIZE)
    assert isinstance(SiteCatalogue(GATE).plan(PID, site), Plan)
    mapped.close()


def test_what_cannot_be_read_is_left_alone() -> None:
    catalogue = SiteCatalogue(GATE)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert unpack(catalogue.answer(gone.pid, 0x401000, NOWHERE)).reason == "unreadable"
    assert unpack(catalogue.answer(PID, 8, NOWHERE)).reason == "unreadable"
    with pytest.raises(OSError, match="No such"):
        catalogue.plan(gone.pid, 0x401000)


def test_code_that_may_change_at_any_moment_is_left_alone(made_at_run_time: Mapped) -> None:
    made_at_run_time.protect(mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    found = SiteCatalogue(GATE).plan(PID, made_at_run_time.address + CODE.index(b"\x0f\x05"))
    assert isinstance(found, Refusal)
    assert found.reason == "writable"


def test_whether_calls_come_back_is_remembered_apart(made_at_run_time: Mapped) -> None:
    made_at_run_time.write(0, bytes.fromhex("0f05483d01f0ffff"))
    catalogue = SiteCatalogue(GATE)
    assert isinstance(catalogue.plan(PID, made_at_run_time.address), Plan)
    refused = catalogue.plan(PID, made_at_run_time.address, returns=False)
    assert isinstance(refused, Refusal)
    assert refused.reason == "ends"


def test_files_and_plans_are_forgotten_before_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("trapline.rewriting.catalogue._FILES_MAX", 2)
    monkeypatch.setattr("trapline.rewriting.catalogue._ENTRIES_MAX", 2)
    catalogue = SiteCatalogue(GATE)
    for number in range(5):
        path = tmp_path / f"code{number}"
        path.write_bytes(CODE.ljust(mmap.PAGESIZE, b"\x90"))
        fd = os.open(path, os.O_RDWR)
        mapped = Mapped(fd)
        os.close(fd)
        assert isinstance(catalogue.plan(PID, mapped.address + CODE.index(b"\x0f\x05")), Plan)
        mapped.close()
    assert len(catalogue._files) <= 2
    assert len(catalogue._entries) <= 2


def test_as_much_is_read_around_a_site_as_plans_look_at() -> None:
    assert _AROUND == VOTES_FROM + WINDOW_MAX
