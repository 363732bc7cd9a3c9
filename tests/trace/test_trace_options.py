"""Options that strace's users know: what they do here, and which are refused."""

from __future__ import annotations

import re
import subprocess

import pytest

SCRIPT = "kill -USR1 $$; cat /etc/hostname /nowhere/at/all; exit 3"


@pytest.fixture(scope="module")
def recorded(trapline, tmp_path_factory):
    path = tmp_path_factory.mktemp("options") / "record"
    script = f"trap : USR1; {SCRIPT}"
    command = [trapline, "trace", "--format", "raw", "-o", str(path), "--", "sh", "-c", script]
    assert subprocess.run(command, capture_output=True).returncode == 3
    return str(path)


def test_only_calls_that_succeed_or_fail(report):
    assert " = -1 E" not in report("-z")
    assert all(" = -1 E" in line for line in report("-Zqq", "-e", "signal=none").splitlines())
    assert report("-z", "-e", "execve").count("execve(") == 2


def test_results_stand_in_a_column(report):
    assert re.search(r"^close\(3\) {6}= 0$", report("-a", "14"), re.MULTILINE)
    assert re.search(r"^close\(3\) = 0$", report("-a1"), re.MULTILINE)


def test_calls_have_their_numbers(report):
    assert re.match(r"\[  59\] execve\(", report("-n"))


def test_signals_are_selected(report):
    assert "--- SIGUSR1 {" in report()
    assert "--- SIGUSR1" in report("-e", "signal=usr1,SIGTERM")
    assert "--- SIGUSR1" not in report("-e", "signal=!SIGUSR1")
    assert "---" not in report("-e", "signal=none")


def test_nothing_is_said_of_how_threads_end(report):
    assert report().count("+++ exited with") == 2
    assert "+++" not in report("-qq")
    assert "+++" not in report("-e", "quiet=exit")
    assert "+++" in report("-q")


def test_how_the_command_ended_is_said_whatever_is_selected(cli):
    assert cli("trace", "-e", "umask", "--", "sh", "-c", "exit 3").stderr == "+++ exited with 3 +++\n"


def test_the_table_is_sorted(report):
    def column(option, place):
        rows = report("-c", "-S", option).splitlines()[2:-2]
        return [row.split()[place] for row in rows]

    counts = [int(word) for word in column("calls", 3)]
    assert counts == sorted(counts, reverse=True)
    assert column("name", -1) == sorted(column("name", -1))
    times = [float(word) for word in column("time", 1)]
    assert times == sorted(times, reverse=True)


def test_files_are_shown_by_an_expression_too(report):
    assert "close(3</etc/hostname>)" in report("-e", "decode-fds=path")
    assert "close(3</etc/hostname>)" in report("-yy")


def test_a_file_for_each_thread(cli, tmp_path):
    done = cli("trace", "-ff", "-o", str(tmp_path / "out"), "--", "sh", "-c", "cat /dev/null; exit 3")
    assert done.returncode == 3
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffix[1:]))
    assert len(files) == 2
    texts = [path.read_text() for path in files]
    assert texts[0].startswith("execve(")
    assert 'execve("' in texts[1]
    assert texts[0].endswith("+++ exited with 3 +++\n")
    assert texts[1].endswith("+++ exited with 0 +++\n")


def test_the_output_is_appended_to(cli, tmp_path):
    for _ in range(2):
        assert cli("trace", "-A", "-o", str(tmp_path / "out"), "-e", "none", "--", "true").returncode == 0
    assert (tmp_path / "out").read_text().count("+++ exited with 0 +++") == 2


def test_the_environment_is_changed(cli, monkeypatch):
    monkeypatch.setenv("TO_GO", "here")
    done = cli("trace", "-E", "TO_COME=a=b", "-E", "TO_GO", "--", "sh", "-c", 'echo "$TO_COME ${TO_GO-gone}"')
    assert done.stdout == "a=b gone\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-zZ"], "-z and -Z exclude each other"),
        (["-S", "colour"], "-S knows time, calls, errors, avg-time, name, none"),
        (["-b", "execve"], "strace's -b does not exist here: programs stay traced across execve"),
        (["-xx"], "strace's -x does not exist here: use --format jsonl"),
        (["-fi"], "strace's -i does not exist here"),
        (["-u", "nobody"], "run `setpriv --reuid USER trapline trace ...`"),
        (["-U", "name"], "strace's -U does not exist here"),
        (["-o", "|cat"], "-o cannot write to a command"),
        (["-e", "abbrev=none"], "--format jsonl has all of them"),
        (["-e", "signal=SIGNONE"], "unknown signal 'SIGNONE'"),
        (["-e", "nothing=1"], "there are trace=, signal=, status=, quiet= and decode-fds="),
        (["-p", "1"], "-p takes running processes, and no command"),
        (["-p", "12,x"], "-p takes process ids, and 'x' is none"),
        (["-p", "0"], "-p takes process ids, and '0' is none"),
        (["-p", " ,"], "-p takes a process id, such as 4711, or several"),
        (["-a", "x"], "-a takes a number"),
        (["-W"], "unknown option -W"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_to_do(cli, words, why):
    done = cli("trace", *words, "--", "true")
    assert done.returncode == 125
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_options_of_the_command_are_its_own(cli):
    done = cli("trace", "-e", "none", "-qq", "sh", "-c", "echo $0", "-b")
    assert (done.stdout, done.stderr) == ("-b\n", "")


def test_a_trace_that_cannot_be_written_is_told_in_a_line_and_the_command_goes_on(cli, tmp_path):
    done = cli("trace", "-o", "/dev/full", "--", "sh", "-c", "ls / >/dev/null; echo end")
    assert (done.returncode, done.stdout) == (125, "end\n")
    assert done.stderr == (
        "trapline: trace: cannot write '/dev/full': No space left on device; the command went on\n"
    )
    done = cli("trace", "--format", "jsonl", "-o", "/dev/full", "--", "true")
    assert done.returncode == 125
    assert "Traceback" not in done.stderr


def test_a_command_may_have_many_and_long_arguments(traced):
    words = ["x" * 100_000, *["y" * 5000] * 40]
    text, done = traced("true", *words, options=("-s", "4000"))
    assert done.returncode == 0, done.stderr
    assert text.split("execve")[1].startswith('("/')
    text, done = traced("true", *words)
    first = text.splitlines()[0]
    assert '["true", "' + "x" * 32 + '"..., "' + "y" * 32 + '"..., ' in first
    assert first.count("yyy") > 100
    assert first.split("], 0x")[0].endswith(", ...")
