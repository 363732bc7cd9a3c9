from __future__ import annotations

import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline import abi
from trapline.bpf.action import RET_ALLOW, errno
from trapline.bpf.conditions import Condition, arg, ip
from trapline.bpf.lowering import resolver
from trapline.bpf.policy import Rule, compile_policy
from trapline.errors import UsageError

FULL = (1 << 64) - 1
CALLS = ["openat", "read", "lseek", "mmap", "ioctl", "kill", "clone3", "pread64", "syscall_4000"]
numbers = st.one_of(
    st.sampled_from(
        [0, 1, 2, -1, -100, 7, 1 << 31, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1, 1 << 32, (1 << 32) + 7]
    ),
    st.sampled_from([1 << 63, (1 << 63) - 1, -(1 << 63), FULL, FULL - 99, 1 << 64, -(1 << 64), 1 << 40]),
    st.integers(-5, 12),
)
masks = st.one_of(numbers, st.integers(0, FULL))
registers = st.one_of(
    numbers.map(lambda n: n & FULL),
    st.integers(0, FULL),
    # A 32-bit value under a garbage upper half.
    st.tuples(st.integers(0, 0xFFFFFFFF), numbers).map(lambda p: p[0] << 32 | (p[1] & 0xFFFFFFFF)),
)
values = st.one_of(st.integers(0, 5).map(arg), st.just(ip))
comparisons = st.sampled_from([operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
spans = st.lists(st.tuples(numbers, numbers).map(lambda p: (min(p), max(p))), max_size=4)
tests = st.one_of(
    st.builds(lambda v, op, n: op(v, n), values, comparisons, numbers),
    st.builds(lambda v, how, n: getattr(v, how)(n), values, st.sampled_from(["has", "any", "none"]), masks),
    st.builds(lambda v, m, n: (v & m) == n, values, masks, masks),
    st.builds(lambda v, m, n: (v & m) != n, values, masks, numbers),
    st.builds(lambda v, m: (v & m) == m, values, masks),
    st.builds(lambda v, ns: v.isin(ns), values, st.lists(numbers, max_size=5)),
    st.builds(lambda v, ps: v.within(*ps), values, spans),
)
conditions = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(operator.and_, inner, inner),
        st.builds(operator.or_, inner, inner),
        st.builds(operator.invert, inner),
    ),
    max_leaves=6,
)


def filtered(condition: Condition, name: str, arch: str) -> tuple:
    nr = abi.number(name, arch)
    return compile_policy([Rule(arch, nr, condition, errno(1))], arches=(arch,)), nr


@settings(max_examples=250)
@given(
    conditions,
    st.sampled_from(CALLS),
    st.sampled_from(["x86_64", "i386", "aarch64"]),
    st.lists(st.tuples(st.tuples(*[registers] * 6), registers), min_size=1, max_size=6),
)
def test_the_filter_agrees_with_plain_python(condition, name, arch, calls):
    program, nr = filtered(condition, name, arch)
    for args, pointer in calls:
        expected = errno(1) if condition.matches(name, arch, args, pointer) else RET_ALLOW
        assert program.run(nr, arch, args, pointer).action == expected


@settings(max_examples=60)
@given(conditions, st.tuples(*[registers] * 6), registers)
def test_not_is_the_opposite(condition, args, pointer):
    program, nr = filtered(~condition, "mmap", "x86_64")
    denied = program.run(nr, "x86_64", args, pointer).action == errno(1)
    assert denied != condition.matches("mmap", "x86_64", args, pointer)


def verdict(condition: Condition, name: str, *args: int, arch: str = "x86_64") -> bool:
    program, nr = filtered(condition, name, arch)
    result = program.run(nr, arch, args).action == errno(1)
    assert result == condition.matches(name, arch, (*args, *[0] * (6 - len(args))))
    return result


def test_parameters_are_found_by_their_kernel_names():
    condition = (arg("flags") & 0o3) == 1
    assert verdict(condition, "openat", 0, 0, 0o101)
    assert not verdict(condition, "openat", 0, 0, 0o102)


def test_upper_halves_of_32_bit_parameters_are_ignored():
    garbage = 0xDEADBEEF << 32
    assert verdict(arg("dfd") == -100, "openat", garbage | 0xFFFFFF9C)
    assert verdict(arg("dfd") == 0xFFFFFF9C, "openat", FULL - 99)
    assert verdict(arg("dfd") < 0, "openat", 0xFFFFFF9C)
    assert not verdict(arg("count") == 5, "read", 0, 0, garbage | 5)


