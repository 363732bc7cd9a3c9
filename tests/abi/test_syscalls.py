"""Numbers and signatures: lookups, completeness, and this kernel's own description of its calls."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trapline import abi
from trapline.errors import TraplineError, UnknownSyscallError

TRACEFS = Path("/sys/kernel/tracing")
# The kernel's functions are named for their implementation where that differs from the call.
TRACED_AS = {
    "fstat": "newfstat",
    "lstat": "newlstat",
    "sendfile": "sendfile64",
    "stat": "newstat",
    "umount2": "umount",
    "uname": "newuname",
}
# Calls whose traced parameters differ from the table on purpose, with what differs: none at present.
DEVIATIONS: dict[str, str] = {}


@pytest.fixture(scope="session")
def formats() -> dict[str, list[tuple[str, str]]]:
    """Type and name of each parameter of each call that the kernel traces."""
    events = TRACEFS / "events/syscalls"
    if os.geteuid() == 0 and not os.path.isdir(events):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mount(b"tracefs", str(TRACEFS).encode(), b"tracefs", 0, None)
    try:
        found = sorted(events.glob("sys_enter_*/format"))
    except OSError:
        found = []
    if not found:
        pytest.skip("tracefs has no events/syscalls here: mount it at /sys/kernel/tracing, or run as root")
    result = {}
    for path in found:
        lines = re.findall(r"^\tfield:(.*?);", path.read_text(), re.M)
        fields = [
            line.rsplit(" ", 1) for line in lines if not re.search(r"\b(common_\w+|__syscall_nr)$", line)
        ]
        result[path.parent.name.removeprefix("sys_enter_")] = [(ctype, name) for ctype, name in fields]
    return result


def spaceless(ctype: str) -> str:
    return ctype.replace(" ", "")


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the traced calls are compared with x86_64's table"
)
def test_every_traced_call_has_the_parameters_that_this_kernel_says(
    formats: dict[str, list[tuple[str, str]]],
) -> None:
    wrong = {}
    for traced, fields in formats.items():
        name = next((name for name, function in TRACED_AS.items() if function == traced), traced)
        if not abi.exists(name, "x86_64"):
            wrong[traced] = "not in the table"
            continue
        params = [(spaceless(param.ctype), param.name) for param in abi.signature(name, "x86_64").params]
        expected = [(spaceless(ctype), param) for ctype, param in fields]
        if params != expected:
            wrong[traced] = f"{params} here, {expected} in the kernel"
    assert wrong == DEVIATIONS
    assert len(formats) > 300


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the traced calls are compared with x86_64's table"
)
def test_nearly_every_call_of_the_table_is_traced_by_this_kernel(
    formats: dict[str, list[tuple[str, str]]],
) -> None:
    known = [name for name in abi.names("x86_64") if abi.signature(name, "x86_64").known]
    silent = {name for name in known if TRACED_AS.get(name, name) not in formats}
    # Left out of kernels by configuration, or written without the macro that makes an event.
    optional = re.compile(
        r".*_module|kexec_.*|.et_thread_area|lookup_dcookie|map_shadow_stack|uselib|_sysctl"
    )
    # Calls of subsystems that a small kernel leaves out.
    assert {name for name in silent if not optional.fullmatch(name)} <= {
        *("add_key", "request_key", "keyctl", "acct", "quotactl", "quotactl_fd", "swapon", "swapoff", "bpf"),
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "kcmp", "ustat", "sysfs"),
        *("memfd_secret", "modify_ldt", "vhangup", "ioperm", "iopl", "rseq", "uprobe", "uretprobe"),
    }


def test_the_last_call_of_linux_6_18_is_the_last_one() -> None:
    assert abi.number("file_setattr", "x86_64") == 469
    assert abi.name(469, "aarch64") == "file_setattr"
    assert abi.name(470, "x86_64") == "syscall_470"


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("read", (0, 3, 63)),
        ("openat", (257, 295, 56)),
        ("execve", (59, 11, 221)),
        ("clone3", (435, 435, 435)),
        ("seccomp", (317, 354, 277)),
        ("statx", (332, 383, 291)),
        ("exit_group", (231, 252, 94)),
        ("mseal", (462, 462, 462)),
    ],
)
def test_numbers_that_everybody_knows(name: str, numbers: tuple[int, int, int]) -> None:
    assert tuple(abi.number(name, arch) for arch in abi.ARCHES) == numbers


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: install gcc")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the system's headers are not x86's")
@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_the_systems_headers_number_every_call_as_the_table_does(arch: str) -> None:
    flag = "-m32" if arch == "i386" else "-m64"
    command = ["gcc", flag, "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    numbers = {name: int(nr) for name, nr in re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.M)}
    assert len(numbers) > 350
    newest = abi.number("file_setattr", arch)
    wrong = {
        name: nr
        for name, nr in numbers.items()
        if nr <= newest and (not abi.exists(name, arch) or abi.number(name, arch) != nr)
    }
    assert wrong == {}


@pytest.mark.parametrize("arch", abi.ARCHES)
def test_names_and_numbers_are_each_others_inverse(arch: str) -> None:
    names = list(abi.names(arch))
    assert len({abi.number(name, arch) for name in names}) == len(names)
    assert all(abi.name(abi.number(name, arch), arch) == name for name in names)


def test_unknown_numbers_have_names_that_lead_back_to_them() -> None:
    assert abi.name(9999, "x86_64") == "syscall_9999"
    assert abi.number("syscall_9999", "x86_64") == 9999
    signature = abi.signature("syscall_9999", "x86_64")
    assert (signature.known, signature.params, signature.returns) == (False, (), "int")
    numbered = abi.signature("syscall_257", "x86_64")
    assert (numbered.name, [param.name for param in numbered.params]) == (
        "syscall_257",
        ["dfd", "filename", "flags", "mode"],
    )


@pytest.mark.parametrize(
    ("name", "arch", "message"),
    [
        ("opennat", "x86_64", "unknown system call 'opennat' on x86_64; did you mean openat"),
        ("open", "aarch64", "'open' does not exist on aarch64, only on x86_64, i386"),
        ("qqqqqq", "i386", "'qqqqqq' on i386; syscall_<number> names any call"),
        ("syscall_x", "i386", "unknown system call 'syscall_x'"),
        ("syscall_²", "i386", "unknown system call"),
    ],
)
def test_a_wrong_name_is_told_what_it_could_have_been(name: str, arch: str, message: str) -> None:
    with pytest.raises(UnknownSyscallError, match=re.escape(message)) as caught:
        abi.number(name, arch)
    assert caught.value.name == name
    with pytest.raises(UnknownSyscallError):
        abi.signature(name, arch)


def test_an_unknown_architecture_is_an_error() -> None:
    with pytest.raises(TraplineError, match="use one of x86_64, i386, aarch64"):
        abi.number("read", "vax")


@pytest.mark.parametrize("arch", abi.ARCHES)
def test_every_parameter_makes_sense(arch: str) -> None:
    for name in abi.names(arch):
        signature = abi.signature(name, arch)
        assert len(signature.params) <= 6
        own = {param.name for param in signature.params}
        assert len(own) == len(signature.params)
        for param in signature.params:
            where = f"{arch}: {name}.{param.name}"
            assert param.bits in (32, 64), where
            if arch == "i386":
                assert param.bits == 32, where
            if "*" in param.ctype and param.kind not in ("addr", "arg"):
                assert param.pointer in ("in", "out", "inout"), where
            if re.fullmatch(r"(const )?char \*", param.ctype):
                assert param.kind in ("path", "str", "buf", "addr"), where
            references = (param.size_of, param.count_of, param.dirfd)
            flags = (param.follow_flag, param.empty_flag)
            assert {*references, *(flag[0] for flag in flags if flag)} - {None} <= own, where
            assert (param.family is not None) == (param.kind == "flags"), where
            if param.dirfd:
                assert abi.signature(name, arch).param(param.dirfd).kind == "fd", where  # type: ignore[union-attr]


@pytest.mark.parametrize("arch", abi.ARCHES)
def test_every_int_that_is_called_like_a_file_descriptor_is_one(arch: str) -> None:
    # close_range takes bounds, kcmp and pidfd_getfd numbers of another process.
    others = {("close_range", "fd"), ("close_range", "max_fd"), ("pidfd_getfd", "fd")}
    for name in abi.names(arch):
        for param in abi.signature(name, arch).params:
            looks = (
                re.search(r"fd$|fd_(in|out)$|^fd(in|out)$|^fildes$", param.name) and "*" not in param.ctype
            )
            if looks and (name, param.name) not in others:
                assert param.kind == "fd", f"{arch}: {name}.{param.name}"


@pytest.mark.parametrize("arch", abi.ARCHES)
def test_families_and_structs_that_signatures_name_exist(arch: str) -> None:
    from trapline.abi import flags, structs

    # Structs of which hooks see no layout: opaque, or of another subsystem's making.
    without = {"io_uring_params", "iocb", "kexec_segment", "msqid_ds", "shmid_ds", "perf_event_attr", "rseq"}
    without |= {"statmount", "bpf_attr", "getcpu_cache", "__aio_sigset", "__compat_aio_sigset"}
    for name in abi.names(arch):
        for param in abi.signature(name, arch).params:
            if param.family:
                assert flags.members(param.family, arch) is not None
            if param.struct and param.struct not in without:
                assert structs.exists(param.struct, arch), f"{arch}: {name}.{param.name}: {param.struct}"


def shape(name: str, arch: str = "x86_64") -> list[tuple[str, str | None, bool]]:
    return [(param.name, param.dirfd, param.follow) for param in abi.signature(name, arch).paths]


def test_paths_say_what_they_are_relative_to_and_whether_links_are_followed() -> None:
    assert shape("openat") == [("filename", "dfd", True)]
    assert shape("lstat") == [("filename", None, False)]
    assert shape("renameat2") == [("oldname", "olddfd", False), ("newname", "newdfd", False)]
    assert shape("symlinkat") == [("newname", "newdfd", False)]
    assert shape("linkat") == [("oldname", "olddfd", False), ("newname", "newdfd", False)]
    (statx,) = abi.signature("statx", "x86_64").paths
    assert (statx.follow_flag, statx.empty_flag) == (("flags", 0x100), ("flags", 0x1000))
    (old, _) = abi.signature("linkat", "x86_64").paths
    assert old.follow_flag == ("flags", 0x400)
    (link,) = abi.signature("readlinkat", "x86_64").paths
    assert (link.follow, link.empty) == (False, True)


def test_flags_have_the_values_of_their_architecture() -> None:
    found = [abi.signature("openat", arch).paths[0].follow_flag for arch in abi.ARCHES]
    assert found == [("flags", 0x20000), ("flags", 0x20000), ("flags", 0x8000)]


def test_every_string_that_is_no_path_is_known_to_be_none() -> None:
    # A path-taking call that is missing from the table would show up here as a string.
    strings = {
        f"{name}.{param.name}"
        for arch in abi.ARCHES
        for name in abi.names(arch)
        for param in abi.signature(name, arch).params
        if param.kind == "str"
    }
    attributes = {f"{name}.name" for name in abi.names("x86_64") if "xattr" in name and "list" not in name}
    assert strings - attributes == {
        *(
            "symlink.oldname",
            "symlinkat.oldname",
            "mount.type",
            "mount.data",
            "fsopen._fs_name",
            "fsconfig._key",
        ),
        *("memfd_create.uname", "mq_open.u_name", "mq_unlink.u_name", "delete_module.name_user"),
        *("init_module.uargs", "finit_module.uargs", "add_key._type", "add_key._description"),
        *("request_key._type", "request_key._description", "request_key._callout_info"),
    }


@pytest.mark.parametrize(
    ("name", "returns", "cloexec"),
    [
        ("openat", "fd", ("flags", 0o2000000)),
        ("socket", "fd", ("type", 0o2000000)),
        ("pipe2", "int", ("flags", 0o2000000)),
        ("memfd_create", "fd", ("flags", 1)),
        ("dup", "fd", None),
        ("read", "size", None),
        ("mmap", "addr", None),
        ("getpid", "pid", None),
    ],
)
def test_results_are_classified(name: str, returns: str, cloexec: tuple[str, int] | None) -> None:
    signature = abi.signature(name, "x86_64")
    assert (signature.returns, signature.cloexec) == (returns, cloexec)


def test_i386_takes_64_bit_values_in_two_registers() -> None:
    halves = [(param.name, param.half) for param in abi.signature("pread64", "i386").params[3:]]
    assert halves == [("poslo", "lo"), ("poshi", "hi")]
    assert [param.half for param in abi.signature("fallocate", "i386").params] == [
        None,
        None,
        "lo",
        "hi",
        "lo",
        "hi",
    ]
    assert [param.bits for param in abi.signature("pread64", "x86_64").params] == [32, 64, 64, 64]


def test_i386_calls_with_64_bit_times_name_the_64_bit_struct() -> None:
    assert abi.signature("clock_gettime", "i386").params[1].struct == "timespec"
    assert abi.signature("clock_gettime64", "i386").params[1].struct == "__kernel_timespec"


def test_clone_takes_its_arguments_in_each_architectures_order() -> None:
    order = [[param.name for param in abi.signature("clone", arch).params][3:] for arch in abi.ARCHES]
    assert order == [["child_tidptr", "tls"], ["tls_val", "child_tidptr"], ["tls", "child_tidptr"]]


def test_the_multiplexers_of_i386_name_calls() -> None:
    assert (abi.SOCKETCALL[3], abi.SOCKETCALL[18], abi.IPC[21]) == ("connect", "accept4", "shmat")
    for name in [*abi.SOCKETCALL.values(), *abi.IPC.values()]:
        assert abi.signature(name, "i386").known
    assert not abi.exists("send", "i386")
    with pytest.raises(UnknownSyscallError):
        abi.number("send", "i386")


def test_a_register_is_narrowed_to_what_the_kernel_sees() -> None:
    dfd, _, _, mode = abi.signature("openat", "x86_64").params
    assert dfd.narrow(0xDEADBEEF_FFFFFF9C) == -100
    assert mode.narrow(0xDEADBEEF_DEAD01A4) == 0o644
    count = abi.signature("read", "x86_64").params[2]
    assert count.narrow((1 << 64) - 1) == (1 << 64) - 1
    assert abi.signature("read", "i386").params[2].narrow((1 << 64) - 1) == (1 << 32) - 1


def test_the_own_architecture_is_the_default() -> None:
    arch = abi.native_arch()
    assert abi.number("read") == abi.number("read", arch)
    assert abi.signature("read") is abi.signature("read", arch)
    assert abi.AUDIT_ARCH["x86_64"] == 0xC000003E


def test_importing_the_tables_brings_in_none_of_the_slow_modules() -> None:
    code = (
        "import sys; before = set(sys.modules); from trapline import abi; abi.signature('openat');"
        "abi.number('read'); abi.name(1);"
        "slow = {'enum', 're', 'typing', 'dataclasses', 'functools', 'collections', 'contextlib'};"
        "print(sorted(slow & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": import_path()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def import_path() -> str:
    return str(Path(abi.__file__).parents[2])
