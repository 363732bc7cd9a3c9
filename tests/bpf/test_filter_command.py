from __future__ import annotations

import argparse
import json

import pytest

from trapline import abi
from trapline.bpf import measure
from trapline.bpf.drawing import draw
from trapline.bpf.policy import Program, compile_policy, rules_for
from trapline.cli import filter as command
from trapline.errors import UsageError

from . import kernel

RULE = "openat if flags.any(O_WRONLY|O_RDWR) -> errno(EROFS)"


@pytest.fixture
def trapline(capsys):
    """Return what runs ``trapline filter ...`` and returns its standard output."""
    parser = argparse.ArgumentParser(prog="trapline")
    command.add_parser(parser.add_subparsers())

    def run(*words: str) -> str:
        args = parser.parse_args(["filter", *words])
        assert args.run(args) == 0
        return capsys.readouterr().out

    return run


def test_show_prints_the_filter_disassembled(trapline):
    out = trapline("show", "-e", RULE, "--arch", "x86_64,i386")
    for expected in ("ld   arch", "nr == openat", "ld   arg2.low", "jset #0x3", "ERRNO(30)", "ALLOW"):
        assert expected in out


def test_show_writes_what_the_kernel_reads_and_reads_it_back(trapline, tmp_path):
    path = tmp_path / "filter.bpf"
    assert trapline("show", "-e", RULE, "-o", str(path)) == ""
    assert trapline("show", "--raw", str(path)) == trapline("show", "-e", RULE)
    rows = json.loads(trapline("show", "--raw", str(path), "--json"))
    raw = Program.from_bytes(path.read_bytes())
    assert [(row["code"], row["jt"], row["jf"], row["k"]) for row in rows] == list(raw.instructions)


def test_simulate_shows_the_path_of_one_call(trapline):
    x86 = ("--arch", "x86_64,i386", "--call-arch", "x86_64")
    denied = trapline("simulate", "-e", RULE, *x86, "openat", "AT_FDCWD", "0", "O_RDWR")
    assert denied.splitlines()[-1].startswith("openat: ERRNO(30) after ")
    allowed = json.loads(trapline("simulate", "-e", RULE, *x86, "--json", "openat", "-100", "0", "O_RDONLY"))
    assert allowed["action"] == "ALLOW"
    assert allowed["path"][0]["at"] == 0
    by_number = trapline("simulate", "-e", RULE, *x86, "257", "0", "0", "2")
    assert "ERRNO(30)" in by_number
    outside = trapline(
        "simulate", "-e", "getpid if ip.within(0x1000, 0x2000)", *x86, "getpid", "--ip", "0x2000"
    )
    assert "getpid: ALLOW" in outside


def test_count_says_what_is_cached(trapline):
    out = trapline("count", "-e", "connect if fd == 3", "--arch", "x86_64,i386")
    assert "without running the filter" in out
    assert "  connect: at most" in out
    report = json.loads(trapline("count", "-e", "connect", "--arch", "x86_64,i386", "--json"))
    facts = report["arches"]["x86_64"]
    assert facts["cached"] == facts["numbers"] - 1
    assert list(facts["longest_path_of"]) == ["connect"]
    assert max(facts["longest_path_of"].values()) <= report["longest_path"] <= report["instructions"]


@pytest.mark.skipif(not kernel.can_install(), reason="seccomp filters cannot be installed here")
@pytest.mark.skipif(abi.native_arch() != "x86_64", reason="measuring needs x86-64")
def test_count_measures_with_and_without_the_cache(trapline):
    report = json.loads(trapline("count", "-e", "connect", "--json", "--measure"))
    assert set(report["nanoseconds"]) == {"no filter", "this filter", "this filter, never cached"}
    assert all(value > 0 for value in report["nanoseconds"].values())


def test_measuring_needs_the_measured_call_to_be_allowed():
    program = compile_policy(rules_for(["getppid"], None, 0))
    if abi.native_arch() == "x86_64":
        with pytest.raises(UsageError, match="does not allow getppid"):
            measure.nanoseconds({"it": program})
    free = compile_policy(rules_for(["getpid"], None, 0))
    assert free.cacheable_numbers(abi.native_arch())
    assert not measure.uncached(free).cacheable_numbers(abi.native_arch())


def test_tree_draws_the_search(trapline):
    assert trapline("tree", "0x1000-0x2000", "0x700000000+0x100000000").splitlines() == [
        "high >= 0x00000001?",
        "|-- yes: high == 0x00000007?",
        "|   |-- yes: inside",
        "|   `-- no:  outside",
        "`-- no:  low >= 0x00002000?",
        "    |-- yes: outside",
        "    `-- no:  low >= 0x00001000?",
        "        |-- yes: inside",
        "        `-- no:  outside",
    ]
    assert draw([]) == "outside"
    assert draw([(0, 1 << 64)]) == "inside"


def test_oci_profiles_go_out_and_come_in(trapline, tmp_path):
    path, raw = tmp_path / "profile.json", tmp_path / "filter.bpf"
    path.write_text(trapline("oci", "export", "-e", "ptrace,bpf -> errno(EPERM)", "-e", RULE))
    out = trapline("oci", "import", str(path), "-o", str(raw))
    assert "otherwise ALLOW" in out
    assert len(raw.read_bytes()) % 8 == 0
    simulated = trapline("simulate", "--oci", str(path), "ptrace")
    assert "ptrace: ERRNO(1)" in simulated
    report = json.loads(trapline("oci", "import", str(path), "--json"))
    assert report["default"] == "ALLOW"
    assert report["notes"] == []
    written = tmp_path / "again.json"
    trapline("oci", "export", "-e", "ptrace", "--action", "errno(1)", "-o", str(written))
    assert json.loads(written.read_text())["syscalls"][0]["errnoRet"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show",), "give one of -e RULE"),
        (("show", "-e", "read", "--oci", "x"), "give one of"),
        (("show", "--oci", "/nonexistent"), "cannot read /nonexistent"),
        (("show", "-e", "read", "-o", "/nonexistent/x"), "cannot write"),
        (("show", "-e", "read", "--arch", "vax"), "unknown architecture 'vax'"),
        (("simulate", "-e", "read", "--call-arch", "vax", "read"), "unknown architecture 'vax'"),
        (("simulate", "-e", "read", "read", *"1234567"), "at most 6"),
        (("oci", "export"), "no rule is given"),
        (("oci", "import", "/nonexistent", "--kernel", "x"), "cannot read|no kernel version"),
    ],
)
def test_mistakes_are_explained(trapline, words, message):
    with pytest.raises(UsageError, match=message):
        trapline(*words)


def test_help_stands_in_for_a_missing_word(trapline):
    assert "simulate" in trapline()
    assert "import" in trapline("oci")
