"""``trapline run``: options, hooks files, exit statuses and messages."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.fixture
def script(tmp_path):
    """Write a hooks file and return its path."""

    def write(text, name="hooks.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


PASS = 'from trapline import on\n\n\n@on("getppid")\ndef h(call):\n    return None\n'


def one_line(text):
    assert text.startswith("trapline: ")
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize("status", [0, 1, 7, 124, 125, 126, 127, 255])
def test_the_exit_status_is_the_program_s_own(cli, script, status):
    assert cli("run", "-s", script(PASS), "--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15, 34])
def test_a_signal_that_ends_the_program_is_128_and_its_number(cli, script, number):
    done = cli("run", "-s", script(PASS), "--", "sh", "-c", f"ulimit -c 0; kill -{number} $$")
    assert done.returncode == 128 + number
    assert done.stderr == ""


def test_statuses_of_what_cannot_be_run_are_127_126_and_125(cli, tmp_path):
    (tmp_path / "plain").write_text("x")
    missing = cli("run", "--", "no-such-command")
    assert missing.returncode == 127
    assert "no-such-command" in one_line(missing.stderr)
    assert cli("run", "--", "/no/such/file").returncode == 127
    denied = cli("run", "--", str(tmp_path / "plain"))
    assert denied.returncode == 126
    one_line(denied.stderr)
    folder = cli("run", "--", str(tmp_path))
    assert folder.returncode == 126
    one_line(folder.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no command"),
        (("-s",), "needs a value"),
        (("--no-such",), "--no-such"),
        (("-s", "/no/such.py", "--", "true"), "does not exist"),
        (("-e", "nonsense", "--", "true"), "is not CALL"),
        (("-e", "opnat:error=EIO", "--", "true"), "opnat"),
        (("--engine", "magic", "--", "true"), "magic"),
        (("--workers", "many", "--", "true"), "many"),
        (("--workers", "0", "--", "true"), "workers"),
        (("--on-hook-error", "shrug", "--", "true"), "shrug"),
        (("--set", "a=1", "--", "true"), "no hooks file declares"),
        (("--set", "a", "--", "true"), "KEY=VALUE"),
        (("--stats=yes", "--", "true"), "no value"),
    ],
)
def test_what_cannot_be_understood_is_one_line_and_125(cli, words, said):
    done = cli("run", *words)
    assert done.returncode == 125
    assert said in one_line(done.stderr)
    assert done.stdout == ""


def test_options_end_at_the_command_even_without_dashes(cli):
    done = cli("run", "-e", "getppid:retval=0", "printf", "%s", "-e")
    assert done.stdout == "-e"


def test_help_lists_every_option(cli):
    for words in (("run", "--help"), ("run", "-h")):
        done = cli(*words)
        assert done.returncode == 0
        assert all(
            option in done.stdout
            for option in ("--script", "--rule", "--set", "--engine", "--stats", "examples:")
        )


def test_nothing_of_trapline_s_own_goes_to_standard_output(cli, script):
    done = cli("run", "-v", "--stats", "-s", script(PASS), "--", "echo", "out")
    assert done.stdout == "out\n"
    assert "trapline: engine notify" in done.stderr
    assert all(line.startswith("trapline: ") for line in done.stderr.splitlines())


def test_hooks_files_are_used_in_order_and_lists_are_obeyed(cli, script, victim, sys):
    reply = 'from trapline import on\n\n\n@on("getppid")\ndef h(call):\n    return call.reply({})\n'
    first, second = script(reply.format(1), "first.py"), script(reply.format(2), "second.py")
    run = ("--", victim("caller"), sys("getppid"))
    assert cli("run", "-s", first, "-s", second, *run).stdout == "1\n"
    assert cli("run", "-s", second, "-s", first, *run).stdout == "2\n"
    listed = script(
        'from trapline import on\n\n\n@on("getppid")\ndef unused(call):\n    return call.reply(1)\n\n\n'
        '@on("getppid")\ndef used(call):\n    return call.reply(2)\n\n\nhooks = [used]\n',
        "listed.py",
    )
    assert cli("run", "-s", listed, *run).stdout == "2\n"


def test_two_hooks_files_of_one_name_are_two(cli, tmp_path, victim, sys):
    reply = 'from trapline import on\n\n\n@on("{}")\ndef h(call):\n    return call.reply({})\n'
    for folder, name, value in (("a", "getppid", 1), ("b", "getuid", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hooks.py").write_text(reply.format(name, value))
    done = cli(
        "run", "-s", f"{tmp_path}/a/hooks.py", "-s", f"{tmp_path}/b/hooks.py", "--",
        victim("caller"), sys("getppid"), sys("getuid"),
    )  # fmt: skip
    assert done.stdout == "1\n2\n"


def test_a_hooks_file_imports_what_lies_beside_it_and_may_have_any_name(cli, script, victim, sys):
    script("ANSWER = 42\n", "beside.py")
    path = script(
        "from beside import ANSWER\n" + PASS.replace("return None", "return call.reply(ANSWER)"),
        "my hooks-1.txt",
    )
    assert cli("run", "-s", path, "--", victim("caller"), sys("getppid")).stdout == "42\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("raise ValueError('while loading')\n", "while loading"),
        ("x = 1\n", "has no hooks"),
        ("hooks = []\n", "has no hooks"),
        ("from trapline import on\n\n\n@on('opnat')\ndef h(call):\n    pass\n", "opnat"),
        ("import sys\nsys.exit(3)\n", ""),
    ],
)
def test_a_hooks_file_that_cannot_be_loaded_is_125_and_says_why(cli, script, text, said):
    done = cli("run", "-s", script(text), "--", "echo", "ran")
    assert done.stdout == ""
    assert said in done.stderr
    if said:
        assert done.returncode == 125
        assert done.stderr.splitlines()[-1].startswith("trapline: ")


OPTIONS = (
    "import trapline\nfrom trapline import on\n\n"
    'number = trapline.option("number", 1, "what to answer")\n'
    'loud = trapline.option("loud", False)\n\n\n'
    '@on("getppid")\ndef h(call):\n    return call.reply(number * (100 if loud else 1))\n'
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [((), "1"), (("number=5",), "5"), (("number=5", "loud=yes"), "500"), (("loud=0", "number=0x7"), None)],
)
def test_set_reaches_the_hooks_file_in_the_type_of_its_default(cli, script, victim, sys, settings, expected):
    words = [word for setting in settings for word in ("--set", setting)]
    done = cli("run", "-s", script(OPTIONS), *words, "--", victim("caller"), sys("getppid"))
    if expected is None:
        assert done.returncode == 125
        assert "number is of type int" in done.stderr
    else:
        assert done.stdout == expected + "\n"


def test_set_of_an_option_that_nobody_declares_lists_those_there_are(cli, script):
    done = cli("run", "-s", script(OPTIONS), "--set", "numbr=1", "--", "true")
    assert done.returncode == 125
    assert "what to answer" in one_line(done.stderr)


def test_a_hook_that_raises_shows_its_traceback_and_one_line(cli, script, victim, sys):
    path = script('from trapline import on\n\n\n@on("getppid")\ndef h(call):\n    return {}["missing"]\n')
    run = ("-s", path, "--", victim("caller"), sys("getppid"))
    done = cli("run", *run)
    assert done.returncode == 125
    assert 'return {}["missing"]' in done.stderr
    assert done.stderr.splitlines()[-1].startswith("trapline: hook")
    assert cli("run", "--on-hook-error", "fail:EXDEV", *run).stdout == "-18\n"
    gone_on = cli("run", "--on-hook-error=continue", *run)
    assert int(gone_on.stdout) > 1
    assert "Traceback" in gone_on.stderr


def test_what_notify_cannot_do_is_one_line_and_125(cli, script):
    path = script('from trapline import on_return\n\n\n@on_return("read")\ndef log(call):\n    pass\n')
    done = cli("run", "--engine", "notify", "-s", path, "--", "true")
    assert done.returncode == 125
    assert "log" in one_line(done.stderr)


def test_a_closed_standard_error_or_output_harms_nobody(trapline, script):
    for redirection in (">&-", "2>&-", "<&-", ">&- 2>&- <&-", "> /dev/full"):
        line = f"'{trapline}' run --stats -s '{script(PASS)}' -- sh -c 'exit 5' {redirection}"
        assert subprocess.run(["sh", "-c", line], capture_output=True, timeout=60).returncode == 5, (
            redirection
        )


def test_descriptors_that_the_caller_hands_on_arrive(trapline, script):
    reader, writer = os.pipe()
    os.write(writer, b"handed on\n")
    os.close(writer)
    command = [trapline, "run", "-s", script(PASS), "--", "cat", f"/proc/self/fd/{reader}"]
    done = subprocess.run(command, pass_fds=[reader], capture_output=True, timeout=60)
    os.close(reader)
    assert done.stdout == b"handed on\n"
