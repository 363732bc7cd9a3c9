"""Probes beside a second opinion that shares no code with them."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import subprocess
from pathlib import Path

import pytest
from confinement import NUMBERS, in_child, libc

from trapline import features

X86_64 = platform.machine() == "x86_64"


def maps_name(name):
    return any(line.rstrip().endswith(name) for line in Path("/proc/self/maps").read_text().splitlines())


def status_field(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name + ":")))


def dispatch_accepted(mode, offset, length):
    def attempt():
        return libc.prctl(59, mode, ctypes.c_ulong(offset), ctypes.c_ulong(length), ctypes.c_ulong(0))

    # Off the child's own path: a range that nothing runs in, or one that everything does.
    return in_child(lambda: None, attempt) == 0


def test_inclusive_dispatch_agrees_with_prctl():
    assert features.sud_inclusive() == dispatch_accepted(2, 0x1000, 0x1000)


def test_exclusive_dispatch_agrees_with_prctl():
    assert features.sud_exclusive() == dispatch_accepted(1, 0x1000, 2**63 - 1)


@pytest.mark.parametrize(
    "action", ["kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log", "allow"]
)
def test_actions_agree_with_the_kernels_own_list(action):
    available = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    assert bool(features.probe(f"seccomp_{action}")) == (action in available)


def test_state_of_no_new_privs_agrees_with_status():
    assert bool(features.probe("no_new_privs", fresh=True)) == bool(status_field("NoNewPrivs"))


def test_state_of_confinement_agrees_with_status():
    assert bool(features.probe("seccomp_confined", fresh=True)) == bool(status_field("Seccomp"))


def test_pidfd_open_agrees_with_the_standard_library():
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        expected = False
    else:
        expected = True
    assert features.pidfd_open() == expected


def test_memfd_sealing_agrees_with_the_standard_library():
    try:
        os.close(os.memfd_create("second opinion", os.MFD_ALLOW_SEALING))
    except OSError:
        expected = False
    else:
        expected = True
    assert bool(features.probe("memfd_sealing")) == expected


def test_io_uring_agrees_with_a_call_of_it():
    fd = libc.syscall(NUMBERS["io_uring_setup"], 4, ctypes.create_string_buffer(120))
    if fd >= 0:
        os.close(fd)
    assert bool(features.probe("io_uring")) == (fd >= 0)


def test_arena_agrees_with_mmap():
    libc.mmap.restype = ctypes.c_void_p
    size = ctypes.c_size_t(1 << 40)
    address = libc.mmap(None, size, 0, 0x4022, -1, ctypes.c_long(0))
    failed = address == ctypes.c_void_p(-1).value
    if not failed:
        libc.munmap(ctypes.c_void_p(address), size)
    assert bool(features.probe("arena")) != failed


def test_vdso_agrees_with_maps():
    assert bool(features.probe("vdso")) == maps_name("[vdso]")


@pytest.mark.skipif(not X86_64, reason="only x86-64 has a vsyscall page")
def test_vsyscall_agrees_with_maps():
    assert bool(features.probe("vsyscall")) == maps_name("[vsyscall]")


@pytest.mark.skipif(not X86_64, reason="FSGSBASE is an x86-64 extension")
def test_fsgsbase_agrees_with_the_auxiliary_vector():
    libc.getauxval.restype = ctypes.c_ulong
    assert features.fsgsbase() == bool(libc.getauxval(ctypes.c_ulong(26)) & 2)


@pytest.mark.skipif(not X86_64, reason="only x86-64 has x32")
def test_x32_agrees_with_a_call_of_it():
    libc.syscall.restype = ctypes.c_long
    assert bool(features.probe("x32")) == (libc.syscall(ctypes.c_long(0x40000000 | 39)) == os.getpid())


def test_page_zero_agrees_with_mmap():
    def attempt():
        libc.mmap.restype = ctypes.c_long
        return libc.mmap(None, ctypes.c_size_t(4096), 0, 0x32, -1, ctypes.c_long(0)) == 0

    assert bool(features.probe("map_page_zero")) == in_child(lambda: None, attempt)


def test_user_namespaces_agree_with_unshare():
    def attempt():
        made = libc.unshare(0x10000000)
        return made == 0 or ctypes.get_errno()

    outcome = in_child(lambda: None, attempt)
    if features.user_namespace():
        assert outcome is True
    else:
        assert outcome is True or outcome in (
            errno.EPERM,
            errno.ENOSPC,
            errno.EACCES,
            errno.ENOSYS,
            errno.EINVAL,
        )


def test_reaching_into_a_child_agrees_with_process_vm_readv():
    child = subprocess.Popen(["sleep", "60"])
    try:
        start = int(Path(f"/proc/{child.pid}/maps").read_text().split("-")[0], 16)
        buffer = ctypes.create_string_buffer(4)
        here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 4)
        there = (ctypes.c_size_t * 2)(start, 4)
        one = ctypes.c_ulong(1)
        got = libc.syscall(NUMBERS["process_vm_readv"], child.pid, here, one, there, one, ctypes.c_ulong(0))
        assert features.process_vm() == (got == 4)
        with open(f"/proc/{child.pid}/mem", "rb") as memory:
            memory.seek(start)
            assert features.proc_mem() == (len(memory.read(4)) == 4)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


@pytest.mark.parametrize("name", features.names())
def test_every_probe_answers_and_explains_a_refusal(name):
    feature = features.probe(name, fresh=True)
    assert feature.works is not None, feature.detail
    if not feature.works and name not in ("no_new_privs", "seccomp_confined", "shadow_stack", "traced"):
        assert feature.errno or feature.detail


@pytest.mark.parametrize("name", features.names())
def test_every_probe_gives_the_same_answer_each_time(name):
    first = features.probe(name, fresh=True)
    for _ in range(5):
        assert features.probe(name, fresh=True).works == first.works
