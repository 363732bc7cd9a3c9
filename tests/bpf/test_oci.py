from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trapline import abi
from trapline.bpf import oci
from trapline.bpf.action import RET_ALLOW, RET_KILL_PROCESS, RET_TRAP, errno, trace
from trapline.bpf.conditions import arg, ip
from trapline.bpf.interpreter import check
from trapline.bpf.policy import compile_policy, rules_for
from trapline.errors import UsageError

# The profile that Docker, Podman and CRI-O install, where Debian's golang-github-containers-common puts it.
INSTALLED = Path(os.environ.get("TRAPLINE_OCI_PROFILE", "/usr/share/containers/seccomp.json"))


def load(profile, **options):
    options.setdefault("arch", "x86_64")
    return oci.load(json.dumps(profile), **options)


def profile(*syscalls, **more):
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [*syscalls],
        **more,
    }


def entry(*names, action="SCMP_ACT_ALLOW", **more):
    return {"names": [*names], "action": action, **more}


def answer(loaded, name, *args, arch="x86_64"):
    return loaded.compile().run(abi.number(name, arch), arch, args).action


@pytest.mark.skipif(
    not INSTALLED.exists(), reason=f"{INSTALLED} is not installed (golang-github-containers-common)"
)
def test_the_profile_that_containers_use_compiles_and_decides_as_written():
    loaded = oci.load(INSTALLED.read_bytes(), arch="x86_64")
    program = loaded.compile()
    check(program.instructions)
    assert answer(loaded, "read", 0) == RET_ALLOW
    assert answer(loaded, "personality", 8) == answer(loaded, "personality", 0xFFFFFFFF) == RET_ALLOW
    assert answer(loaded, "personality", 9) & 0xFFFF0000 == 0x00050000
    assert answer(loaded, "bpf", 0) & 0xFFFF0000 == 0x00050000
    assert answer(loaded, "socket", 16, 3, 9) == errno(22)
    assert answer(loaded, "socket", 16, 3, 8) == RET_ALLOW
    assert answer(oci.load(INSTALLED.read_bytes(), caps=["CAP_SYS_ADMIN"], arch="x86_64"), "bpf") == RET_ALLOW
    assert abi.number("read", "x86_64") in program.cacheable_numbers("x86_64")
    assert len(program.cacheable_numbers("x86_64")) > 250
    assert len(program) < 400


@pytest.mark.parametrize(
    ("op", "value", "second", "matching", "others"),
    [
        ("EQ", 5, 0, [5, 0xF00000005], [4, 6]),
        ("NE", 5, 0, [4, 6], [5, 0xF00000005]),
        ("LT", 5, 0, [0, 4], [5, 0xFFFFFFFF]),
        ("LE", 5, 0, [0, 5], [6, 0xFFFFFFFF]),
        ("GT", 5, 0, [6, 0xFFFFFFFF], [5, 0]),
        ("GE", 5, 0, [5, 0x80000000], [4]),
        ("MASKED_EQ", 6, 2, [2, 3, 0xA], [0, 4, 6]),
    ],
)
def test_arguments_are_compared_without_sign_in_their_own_width(op, value, second, matching, others):
    test = {"index": 0, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{op}"}
    loaded = load(profile(entry("close", "dup", args=[test])))
    for fd in matching:
        assert answer(loaded, "dup", fd) == RET_ALLOW, fd
    for fd in others:
        assert answer(loaded, "dup", fd) == errno(1), fd


def test_tests_of_different_arguments_must_all_hold_and_of_one_any():
    def test(index, value):
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    both = load(profile(entry("socket", args=[test(0, 2), test(1, 3)])))
    assert answer(both, "socket", 2, 3) == RET_ALLOW
    assert answer(both, "socket", 2, 4) == errno(1)
    any_of = load(profile(entry("socket", args=[test(0, 2), test(0, 3)])))
    assert answer(any_of, "socket", 2) == answer(any_of, "socket", 3) == RET_ALLOW
    assert answer(any_of, "socket", 4) == errno(1)


def test_includes_and_excludes_follow_capabilities_architecture_and_kernel():
    written = profile(
        entry("bpf", includes={"caps": ["CAP_SYS_ADMIN"]}),
        entry("chroot", excludes={"caps": ["CAP_SYS_CHROOT"]}),
        entry("arch_prctl", includes={"arches": ["amd64"]}),
        entry("ptrace", includes={"minKernel": "4.8"}),
        entry("acct", excludes={"arches": ["amd64", "x86"]}),
    )
    bare = load(written, kernel=(4, 7))
    assert [answer(bare, name) for name in ("bpf", "chroot", "arch_prctl", "ptrace", "acct")] == [
        errno(1),
        RET_ALLOW,
        RET_ALLOW,
        errno(1),
        errno(1),
    ]
    rich = load(written, kernel=(4, 8), caps=["sys_admin", "CAP_SYS_CHROOT"])
    assert [answer(rich, name) for name in ("bpf", "chroot", "ptrace")] == [RET_ALLOW, errno(1), RET_ALLOW]


def test_actions_carry_their_errno():
    loaded = load(
        profile(
            entry("read", action="SCMP_ACT_ERRNO", errnoRet=5),
            entry("write", action="SCMP_ACT_TRACE", errnoRet=7),
            entry("open", action="SCMP_ACT_TRAP"),
            entry("close", action="SCMP_ACT_KILL_PROCESS"),
            defaultErrnoRet=38,
        )
    )
    names = ("read", "write", "open", "close", "stat")
    assert [answer(loaded, name) for name in names] == [
        errno(5),
        trace(7),
        RET_TRAP,
        RET_KILL_PROCESS,
        errno(38),
    ]


def test_sub_architectures_are_judged_and_others_end_the_process():
    arch_map = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    written = {"defaultAction": "SCMP_ACT_ERRNO", "archMap": arch_map, "syscalls": [entry("read", "socket")]}
    loaded = load(written)
    assert loaded.arches == ("x86_64", "i386")
    assert answer(loaded, "read", arch="i386") == RET_ALLOW
    assert answer(loaded, "socketcall", 1, arch="i386") == RET_ALLOW
    assert answer(loaded, "read", arch="aarch64") == RET_KILL_PROCESS
    assert any("X32" in note for note in loaded.notes)
    arm = load(written, arch="aarch64")
    assert arm.arches == ("aarch64",)
    assert any("SCMP_ARCH_ARM" in note for note in arm.notes)


def test_names_that_do_not_exist_here_are_noted():
    loaded = load(profile(entry("read", "swapcontext")))
    assert answer(loaded, "read") == RET_ALLOW
    assert any("swapcontext" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"syscalls": []}', "no defaultAction"),
        ('{"defaultAction": "SCMP_ACT_MAYBE"}', "unknown action 'SCMP_ACT_MAYBE'"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "colour": 1}', "'colour', which is not supported"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}',
            "this machine is x86_64",
        ),
    ],
)
def test_what_is_no_profile_or_not_supported_is_refused(broken, message):
    with pytest.raises(UsageError, match=message):
        oci.load(broken, arch="x86_64")


