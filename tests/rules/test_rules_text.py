"""Rules as text: what is said of one that cannot be."""

from __future__ import annotations

import pytest

import trapline
from trapline import UsageError
from trapline.errors import UnknownSyscallError
from trapline.rules import parse


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "is not CALL"),
        ("getuid", "is not CALL"),
        (":retval=0", "is not CALL"),
        ("getuid:retval", "KEY=VALUE"),
        ("getuid:retval=", "KEY=VALUE"),
        ("getuid:count=", "KEY=VALUE"),
        ("getuid:count=1", "count takes no value"),
        ("getuid:retval=x", "64-bit"),
        ("getuid:retval=9223372036854775808", "64-bit"),
        ("getuid:error=ENOSUCH", "unknown error"),
        ("getuid:error=0", "1 to 4095"),
        ("getuid:error=4096", "1 to 4095"),
        ("getuid:error=EIO:retval=0", "exclude"),
        ("getuid:error=EIO:error=EIO", "twice"),
        ("getuid:count:count", "twice"),
        ("getuid:path=/x:error=EIO", "takes no path"),
        ("getuid:when=0:error=EIO", "when"),
        ("getuid:when=5..2:error=EIO", "when"),
        ("getuid:when=1+0:error=EIO", "when"),
        ("getuid:when=2", "does nothing"),
        ("getuid:p=0.5", "does nothing"),
        ("getuid:delay_enter=fast", "no duration"),
        ("getuid:delay_enter=-1s", "no duration"),
        ("getuid:delay_enter=nan", "no duration"),
        ("getuid:delay_exit=inf", "no duration"),
        ("getuid:p=0:error=EIO", "no probability"),
        ("getuid:p=1.1:error=EIO", "no probability"),
        ("getuid:p=nan:error=EIO", "no probability"),
        ("getuid:p=often:error=EIO", "no probability"),
        ("getuid:seed=7:error=EIO", "without p="),
        ("getuid:p=0.5:seed=-1:error=EIO", "no number from 0"),
        ("getuid:p=0.5:seed=18446744073709551616:error=EIO", "no number from 0"),
        ("getuid:p=0.5:seed=x:error=EIO", "no number from 0"),
        ("getuid:colour=red", "unknown key"),
    ],
)
def test_a_rule_that_cannot_be_understood_says_which_part(rule, said):
    with pytest.raises(UsageError, match=said):
        trapline.run(["true"], rules=[rule])


def test_a_rule_for_a_call_that_no_table_has_names_it():
    with pytest.raises(UnknownSyscallError, match="opnat"):
        trapline.run(["true"], rules=["opnat:error=EIO"])


def test_too_many_rules_are_refused_before_the_start():
    with pytest.raises(UsageError, match="1025 rules"):
        trapline.run(["true"], rules=["getuid:count"] * 1025)


def test_as_many_rules_as_there_may_be_work(with_agent):
    done = trapline.run(["true"], rules=[f"getuid:when={n}:count" for n in range(1, 1025)], engine=with_agent)
    assert done.returncode == 0


def test_a_rule_says_what_it_is():
    plain = [parse(text).is_constant for text in ("getuid:retval=7", "getuid:error=EIO", "*:error=EPERM")]
    others = ["count", "count:retval=7", "when=2:retval=7", "p=0.5:retval=7", "delay_enter=1:retval=7"]
    assert plain == [True] * 3
    assert not any(parse(f"getuid:{other}").is_constant for other in others)
    assert parse("getuid:p=0.5:retval=7").probability == 0.5
    assert parse("getuid:p=1:retval=7:when=1+").is_constant
