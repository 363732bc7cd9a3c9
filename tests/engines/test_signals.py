"""Signals, terminals and job control: as if trapline were not there."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys as python
import time

import pytest

import trapline as library
from trapline import on

PROGRAM = """
import os, signal, sys
number = int(sys.argv[1])
count = 0
def handler(n, frame):
    global count
    count += 1
    print("got", n, flush=True)
# A pause could begin just behind the signal.
told, tells = os.pipe()
os.set_blocking(tells, False)
signal.set_wakeup_fd(tells)
signal.signal(number, handler)
print("ready", flush=True)
while count < int(sys.argv[2]):
    os.read(told, 1)
"""


@pytest.fixture
def running(trapline, engine, never_matches):
    """Start trapline with a command; its process is ended with the test."""
    started = []

    def start(*command, **options):
        process = subprocess.Popen(
            [trapline, "run", "--engine", engine, "-s", never_matches, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1,
                                    signal.SIGUSR2, signal.SIGALRM])  # fmt: skip
def test_a_signal_sent_to_trapline_reaches_the_program_once(running, number):
    process = running(python.executable, "-c", PROGRAM, str(int(number)), "1")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"got {int(number)}\n"
    assert process.wait(30) == 0
    assert process.stdout.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_that_the_program_does_not_handle_ends_both(running, number):
    process = running("sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert process.stderr.read() == ""


def test_a_stopped_program_is_waited_for_until_it_goes_on(running):
    process = running("sh", "-c", "echo stops; kill -STOP $$; echo continued")
    assert process.stdout.readline() == "stops\n"
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    while not os.path.exists(f"/proc/{process.pid}/task/{process.pid}/children") or not open_children(
        process.pid
    ):
        os.sched_yield()
    program = open_children(process.pid)[0]
    while state(program) not in "Tt":  # 't' for a tracer's tracee
        os.sched_yield()
    assert process.poll() is None
    os.kill(program, signal.SIGCONT)
    assert process.stdout.readline() == "continued\n"
    assert process.wait(30) == 0


def open_children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_signals_that_the_program_ignores_blocks_or_leaves_are_as_natively(same_as_native):
    show = "grep -E '^Sig(Blk|Ign|Cgt)|^ShdPnd' /proc/self/status"
    same_as_native(["sh", "-c", show])
    same_as_native(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    for ignored in ("HUP", "INT", "USR1"):
        prefix, same_as_native.prefix = same_as_native.prefix, []
        native = subprocess.run(
            ["sh", "-c", f"trap '' {ignored}; exec grep SigIgn /proc/self/status"], capture_output=True
        )
        same_as_native.prefix = prefix
        line = " ".join(prefix)
        hooked = subprocess.run(
            ["sh", "-c", f"trap '' {ignored}; exec {line} grep SigIgn /proc/self/status"], capture_output=True
        )
        assert hooked.stdout == native.stdout


def test_keyboard_interrupt_in_a_library_session_kills_the_program(engine):
    reader, writer = os.pipe()

    @on("getppid")
    def hook(call):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            library.run(["sh", "-c", f"exec 3>&{writer}; echo $PPID; exec {python.executable} -c "
                         "'import os, time; os.getppid(); time.sleep(1000)'"], hooks=[hook], engine=engine)  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(writer)
    os.close(reader)


# -- terminals ---------------------------------------------------------------------------------------------------------


class Terminal:
    """A program at its own terminal."""

    def __init__(self, command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.environ.update(PS1="PROMPT ", TERM="dumb", HISTFILE="")
                os.execvp(command[0], command)
            finally:
                os._exit(98)
        self.seen = ""

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern):
        """Read until *pattern* matches what was not matched before; return the match."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{pattern!r} did not come; there was {self.seen!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, f"{pattern!r} did not come before the end; there was {self.seen!r}"
            self.seen += data.decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def close(self):
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal():
    opened = []

    def open_one(*command):
        opened.append(Terminal(command))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def shell(terminal):
    one = terminal("bash", "--norc", "--noprofile", "-i")
    one.expect("PROMPT ")
    one.send("bind 'set enable-bracketed-paste off' 2>/dev/null; stty -echo\n")
    one.expect("PROMPT ")
    return one


@pytest.fixture
def command(trapline, engine, never_matches):
    return f"'{trapline}' run --engine {engine} -s '{never_matches}' --"


def test_control_c_ends_the_program_and_trapline_by_the_same_signal(shell, command):
    shell.send(f"{command} sh -c 'echo started; exec sleep 1000'\n")
    shell.expect("started")
    shell.send("\x03")
    shell.expect("PROMPT ")
    shell.send("echo status=$?\n")
    assert shell.expect(r"status=(\d+)")[1] == "130"


def test_control_c_ends_a_loop_of_the_shell_as_it_does_natively(shell, command):
    for prefix in ("", command):
        shell.send(f'for i in 1 2 3; do {prefix} sh -c "echo round $i; exec sleep 1000"; done; echo after\n')
        shell.expect("round 1")
        shell.send("\x03")
        rest = shell.expect("(?s)(.*)PROMPT ")[1]
        assert "round 2" not in rest, prefix
        assert "after" not in rest, prefix


