"""The live view: what it counts, and what it leaves of the terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading

import pytest

from trapline.trace.file import read
from trapline.trace.select import Selection
from trapline.trace.top import COLUMNS, Top

pytest.importorskip("textual")
PYTHON = "/usr/bin/python3"
LAST = b"the program has ended"


class Terminal:
    """A pseudoterminal with a program that has it as its own."""

    def __init__(self, *command):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (30, 120))
        self.before = termios.tcgetattr(self.slave)
        self.seen = ""
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        start = (
            "import os, fcntl, sys, termios; "
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, *command], stdin=self.slave, stdout=self.slave, stderr=self.slave,
            start_new_session=True, env=environment,
        )  # fmt: skip

    def until(self, pattern):
        """Read until something has been shown."""
        while not re.search(pattern, self.seen, re.DOTALL):
            data = os.read(self.master, 65536)
            assert data, self.seen
            self.seen += data.decode(errors="replace")

    def press(self, keys):
        self.seen = ""
        os.write(self.master, keys)

    def end(self):
        """Wait for the program's end, read all that is left, and return the exit status."""
        reader = threading.Thread(target=self._read_on)  # a full terminal would hold the program up
        reader.start()
        status = self.process.wait(60)
        os.write(self.slave, LAST)
        reader.join()
        return status

    def _read_on(self):
        while LAST.decode() not in self.seen:
            self.seen += os.read(self.master, 65536).decode(errors="replace")

    @property
    def modes(self):
        return termios.tcgetattr(self.slave)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(trapline):
    opened = []

    def open_one(*options):
        opened.append(Terminal(trapline, "trace", "--top", *options))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def leave(one, how):
    """Have the view end, and return its exit status; the terminal has to be as it was."""
    if isinstance(how, bytes):
        one.press(how)
    else:
        one.process.send_signal(how)
    one.until(r"\x1b\[\?1049l")  # the other screen is gone
    status = one.end()
    assert one.modes == one.before
    # The cursor is back, the mouse and pasted text are left alone.
    for mode in ("25h", "1000l", "2004l"):
        assert f"\x1b[?{mode}" in one.seen
    return status


LOOP = "import os\nwhile True: os.stat('/etc/hostname'); os.path.exists('/nowhere/at/all')"


@pytest.mark.parametrize("how", [b"q", b"\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_left_as_it_was(terminal, how):
    one = terminal("--", PYTHON, "-Sc", LOOP)
    one.until(r"python3: runs; \d+ calls; calls by ms/s.*newfstatat")
    assert one.modes != one.before
    assert leave(one, how) == 0


def test_a_command_that_crashes_leaves_the_view(terminal):
    one = terminal("--", "sh", "-c", "cat /etc/hostname; kill -SEGV $$")
    one.until(r"sh: ended with status -11")
    assert leave(one, b"q") == 0


def test_tables_and_columns_are_changed_by_keys(terminal):
    one = terminal("--", PYTHON, "-Sc", LOOP)
    one.until(r"calls by ms/s.*newfstatat")
    one.press(b"f")
    one.until(r"files by ms/s.*/etc/hostname")
    one.press(b"s")
    one.until(r"files by calls/s")
    one.press(b" ")
    one.until(r"held")
    assert leave(one, b"q") == 0


def test_a_running_process_is_looked_at_and_goes_on(terminal):
    with subprocess.Popen([PYTHON, "-Sc", LOOP]) as program:
        one = terminal("-p", str(program.pid))
        one.until(rf"process {program.pid}: runs; [1-9]\d* calls.*newfstatat")
        assert leave(one, b"q") == 0
        assert program.poll() is None
        program.kill()


def test_without_a_terminal_it_says_so(cli):
    done = cli("trace", "--top", "--", "true")
    assert done.returncode == 125
    assert "--top needs a terminal" in done.stderr


def test_without_textual_it_says_how_to_install_it(trapline, tmp_path):
    (tmp_path / "textual.py").write_text("raise ImportError\n")
    done = subprocess.run(
        [trapline, "trace", "--top", "--", "true"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 125
    assert done.stderr == "trapline: trace: --top needs textual: pip install 'trapline[tui]'\n"


@pytest.fixture
def counted(trapline, tmp_path):
    """What a command has cost."""

    def run(*command):
        path = str(tmp_path / "record")
        subprocess.run(
            [trapline, "trace", "--format", "raw", "-o", path, "--", *command], capture_output=True
        )
        top = Top(Selection())
        for event in read(path):
            top.take(event)
        return top

    return run


def test_files_and_peers_are_told_by_descriptors(counted):
    script = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname())\n"
        "there, _ = server.accept(); client.send(b'x'); there.recv(1); there.recv(0)\n"
        "for _ in range(5): open('/etc/hostname').read()\nprint(server.getsockname()[1])"
    )
    top = counted(PYTHON, "-Sc", script)
    peers = {row[-1]: row[3] for row in top.rows("peers", "calls")}
    assert len(peers) == 2
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", name) for name in peers)
    files = {row[-1]: row for row in top.rows("files", "calls")}
    assert files["/etc/hostname"][3] >= 20  # opened, looked at, read and closed five times


def test_rates_are_those_of_the_last_moment(counted):
    top = counted("cat", "/nowhere/at/all")
    rows = {row[-1]: row for row in top.rows("calls", "calls")}
    assert rows["openat"][1] > 0
    assert rows["openat"][4] >= 1
    top.look()
    assert all(row[0] == row[1] == 0 for row in top.rows("calls", "ms/s"))
    assert {row[-1]: row[2:] for row in top.rows("calls", "name")} == {
        name: row[2:] for name, row in rows.items()
    }


@pytest.mark.parametrize("column", COLUMNS[:-1])
def test_rows_are_sorted_by_every_column(counted, column):
    place = COLUMNS.index(column)
    values = [row[place] for row in counted("cat", "/nowhere/at/all").rows("calls", column)]
    assert values == sorted(values, reverse=True) or column in ("ms/s", "calls/s")
