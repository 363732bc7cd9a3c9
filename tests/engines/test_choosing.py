"""Which engine a session takes, and what it says of that."""

from __future__ import annotations

import os
import re

import pytest

import trapline
from trapline import on, on_return
from trapline.engines import choose as choosing
from trapline.engines.base import ENGINES, STARTABLE
from trapline.engines.choose import choose, is_possible, next_engine
from trapline.errors import UnsupportedByEngineError, UsageError
from trapline.trace.file import count_calls


@on("personality")
def plain(call):
    return None


@on_return("personality")
def sees_result(call):
    return None


@on("personality", changes_args=True)
def changes(call):
    return None


@on("getppid", performs=True)
def performs(call):
    return call.reply(call.perform() + 1)


NEEDY = [sees_result, changes, performs]


def chosen(hooks=(), **options):
    session = trapline.Session(["true"], hooks=hooks, **options)
    with session:
        session.wait()
    return session.engine, session.engine_reason


def test_auto_takes_the_cheapest_where_nothing_more_is_needed():
    assert chosen([plain]) == (
        "notify",
        "the cheapest engine, and hooks and rules need nothing that it cannot do",
    )


@pytest.mark.parametrize("hook", NEEDY, ids=lambda hook: hook.__name__)
def test_auto_takes_the_cheapest_that_can_do_what_a_hook_declares(hook):
    engine, reason = chosen([plain, hook])
    assert engine == next(name for name in STARTABLE if name != "notify" and is_possible(name))
    assert f"hook '{hook.__name__}'" in reason or "of those that work here" in reason


def test_auto_takes_an_engine_that_sees_results_for_a_delay_after_the_call():
    engine, reason = chosen(rules=["getuid:delay_exit=1us"])
    assert "result" in ENGINES[engine]
    assert "rule 'getuid:delay_exit=1us'" in reason or "of those that work here" in reason


@pytest.mark.parametrize("hook", NEEDY, ids=lambda hook: hook.__name__)
def test_an_engine_that_cannot_do_it_is_refused_with_those_that_can(hook):
    with pytest.raises(UnsupportedByEngineError) as caught:
        trapline.run(["true"], hooks=[hook], engine="notify")
    said = str(caught.value)
    assert f"hook '{hook.__name__}'" in said
    able = [name for name in STARTABLE if name != "notify"]
    assert re.findall(r"\w+", said.partition("--engine ")[2].replace(" or ", " ")) == able


MISSING = {
    "membarrier": ("sud", "'rewrite' cannot start: membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE): "),
    "prctl": ("trap", "'sud' cannot start: prctl(PR_SET_SYSCALL_USER_DISPATCH): "),
}


@pytest.mark.parametrize("missing", MISSING)
def test_an_engine_that_misses_something_here_is_passed_over(cli, trapline, victim, sys, tmp_path, missing):
    hooks = tmp_path / "refuses.py"
    when = ", when=arg(0) == 59" if missing == "prctl" else ""
    hooks.write_text(
        f"from trapline import Errno, arg, on\n\n@on({missing!r}{when})\n"
        "def refuse(call):\n    return call.fail(Errno.EPERM)\n"
    )
    inner = [
        trapline,
        "run",
        "-v",
        "-e",
        "getuid:retval=17:delay_exit=1us",
        "--",
        victim("caller"),
        sys("getuid"),
    ]
    done = cli("run", "--engine", "notify", "-s", str(hooks), "--", *inner)
    assert (done.returncode, done.stdout) == (0, "17\n")
    expected, why = MISSING[missing]
    told = f"trapline: engine {expected}: the next one that can do what is needed, as engine {why}"
    assert done.stderr.splitlines()[-1] == f"{told}Operation not permitted (EPERM)"


def test_a_command_that_an_engine_cannot_enter_is_given_to_the_next(cli, victim, tmp_path):
    old = victim("execs", "32")
    record = tmp_path / "record"
    done = cli("run", "-v", "-e", "getuid:delay_exit=1us", "--", old, "after")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("trapline: engine ptrace: ")
    assert "as engine 'trap' cannot enter the program: it is a 32-bit program" in done.stderr
    traced = cli("trace", "--format", "raw", "-o", str(record), "--", old, "after")
    assert (traced.returncode, traced.stdout) == (0, done.stdout)
    # Whatever was tried before has written nothing.
    assert count_calls(str(record))["execve"] == 1


def test_a_listener_that_is_there_already_makes_auto_go_on(cli, trapline, never_matches, sys, victim):
    inner = [trapline, "run", "-v", "-e", "getuid:retval=17", "--", victim("caller"), sys("getuid")]
    done = cli("run", "--engine", "notify", "-s", never_matches, "--", *inner)
    assert (done.returncode, done.stdout) == (0, "17\n")
    engine = next_engine("notify")
    assert engine
    assert done.stderr == (
        f"trapline: engine {engine}: the next one that can do what is needed, as engine 'notify' cannot start: "
        "seccomp(SECCOMP_SET_MODE_FILTER) failed with EBUSY, because this process tree already has a listener\n"
    )


def test_an_engine_that_was_asked_for_is_not_replaced(cli, trapline, never_matches):
    inner = [trapline, "run", "--engine", "notify", "-s", never_matches, "--", "true"]
    done = cli("run", "--engine", "notify", "-s", never_matches, "--", *inner)
    assert done.returncode == 125
    assert f"already has a listener. Use --engine {next_engine('notify')}, or run" in done.stderr


def test_asking_for_an_engine_gets_it_and_says_so(engine):
    assert chosen([plain], engine=engine) == (engine, "it was asked for")


def test_an_unknown_engine_is_told_the_known_ones():
    with pytest.raises(UsageError, match="'magic'; use auto, notify"):
        choose("magic", {})


def test_engines_of_the_agent_say_that_they_need_x86_64(monkeypatch):
    monkeypatch.setattr(choosing, "STARTABLE", ("notify", "ptrace"))
    uname = os.uname_result(("Linux", "host", "6.1", "1", "aarch64"))
    monkeypatch.setattr(os, "uname", lambda: uname)
    with pytest.raises(UnsupportedByEngineError) as caught:
        choose("sud", {})
    assert str(caught.value) == (
        "engine 'sud' needs x86-64: it places machine code in the program, and this machine is aarch64. "
        "Use --engine notify or ptrace"
    )
    engines, _ = choose("auto", {"result": "hook 'x'"})
    assert engines == ["ptrace"]


def test_stats_say_what_became_of_sites_on_rewrite_alone(engine, cli):
    done = cli(
        "run", "--engine", engine, "--stats", "-e", "getppid:retval=1", "--", "sh", "-c", "true; id -u"
    )
    assert done.returncode == 0
    told = re.findall(
        r"^trapline: process \d+: (\d+) system call sites met, (\d+) rewritten", done.stderr, re.M
    )
    assert bool(told) == (engine == "rewrite")
    assert all(int(met) >= int(rewritten) for met, rewritten in told)


def test_sites_of_a_program_that_repeats_a_call_are_rewritten_and_summed_up():
    command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000", "status=none"]
    stats = trapline.run(command, hooks=[plain], engine="rewrite").stats
    sites = stats.sites
    assert sites["patched"] >= 2
    assert sites["seen"] == sites["patched"] + sum(sites["left"].values())
    (process,) = sites["processes"].values()
    assert process == {"seen": sites["seen"], "patched": sites["patched"], "left": sites["left"]}
