"""Programs of every kind, executed in every way, keep their hooks; those that may not have them run without."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HOOKED = "77"
RULE = ("getppid:retval=77",)


def test_every_way_to_execute_is_as_natively(exact):
    exact("exec/forms")


def test_an_exec_keeps_and_resets_what_it_does_natively(exact):
    exact("exec/reset")


@pytest.mark.parametrize(
    "flags", [["-static"], ["-static-pie"], ["-no-pie"], ["-static", "-no-pie"]], ids="".join
)
@pytest.mark.parametrize("name", ["machine/registers", "signals/storm", "threads/vfork"])
def test_programs_may_be_linked_in_any_way(exact, build, name, flags):
    exact.same([build(name, *flags), *(["100"] if name == "signals/storm" else [])])


@pytest.fixture(scope="session")
def goroutines(public_folder, go_environment):
    if not shutil.which("go"):
        pytest.skip("Go is not here (golang)")
    target = public_folder / "goroutines"
    source = Path(__file__).parent.parent / "victims" / "exec" / "goroutines.go"
    subprocess.run(["go", "build", "-o", str(target), str(source)], check=True, env=go_environment)
    return str(target)


def test_goroutines_are_preempted_and_start_programs(exact, goroutines):
    assert "calls: 4000" in exact.same([goroutines])


def test_hooks_follow_through_scripts_shells_and_children(under, build, tmp_path):
    parent = build("exec/parent")
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n'{parent}' +'{parent}' env '{parent}'\n")
    script.chmod(0o755)
    done = under([parent, str(script)], rules=RULE)
    assert done.stdout.split() == [HOOKED, HOOKED, HOOKED, HOOKED, "0", HOOKED]
    assert done.stderr == ""


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"], ["-static", "-no-pie"]], ids="".join)
def test_hooks_follow_into_programs_linked_in_any_way(under, build, flags):
    done = under([build("exec/parent"), build("exec/parent", *flags), build("exec/parent")], rules=RULE)
    assert done.stdout.split() == [HOOKED] * 3
    assert done.stderr == ""


def test_a_command_that_cannot_be_executed_is_said_so(under, tmp_path):
    (tmp_path / "plain").write_text("text")
    assert under([str(tmp_path / "plain")], rules=RULE).returncode == 126
    assert under(["no-such-command"], rules=RULE).returncode == 127
