"""Standard input, output and error of a command, given as :class:`subprocess.Popen` takes them."""

from __future__ import annotations

import os

from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    Given = int | IO[Any] | None

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Stdio"]

#: As in :mod:`subprocess`.
PIPE, STDOUT, DEVNULL = -1, -2, -3


class Stdio:
    """The descriptors of one command.

    :ivar child: what the command gets as 0, 1 and 2; -1 is what this process has.
    :ivar ends: our ends of pipes, unbuffered binary files, or None.
    """

    __slots__ = ("_ours", "child", "ends")

    def __init__(self, stdin: Given, stdout: Given, stderr: Given) -> None:
        self.child: list[int] = []
        self.ends: list[IO[bytes] | None] = [None, None, None]
        self._ours: list[int] = []
        try:
            for number, given in enumerate((stdin, stdout, stderr)):
                self.child.append(self._open(number, given))
        except BaseException:
            self.close_child()
            self.close()
            raise

    def _open(self, number: int, given: Given) -> int:
        if given is None:
            return -1
        if not isinstance(given, int):
            return given.fileno()
        if given == DEVNULL:
            self._ours.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            return self._ours[-1]
        if given == PIPE:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            child, parent = (reader, writer) if number == 0 else (writer, reader)
            self._ours.append(child)
            self.ends[number] = open(parent, "wb" if number == 0 else "rb", buffering=0)  # noqa: SIM115
            return child
        if given == STDOUT and number == 2:
            return self.child[1] if self.child[1] >= 0 else 1
        if given < 0:
            raise UsageError(
                f"{given} is no file descriptor; use PIPE, DEVNULL, a file, or for stderr STDOUT"
            )
        return given

    def close_child(self) -> None:
        """Close the child's ends here, once the child has them."""
        while self._ours:
            os.close(self._ours.pop())

    def close(self) -> None:
        """Close our ends."""
        for file in self.ends:
            if file is not None:
                file.close()