def test_signs_come_from_the_prototype():
    assert verdict(arg("offset") < 0, "lseek", 0, FULL, 0)
    assert not verdict(arg("count") < 0, "read", 0, 0, FULL)
    assert verdict(arg("count") > 1 << 63, "read", 0, 0, FULL)
    assert verdict(arg("offset").within(-5, 5), "lseek", 0, FULL, 0)
    assert not verdict(arg("offset").within(-5, 5), "lseek", 0, 5, 0)


def test_a_64_bit_parameter_that_i386_splits_is_one_value():
    condition = arg("pos") >= 1 << 32
    assert verdict(condition, "pread64", 0, 0, 0, 1 << 32)
    names = [param.name for param in abi.signature("pread64", "i386").params]
    low, high = names.index("poslo"), names.index("poshi")
    args = [0] * 6
    args[low] = 7
    assert not verdict(condition, "pread64", *args, arch="i386")
    args[high] = 1
    assert verdict(condition, "pread64", *args, arch="i386")


@pytest.mark.parametrize(
    ("call", "there", "here"),
    [
        ("clone", "tls", "tls_val"),
        ("pread64", "buf", "ubuf"),
        ("waitid", "upid", "pid"),
        ("preadv", "pos_h", "pos_high"),
    ],
)
def test_i386_parameters_go_by_their_x86_64_names_too(call, there, here):
    args = list(range(1, 7))
    wanted = 1 + [param.name for param in abi.signature(call, "i386").params].index(here)
    assert verdict(arg(there) == wanted, call, *args, arch="i386")


def test_every_x86_64_parameter_is_found_on_i386():
    lost = []
    for name in abi.names("x86_64"):
        find = resolver(name, "i386") if abi.exists(name, "i386") else None
        for param in abi.signature(name, "x86_64").params if find else ():
            try:
                assert find(param.name).bits in (32, param.bits)
            except UsageError:
                lost.append((name, param.name))
    # Its halves are called w0 and w1 there.
    assert lost in ([], [("lookup_dcookie", "cookie64")])


def test_parameters_in_memory_count_as_fulfilled():
    args = (0x1234, 0, 0, 0, 0, 0)
    for condition in (
        arg("flags") == 1,
        arg("flags") != 1,
        ~(arg("flags") == 1),
        ip.within(0, 9) & (arg("fd") == 1),
    ):
        assert condition.matches("mmap", "i386", args, 5)
        assert verdict(condition, "mmap", *args, arch="i386")
    assert not (ip.within(0, 9) & (arg("fd") == 1)).matches("mmap", "i386", args, 10)


def test_an_unknown_parameter_names_the_call_and_what_it_has():
    with pytest.raises(
        UsageError, match=r"openat on x86_64 has no parameter 'flag'.*dfd, filename, flags, mode"
    ):
        filtered(arg("flag") == 1, "openat", "x86_64")
    with pytest.raises(UsageError, match="none that is known by name"):
        filtered(arg("flag") == 1, "syscall_4000", "x86_64")
    with pytest.raises(UsageError, match="arguments 0 to 5"):
        arg(6)


def test_python_and_or_not_are_caught():
    first, second = arg("fd") == 1, arg("fd") == 2
    for misuse in (
        lambda: first and second,
        lambda: first or second,
        lambda: not first,
        lambda: 3 < arg("fd") < 7,
        lambda: bool(arg("fd")),
        lambda: bool(arg("fd") & 3),
        lambda: arg("fd") in [1, 2],
    ):
        with pytest.raises(TypeError, match="no truth value"):
            misuse()


def test_operands_that_are_no_numbers_or_conditions_are_caught():
    with pytest.raises(TypeError, match="whole numbers"):
        arg("fd") == "1"  # noqa: B015
    with pytest.raises(TypeError, match="parentheses around each comparison"):
        (arg("fd") == 1) & 3
    with pytest.raises(TypeError, match="pairs"):
        ip.within("abc")
    with pytest.raises(UsageError, match="ends before it starts"):
        ip.within((5, 4))
    with pytest.raises(UsageError, match="step 1"):
        arg(0).within(range(0, 10, 2))


def test_within_is_half_open_and_takes_pairs_ranges_or_two_numbers():
    for condition in (arg(0).within(3, 6), arg(0).within((3, 6)), arg(0).within(range(3, 6))):
        assert [n for n in range(9) if verdict(condition, "read", n)] == [3, 4, 5]


def test_a_condition_reads_back_as_it_was_written():
    condition = (arg("flags").has(0x40) & (arg(0) == -100)) | ~ip.within((0x10000, 0x20000))
    assert repr(condition) == ("((arg('flags').has(64) & (arg(0) == -100)) | ~ip.within((0x10000, 0x20000)))")
    assert "992 more" in repr(arg(0).isin(range(1000)))
