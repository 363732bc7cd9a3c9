"""Inside other filters, other listeners, other users and other namespaces."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys as python
from pathlib import Path

import pytest
from confined import become_nobody, in_child

import trapline as library
from trapline import Errno, MemoryAccessError, on


@pytest.fixture(scope="module")
def public_trapline(public_folder):
    """A command line that any user may start: the installed package, copied where everybody can read it."""
    packages = public_folder / "packages"
    source = Path(library.__file__).parent
    shutil.copytree(source, packages / "trapline")
    for interpreter in dict.fromkeys(["/usr/bin/python3", os.path.realpath(python.executable)]):
        start = (
            [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ]
            if os.geteuid() == 0
            else []
        )
        code = (
            f"import sys; sys.path.insert(0, '{packages}'); from trapline.cli import main; sys.exit(main())"
        )
        tried = subprocess.run([*start, interpreter, "-c", code, "run", "--", "true"], capture_output=True)
        if tried.returncode == 0:
            return start, [interpreter, "-c", code]
    raise AssertionError(f"no interpreter that nobody may use: {tried.stderr}")


@pytest.fixture(scope="module")
def script(public_folder):
    path = public_folder / "reply.py"
    path.write_text(
        "from trapline import Errno, on\n\n\n"
        '@on("getppid")\ndef reply(call):\n    return call.reply(77)\n\n\n'
        '@on("openat")\ndef serve(call):\n'
        '    if call.path == "/virtual":\n        return call.reply_fd(b"served")\n'
    )
    return str(path)


def expected(done):
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[0] == "77", done
    assert done.stdout.splitlines()[2] == "served", done


@pytest.fixture
def words(victim, sys):
    return ["--", victim("caller"), sys("getppid"), sys("openat", -100, "s:/virtual", 0), "cat $"]


def run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_nobody_in_particular_may_use_it(public_trapline, script, words):
    drop, command = public_trapline
    expected(run([*drop, *command, "run", "-s", script, *words]))


def test_it_works_inside_a_user_namespace(public_trapline, script, words):
    drop, command = public_trapline
    for options in (["-U"], ["-Ur"]):
        probe = run([*drop, "unshare", *options, "true"])
        if probe.returncode:
            pytest.skip(f"user namespaces are not allowed here: {probe.stderr}")
        expected(run([*drop, "unshare", *options, *command, "run", "-s", script, *words]))


def test_a_program_may_enter_a_user_namespace_of_its_own(cli, script, words):
    probe = run(["unshare", "-Ur", "true"])
    if probe.returncode:
        pytest.skip(f"user namespaces are not allowed here: {probe.stderr}")
    expected(cli("run", "-s", script, "--", "unshare", "-Ur", *words[1:]))


def test_it_works_inside_a_plain_filter(trapline, victim, script, words):
    expected(run([victim("outer_filter"), "135:1", "--", trapline, "run", "-s", script, *words]))


def test_a_program_may_install_filters_of_its_own(cli, victim, script, sys):
    done = cli(
        "run", "-s", script, "--", victim("outer_filter"), "102:5", "110:6", "--",
        victim("caller"), sys("getuid"), sys("getppid"), sys("getgid"),
    )  # fmt: skip
    # Of two filters the stricter verdict counts, and an errno is stricter than a notification.
    assert done.stdout.split() == ["-5", "-6", str(os.getgid())]


def test_a_listener_that_is_there_already_is_told_with_the_way_out(trapline, victim, script, words):
    done = run(
        [
            victim("outer_filter"),
            "listener",
            "--",
            trapline,
            "run",
            "--engine",
            "notify",
            "-s",
            script,
            *words,
        ]
    )
    assert done.returncode == 125
    assert done.stdout == ""
    assert done.stderr.rstrip(".\n") == (
        "trapline: engine 'notify' cannot start: seccomp(SECCOMP_SET_MODE_FILTER) failed with EBUSY, because this "
        "process tree already has a listener. Use --engine rewrite, or run `trapline doctor`"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("around", ["listener", "317:1"])
def test_another_engine_is_taken_where_notify_cannot_start(trapline, victim, script, words, around):
    expected(run([victim("outer_filter"), around, "--", trapline, "run", "-s", script, *words]))


def test_trapline_inside_trapline_is_the_same_error(cli, trapline, script, words):
    done = cli("run", "-s", script, "--", trapline, "run", "--engine", "notify", "-s", script, *words)
    assert done.returncode == 125
    assert "failed with EBUSY" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_profile_that_refuses_seccomp_is_told_with_the_way_out(trapline, victim, script, words):
    done = run(
        [victim("outer_filter"), "317:1", "--", trapline, "run", "--engine", "notify", "-s", script, *words]
    )
    assert done.returncode == 125
    assert "EPERM" in done.stderr
    assert "seccomp=unconfined" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("refused", ["310:1", "311:1", "434:38", "438:1", "424:1"])
def test_a_profile_that_refuses_other_calls_does_not_matter(trapline, victim, script, words, refused):
    """process_vm_readv and _writev, pidfd_open, pidfd_getfd, pidfd_send_signal: older kernels and containers."""
    expected(run([victim("outer_filter"), refused, "--", trapline, "run", "-s", script, *words]))


def test_root_needs_no_no_new_privs_and_others_do(engine, calls, sys):
    calls([sys("getppid")], engine=engine)
    assert calls.done.stats.no_new_privs is (os.geteuid() != 0)
    status = library.run(
        ["grep", "NoNewPrivs", "/proc/self/status"], capture_output=True, text=True, engine=engine
    )
    assert status.stdout.split()[1] == str(int(os.geteuid() != 0))


def test_a_program_that_changes_its_user_is_still_hooked(engine, calls, sys):
    if os.geteuid() != 0:
        pytest.skip("changing the user needs root")

    @on("mkdir")
    def hook(call):
        return call.fail(Errno.EDOM) if call.path == "/made/by/nobody" else None

    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert calls(
        [sys("getuid"), sys("mkdir", "s:/made/by/nobody", 0)], [hook], before=drop, engine=engine
    ) == [
        "65534",
        "-33",
    ]


# PR_SET_DUMPABLE, 0: from here on nobody without privileges may look into the program.
HIDE = ("prctl", 4, 0, 0, 0, 0)


@pytest.mark.parametrize("how", ["path", "paths", "read_str", "fd_path"])
def test_a_program_that_hides_its_memory_is_no_reason_to_let_it_through(engine, victim, sys, how):
    """Unprivileged: what cannot be read raises, and is not mistaken for a call without a path."""

    def session():
        said = []

        @on("mkdir")
        def hook(call):
            try:
                said.append(
                    getattr(call, how)
                    if how.startswith("path")
                    else getattr(call, how)(call.raw[0] if how == "read_str" else 0)
                )
            except MemoryAccessError as error:
                said.append(error.errno)
                return call.fail(Errno.EACCES)

        done = library.run(
            [victim("caller"), sys(*HIDE), sys("mkdir", "s:/tmp", 0)],
            hooks=[hook],
            capture_output=True,
            engine=engine,
        )
        return said, done.stdout

    said, out = in_child(become_nobody, session)
    assert said in ([errno.EPERM], [errno.EACCES]), said
    assert out == b"0\n-13\n"


def test_a_rule_that_cannot_see_a_path_does_not_let_the_call_through(engine, victim, sys):
    def session():
        done = library.run(
            [victim("caller"), sys(*HIDE), sys("openat", -100, "s:/etc/hostname", 0)],
            rules=["openat:path=/etc/hostname:error=EACCES"], capture_output=True, engine=engine,
        )  # fmt: skip
        return done.stdout.split()

    assert int(in_child(become_nobody, session)[1]) < 0