def test_a_program_that_handles_control_c_goes_on(shell, command):
    program = (
        "import os, signal, sys; r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w);"
        'signal.signal(2, lambda *a: print("caught", flush=True)); print("started", flush=True);'
        'os.read(r, 1); print("went on"); sys.exit(3)'
    )
    shell.send(f"{command} {python.executable} -c '{program}'\n")
    shell.expect("started")
    shell.send("\x03")
    shell.expect("caught")
    shell.expect("went on")
    shell.expect("PROMPT ")
    shell.send("echo status=$?\n")
    assert shell.expect(r"status=(\d+)")[1] == "3"


def test_control_backslash_quits(shell, command):
    shell.send(f"ulimit -c 0; {command} sh -c 'echo started; exec sleep 1000'\n")
    shell.expect("started")
    shell.send("\x1c")
    shell.expect("PROMPT ")
    shell.send("echo status=$?\n")
    assert shell.expect(r"status=(\d+)")[1] == "131"


def test_control_z_stops_fg_and_bg_continue(shell, command):
    loop = "echo started; while read -r line; do echo read $line; if [ $line = end ]; then exit 6; fi; done"
    shell.send(f"{command} sh -c '{loop}'\n")
    shell.expect("started")
    for turn in range(3):
        shell.send("\x1a")
        shell.expect("Stopped")
        shell.expect("PROMPT ")
        shell.send("jobs\n")
        shell.expect(r"\[1\].*Stopped")
        shell.expect("PROMPT ")
        shell.send("fg\n")
        shell.expect("run --engine")
        # It has the terminal again when it answers.
        shell.send(f"turn{turn}\n")
        shell.expect(f"read turn{turn}")
    shell.send("end\n")
    shell.expect("read end")
    shell.expect("PROMPT ")
    shell.send("echo status=$?\n")
    assert shell.expect(r"status=(\d+)")[1] == "6"


def test_a_background_program_that_reads_the_terminal_is_stopped(shell, command):
    shell.send(f"{command} sh -c 'read -r line; echo read $line' &\n")
    shell.expect("PROMPT ")
    # bash says so at a prompt once the job has stopped.
    for _ in range(600):
        shell.send("jobs\n")
        text = shell.expect("(?s)(.*?)PROMPT ")[1]
        if "Stopped" in text:
            break
        time.sleep(0.05)  # between two questions; nothing is right because of it
    assert "Stopped" in text
    shell.send("fg\n")
    shell.expect("run --engine")
    shell.send("hello\n")
    shell.expect("read hello")


def test_a_pipeline_of_two_works_and_stops_as_one(shell, command):
    shell.send(f"{command} sh -c 'echo started >&2; exec cat' | {command} cat\n")
    shell.expect("started")
    shell.send("first\n")
    shell.expect("first")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect("PROMPT ")
    shell.send("fg\n")
    shell.expect("cat")
    shell.send("second\n")
    shell.expect("second")
    shell.send("\x04")
    shell.expect("PROMPT ")


def test_a_shell_under_trapline_has_job_control_of_its_own(terminal, trapline, engine, never_matches):
    one = terminal(
        trapline, "run", "--engine", engine, "-s", never_matches, "--", "bash", "--norc", "--noprofile", "-i"
    )
    one.expect("PROMPT ")
    assert "no job control" not in one.seen
    one.send("stty -echo\n")
    one.expect("PROMPT ")
    one.send("sh -c 'echo started; exec cat'\n")
    one.expect("started")
    one.send("\x1a")
    one.expect("Stopped")
    one.expect("PROMPT ")
    one.send("fg\n")
    one.expect("cat")
    one.send("hello\n")
    one.expect("hello")
    one.send("\x03")
    one.expect("PROMPT ")
    one.send("echo status=$?; tty | head -c 8; exit 9\n")
    assert one.expect(r"status=(\d+)")[1] == "130"
    one.expect("/dev/pts")
    assert os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1]) == 9
    one.pid = os.fork() or os._exit(0)  # something for the fixture to wait for


def test_a_hook_may_talk_to_the_terminal(terminal, trapline, engine, tmp_path, victim, sys):
    script = tmp_path / "ask.py"
    script.write_text(
        "from trapline import Errno, on\n\n\n"
        '@on("unlink", "unlinkat")\ndef ask(call):\n'
        '    with open("/dev/tty", "r+b", buffering=0) as tty:\n'
        '        tty.write(b"really? ")\n'
        '        if tty.readline().strip() != b"y":\n'
        "            return call.fail(Errno.EPERM)\n"
    )
    (tmp_path / "kept").touch()
    one = terminal(
        trapline, "run", "--engine", engine, "-s", str(script), "--",
        victim("caller"), sys("unlink", f"s:{tmp_path}/kept"),
    )  # fmt: skip
    one.expect("really\\? ")
    one.send("n\n")
    one.expect("-1\r")
    assert (tmp_path / "kept").exists()


def test_the_size_of_the_terminal_reaches_the_program(terminal, trapline, engine, never_matches):
    import fcntl
    import struct
    import termios

    program = (
        "import os, signal; r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w);"
        "signal.signal(signal.SIGWINCH, lambda *a: print(os.get_terminal_size()));"
        "print('ready', flush=True); os.read(r, 1)"
    )
    one = terminal(
        trapline, "run", "--engine", engine, "-s", never_matches, "--", python.executable, "-c", program
    )
    one.expect("ready")
    fcntl.ioctl(one.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    one.expect("columns=77, lines=33")
