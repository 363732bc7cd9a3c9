from __future__ import annotations

import pytest

from trapline import abi
from trapline.bpf import action, expression
from trapline.errors import UsageError


def test_numbers_may_be_names_of_constants():
    assert expression.number("0x10") == 16
    assert expression.number("-100") == expression.number("AT_FDCWD") == -100
    assert expression.number("O_RDWR|O_CLOEXEC") == 0o2000002
    assert expression.number("EACCES") == 13
    assert expression.number("SIGSYS") == 31
    assert expression.number("1 << 40") == 1 << 40
    assert expression.number("~0") == -1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("fd == 3", "(arg('fd') == 3)"),
        ("3 == fd", "(arg('fd') == 3)"),
        ("arg(0) == 3", "(arg(0) == 3)"),
        ("1 <= fd < 5", "((arg('fd') >= 1) & (arg('fd') < 5))"),
        ("flags.has(4) and not (mode == 1 or mode == 2)", None),
        ("flags & 3 == 1", "((arg('flags') & 3) == 1)"),
        ("(flags & 3) == 1", "((arg('flags') & 3) == 1)"),
        ("fd in (1, 2)", "arg('fd').isin(1, 2)"),
        ("fd not in (1, 2)", "~arg('fd').isin(1, 2)"),
        ("fd.isin(1, 2)", "arg('fd').isin(1, 2)"),
        ("ip.within((1, 2), (3, 4))", "ip.within((1, 2), (3, 4))"),
        ("ip.within(1, 2)", "ip.within((1, 2))"),
        ("arg(0).unsigned > 5", "(arg(0).unsigned > 5)"),
    ],
)
def test_conditions_are_read_as_python_writes_them(text, same):
    found = repr(expression.condition(text))
    assert found == (same or "(arg('flags').has(4) & ~((arg('mode') == 1) | (arg('mode') == 2)))")


@pytest.mark.parametrize(
    "text",
    [
        "fd ==",
        "fd",
        "5",
        "fd = 3",
        "__import__('os').system('true')",
        "fd.__class__ == 1",
        "open('/etc/passwd')",
        "fd == 'x'",
        "fd == mode",
        "fd == 1 & mode == 2",
        "has(3)",
        "fd.has()",
        "fd.within(5, 1)",
        "flags.has(O_NO_SUCH_FLAG)",
        "arg(9) == 1",
        "[x for x in (1, 2)]",
    ],
)
def test_everything_else_is_refused_and_never_run(text):
    with pytest.raises(UsageError):
        expression.condition(text)


def test_actions_have_names():
    assert expression.action("allow") == action.RET_ALLOW
    assert expression.action("errno(EPERM)") == expression.action("errno(1)") == action.errno(1)
    assert expression.action("notify") == expression.action("USER_NOTIF") == action.RET_USER_NOTIF
    assert expression.action("trap(7)") == action.trap(7)
    assert expression.action("kill") == action.RET_KILL_PROCESS
    for text in ("errno", "errno(5000)", "explode", "allow(3)", "trap(70000)", ""):
        with pytest.raises(UsageError):
            expression.action(text)


def test_rules_have_three_parts():
    names, when, verdict = expression.rule("openat, creat if flags.has(4) -> errno(EROFS)")
    assert (names, repr(when), verdict) == (["openat", "creat"], "arg('flags').has(4)", action.errno(30))
    assert expression.rule("*") == (["*"], None, None)
    with pytest.raises(UsageError, match="names no system call"):
        expression.rule(" if fd == 1")


def test_spans_have_an_end_or_a_length():
    assert expression.span("0x1000-0x2000") == (0x1000, 0x2000)
    assert expression.span("0x1000+0x10") == (0x1000, 0x1010)
    for text in ("5", "-", "1-", "a-b"):
        with pytest.raises(UsageError):
            expression.span(text)


def test_every_constant_is_of_the_native_architecture():
    assert abi.native_arch() in abi.ARCHES
    assert expression.constant("O_CREAT") == 0o100