def test_broken_entries_say_which():
    bad_op = entry("read", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_MAYBE"}])
    with pytest.raises(UsageError, match=r"syscalls\[0\]\.args: unknown op 'SCMP_CMP_MAYBE'"):
        load(profile(bad_op))
    with pytest.raises(UsageError, match=r"syscalls\[1\].*'nmes'"):
        load(profile(entry("read"), {"nmes": [], "action": "SCMP_ACT_ALLOW"}))
    with pytest.raises(UsageError, match=r"minKernel|kernel version"):
        load(profile(entry("read", includes={"minKernel": "four"})))


@pytest.mark.parametrize(
    "when",
    [
        None,
        arg("flags") == 5,
        arg("flags") != 5,
        arg("flags").has(6),
        arg("flags").none(6),
        arg("flags").any(6),
        ~arg("flags").has(6),
        ~arg("flags").any(6),
        arg("flags").isin([1, 2, 5]),
        (arg("flags") & 6) == 2,
        arg("mode") >= 5,
        (arg("dfd") == -100) & (arg("flags").has(4) | (arg("mode") < 3)),
    ],
    ids=repr,
)
def test_what_is_exported_means_the_same_when_imported(when):
    written = [(["openat"], when, errno(13)), (["close"], None, RET_TRAP)]
    loaded = oci.load(oci.dump(written, arches=("x86_64",)), arch="x86_64")
    rules = [rule for names, cond, action in written for rule in rules_for(names, cond, action, ("x86_64",))]
    direct = compile_policy(rules, arches=("x86_64",))
    for dfd in (0, 0xFFFFFF9C):
        for flags in range(9):
            for mode in (0, 2, 3, 5, 6):
                args = (dfd, 0, flags, mode)
                expected = direct.run(abi.number("openat", "x86_64"), "x86_64", args).action
                assert answer(loaded, "openat", *args) == expected, args
    assert answer(loaded, "close") == RET_TRAP


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (ip.within(1, 2), "instruction pointer"),
        (arg("dfd") < 0, "has a sign"),
        (arg("flags").has(1) & arg("flags").none(2), "alternatives"),
        (arg("mode").within(1, 2), "OCI cannot say"),
    ],
)
def test_what_oci_cannot_say_is_refused(when, message):
    with pytest.raises(UsageError, match=message):
        oci.dump([(["openat"], when, errno(1))], arches=("x86_64",))
