"""examples/ask_unlink.py, at a terminal of its own"""

from __future__ import annotations

import os
import pathlib
import pty
import select
import subprocess

import pytest

from example_runs import command_line, execute


class Terminal:
    """A command whose controlling terminal is ours."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execv(command[0], command)
            finally:
                os._exit(127)
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], 30)
            assert ready, f"nothing new in 30 s after {self.seen!r}"
            self.seen += os.read(self.fd, 4096)

    def answer(self, text: bytes) -> None:
        os.write(self.fd, text)

    def finish(self) -> int:
        """Read to the end and return the exit status."""
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:  # EIO: nobody has the other end any more.
                break
            if not data:
                break
            self.seen += data
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "precious"
    path.write_text("still here\n")
    return path


def test_yes_removes_the_file(file: pathlib.Path) -> None:
    terminal = Terminal(command_line("ask_unlink", "rm", str(file)))
    terminal.read_until(b"[y/N, 30 s] ")
    terminal.answer(b"y\n")
    assert terminal.finish() == 0
    assert f"removes '{file}'. Allow?".encode() in terminal.seen
    assert not file.exists()


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"what?\n"])
def test_anything_but_yes_keeps_it_and_the_program_hears_eperm(file: pathlib.Path, answer: bytes) -> None:
    terminal = Terminal(command_line("ask_unlink", "rm", str(file)))
    terminal.read_until(b"[y/N, 30 s] ")
    terminal.answer(answer)
    assert terminal.finish() == 1
    assert b"Operation not permitted" in terminal.seen
    assert file.exists()


@pytest.mark.parametrize(("default", "status"), [("no", 1), ("yes", 0)])
def test_silence_is_answered_with_the_default_after_the_deadline(
    file: pathlib.Path, default: str, status: int
) -> None:
    terminal = Terminal(command_line("ask_unlink", "rm", str(file), seconds=0.2, default=default))
    assert terminal.finish() == status
    assert b"no answer" in terminal.seen
    assert file.exists() == (status == 1)


def test_questions_of_several_processes_come_one_at_a_time(tmp_path: pathlib.Path) -> None:
    names = [tmp_path / "one", tmp_path / "two"]
    for name in names:
        name.write_text("")
    line = f"rm {names[0]} & rm {names[1]} & wait"
    terminal = Terminal(command_line("ask_unlink", "sh", "-c", line))
    terminal.read_until(b"s] ")
    assert terminal.seen.count(b"Allow?") == 1
    terminal.answer(b"y\n")
    terminal.read_until(b"y\r\n")
    while terminal.seen.count(b"s] ") < 2:
        terminal.seen += os.read(terminal.fd, 4096)
    terminal.answer(b"y\n")
    assert terminal.finish() == 0
    assert not any(name.exists() for name in names)


@pytest.mark.parametrize(("default", "status"), [("no", 1), ("yes", 0)])
def test_without_a_terminal_the_default_decides(file: pathlib.Path, default: str, status: int) -> None:
    done = execute(command_line("ask_unlink", "rm", str(file), default=default), start_new_session=True)
    assert done.returncode == status
    assert file.exists() == (status == 1)


def test_natively_nobody_is_asked(file: pathlib.Path) -> None:
    assert subprocess.run(["rm", str(file)], check=True).returncode == 0
    assert not file.exists()
