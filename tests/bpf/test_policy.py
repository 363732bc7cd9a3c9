from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline import abi
from trapline.bpf import action
from trapline.bpf.action import RET_ALLOW, RET_KILL_PROCESS, RET_USER_NOTIF, errno
from trapline.bpf.conditions import arg, ip
from trapline.bpf.interpreter import check
from trapline.bpf.policy import Program, ProgramTooLongError, Rule, compile_policy, native_arches, rules_for
from trapline.errors import UnknownSyscallError, UsageError

X86 = ("x86_64", "i386")
CONDITIONS = [
    None,
    arg(0) == 5,
    arg(1).has(6),
    arg("fd") == 5,
    arg("flags").any(3),
    ip.within(10, 20),
    ip.within(10, 20) & ~(arg(0) == 5),
]


def filtered(names, when=None, verdict=RET_USER_NOTIF, **options) -> Program:
    options.setdefault("arches", X86)
    return compile_policy(rules_for(names, when, verdict, options["arches"]), **options)


def answer(program: Program, name: str, arch: str = "x86_64", *args: int, ip: int = 0) -> int:
    return program.run(abi.number(name, arch), arch, args, ip).action


def lacks(condition, name, arch) -> bool:
    try:
        if condition is not None:
            condition.matches(name, arch, [0] * 6)
    except UsageError:
        return True
    return False


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(X86),
            st.sampled_from([None, "read", "openat", "close", "dup3", "connect", "syscall_900"]),
            st.sampled_from(CONDITIONS),
            st.integers(1, 9).map(errno) | st.just(RET_ALLOW),
        ),
        max_size=8,
    ),
    st.lists(
        st.tuples(
            st.sampled_from(X86),
            st.sampled_from(["read", "openat", "write", "dup3", "connect", "syscall_900", "syscall_901"]),
            st.tuples(*[st.sampled_from([0, 5, 6, 7, 0xF00000005])] * 6),
            st.integers(8, 22),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_the_first_rule_that_matches_decides(written, calls):
    rules = [
        Rule(arch, None if name is None else abi.number(name, arch), when, verdict)
        for arch, name, when, verdict in written
    ]
    try:
        program = compile_policy(rules, default=errno(99), arches=X86)
    except UsageError:
        # Some rule for one call names a parameter that it lacks.
        assert any(name is not None and lacks(when, name, arch) for arch, name, when, _ in written)
        return
    check(program.instructions)
    for arch, name, args, pointer in calls:
        expected = errno(99)
        for rule in rules:
            if rule.arch != arch or rule.nr not in (None, abi.number(name, arch)):
                continue
            try:
                matches = rule.condition is None or rule.condition.matches(name, arch, args, pointer)
            except UsageError:
                continue  # "*" leaves out calls without the parameter
            if matches:
                expected = rule.action
                break
        assert program.run(abi.number(name, arch), arch, args, pointer).action == expected


def test_unhooked_calls_are_decided_by_number_alone_and_cached():
    program = filtered(["openat", "connect"], arg(0) == 3)
    for arch in X86:
        highest = max(abi.number(name, arch) for name in abi.names(arch))
        hooked = {abi.number(name, arch) for name in ("openat", "connect")}
        if arch == "i386":
            hooked.add(abi.number("socketcall", arch))
        assert program.cacheable_numbers(arch) == frozenset(range(highest + 1)) - hooked


def test_arguments_are_loaded_only_after_the_number_matched():
    program = filtered(["openat"], arg("flags").has(1))
    path = program.run(abi.number("read", "x86_64"), "x86_64").path
    loads = [program.instructions[at][3] for at in path if program.instructions[at][0] == 0x20]
    assert loads == [4, 0]


def test_star_and_many_names_stay_small():
    assert len(filtered(["*"])) <= 12
    names = sorted(abi.names("x86_64"))
    assert len(filtered(names[:300], arches=("x86_64",))) < 300
    assert len(filtered(names, arches=("x86_64",))) < 40


def test_unlisted_architectures_and_x32_are_decided_explicitly():
    program = filtered(["getppid"])
    nr = abi.number("getppid", "x86_64")
    assert program.run(nr, "aarch64").action == RET_KILL_PROCESS
    assert program.run(nr, 0).action == RET_KILL_PROCESS
    assert program.run(nr | abi.X32_SYSCALL_BIT, "x86_64").action == errno(38)
    assert program.run(0x3FFFFFFF, "x86_64").action == RET_ALLOW
    assert program.run(0x80000000, "x86_64").action == RET_ALLOW
    lenient = filtered(["getppid"], x32=None, other_arch=RET_ALLOW)
    assert lenient.run(nr | abi.X32_SYSCALL_BIT, "x86_64").action == RET_ALLOW
    assert lenient.run(nr, "aarch64").action == RET_ALLOW


def test_star_includes_numbers_without_a_name():
    program = filtered(["*"])
    for nr in (0, 335, 999, 0x3FFFFFFF, 0x80000000, 0xFFFFFFFF):
        assert program.run(nr, "x86_64").action == RET_USER_NOTIF


def test_star_with_a_named_parameter_means_the_calls_that_have_it():
    program = filtered(["*"], arg("fd") == 5)
    assert answer(program, "read", "x86_64", 5) == RET_USER_NOTIF
    assert answer(program, "read", "x86_64", 6) == RET_ALLOW
    assert answer(program, "getppid", "x86_64", 5) == RET_ALLOW
    # What hides its arguments in memory is caught: it may be a recv on descriptor 5.
    assert answer(program, "socketcall", "i386", 10) == RET_USER_NOTIF
    with pytest.raises(UsageError, match="no system call of x86_64"):
        filtered(["*"], arg("fdd") == 5)


def test_a_later_star_is_not_blamed_for_an_earlier_one():
    rules = rules_for(["*"], None, errno(1), X86) + rules_for(["*"], arg("fd") == 1, errno(2), X86)
    assert answer(compile_policy(rules, arches=X86), "read") == errno(1)


def test_socket_calls_of_i386_are_caught_inside_socketcall():
    program = filtered(["connect", "sendto"])
    assert answer(program, "connect", "i386") == RET_USER_NOTIF
    assert answer(program, "socketcall", "i386", 3) == RET_USER_NOTIF
    assert answer(program, "socketcall", "i386", 11) == RET_USER_NOTIF
    assert answer(program, "socketcall", "i386", 1) == RET_ALLOW


def test_names_that_only_socketcall_and_ipc_have_are_known():
    program = filtered(["accept", "shmat", "semop"])
    assert answer(program, "accept") == RET_USER_NOTIF
    assert answer(program, "socketcall", "i386", 5) == RET_USER_NOTIF
    for version in (0, 1 << 16):
        assert answer(program, "ipc", "i386", version | 21) == RET_USER_NOTIF
        assert answer(program, "ipc", "i386", version | 22) == RET_ALLOW


def test_arguments_inside_socketcall_count_as_fulfilled_but_the_pointer_is_seen():
    program = filtered(["connect"], (arg("fd") == 3) & ip.within(10, 20))
    assert answer(program, "socketcall", "i386", 3, ip=15) == RET_USER_NOTIF
    assert answer(program, "socketcall", "i386", 3, ip=25) == RET_ALLOW
    assert answer(filtered(["connect"], ~(arg("fd") == 3)), "socketcall", "i386", 3) == RET_USER_NOTIF


def test_a_rule_that_allows_does_not_allow_what_it_cannot_see():
    rules = rules_for(["connect", "mmap"], arg("fd") == 3, RET_ALLOW, X86)
    program = compile_policy(rules, default=errno(1), arches=X86)
    assert answer(program, "connect", "i386", 3) == RET_ALLOW
    assert answer(program, "socketcall", "i386", 3) == errno(1)
    assert answer(program, "mmap", "i386", 0x1000) == errno(1)
    anything = compile_policy(rules_for(["connect"], None, RET_ALLOW, X86), default=errno(1), arches=X86)
    assert answer(anything, "socketcall", "i386", 3) == RET_ALLOW


def test_names_of_one_architecture_only_make_rules_there():
    assert [rule.arch for rule in rules_for(["mmap2"], None, 0, X86)] == ["i386"]
    assert [rule.arch for rule in rules_for(["arch_prctl", "newfstatat"], None, 0, ("x86_64",))] == [
        "x86_64"
    ] * 2
    with pytest.raises(UnknownSyscallError, match="opennat"):
        rules_for(["opennat"], None, 0, X86)


def test_numbers_without_a_name_can_be_hooked():
    program = filtered(["syscall_900"])
    assert program.run(900, "x86_64").action == program.run(900, "i386").action == RET_USER_NOTIF
    own = filtered([f"syscall_{abi.number('getppid', 'x86_64')}"])
    assert answer(own, "getppid") == RET_USER_NOTIF


def test_an_x32_number_that_a_rule_names_is_hooked():
    rules = [Rule("x86_64", 0x40000000 | 39, None, errno(1))]
    program = compile_policy(rules, arches=X86)
    assert program.run(0x40000000 | 39, "x86_64").action == errno(1)
    assert program.run(0x40000000 | 40, "x86_64").action == errno(38)


def test_rules_of_an_unlisted_architecture_are_refused():
    with pytest.raises(UsageError, match="not listed"):
        compile_policy([Rule("aarch64", 0, None, 0)], arches=X86)


def test_the_native_architecture_comes_first():
    assert native_arches("x86_64") == X86
    assert native_arches("aarch64") == ("aarch64",)


def test_too_many_ranges_propose_the_arena():
    scattered = [(n << 33, (n << 33) + 4096) for n in range(3000)]
    with pytest.raises(ProgramTooLongError, match="arena"):
        filtered(["getppid"], ip.within(*scattered))


def test_equal_conditions_of_many_calls_share_their_code():
    spans = [(n << 16, (n << 16) + 4096) for n in range(1, 500)]
    one, all_ = filtered(["read"], ip.within(*spans)), filtered(["*"], ip.within(*spans))
    assert abs(len(all_) - len(one)) < 20


def test_bytes_are_what_the_kernel_reads():
    program = filtered(["getppid"])
    raw = program.to_bytes()
    assert len(raw) == 8 * len(program)
    assert Program.from_bytes(raw) == program
    assert raw[:8] == bytes([0x20, 0, 0, 0, 4, 0, 0, 0])


def test_disassembly_names_calls_actions_and_targets():
    text = filtered(["openat"], (arg("flags") & 3) == 1).disassemble()
    for expected in ("ld   arch", "; x86_64", "; nr == openat", "ld   arg2.low", "and  #0x3", "USER_NOTIF"):
        assert expected in text
    lines = text.splitlines()
    for line, (code, jt, jf, _) in zip(
        lines, filtered(["openat"], (arg("flags") & 3) == 1).instructions, strict=True
    ):
        if code & 7 == 5 and code != 5:
            at = int(line.split(":")[0])
            targets = line.split(";")[0].rstrip().split(", ")[-2:]
            assert [int(target) for target in targets] == [at + 1 + jt, at + 1 + jf]


def test_actions_read_back():
    assert action.text(RET_ALLOW) == "ALLOW"
    assert action.text(errno(0)) == "ERRNO(0)"
    assert action.text(action.trap(7)) == "TRAP(7)"
    assert action.text(action.trace(5)) == "TRACE(5)"
    assert action.text(0x12340000) == "0x12340000"
    with pytest.raises(ValueError, match="4095"):
        errno(4096)


def test_compiling_imports_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from trapline.bpf.policy import compile_policy, rules_for\n"
        "from trapline.bpf.conditions import arg\n"
        "compile_policy(rules_for(['openat'], arg('flags') == 1, 0))\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(new & {'typing', 'dataclasses', 're', 'enum', 'functools', 'collections', 'contextlib',"
        " 'argparse', 'struct', 'trapline.bpf.interpreter', 'trapline.bpf.disassembler'}))"
    )
    # -S: site itself may import some of them.
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_condition_for_all_calls_may_be_about_calls_that_an_earlier_rule_decides():
    rules = [
        *rules_for(["mkdir", "mkdirat", "rmdir", "unlink", "unlinkat"], None, action.errno(1)),
        *rules_for(["*"], arg("pathname") == 1, action.errno(2)),
    ]
    assert compile_policy(rules)
