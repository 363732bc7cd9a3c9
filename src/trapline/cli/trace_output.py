"""Where ``trapline trace`` writes to."""

from __future__ import annotations

import os

from trapline.errors import TraplineError, UsageError

__all__ = ["Output", "Separate"]

_OPEN_FILES = 200


class Output:
    """A file, or standard error. What has been written is there at once.

    :param path: "" is standard error.
    :raises UsageError: it cannot be opened.
    """

    def __init__(self, path: str, *, append: bool = False) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        try:
            self._fd = os.open(path, flags, 0o666) if path else os.dup(2)
        except OSError as error:
            raise UsageError(f"trace: cannot write '{path}': {error.strerror}") from None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)

    def write(self, text: str) -> None:
        """Write text."""
        self.write_bytes(text.encode("utf-8", "surrogateescape"))

    def write_bytes(self, data: bytes) -> None:
        """Write all of it.

        :raises TraplineError: that fails.
        """
        _write_all(self._fd, data, self._path)


class Separate:
    """A file for each thread (``-ff -o FILE``): ``FILE.TID``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: set[int] = set()
        self._open: dict[int, int] = {}

    def __call__(self, tid: int, data: bytes) -> None:
        path = f"{self._path}.{tid}"
        if tid not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self.close()
            more = os.O_APPEND if tid in self._known else os.O_TRUNC
            self._known.add(tid)
            try:
                self._open[tid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | more, 0o666)
            except OSError as error:
                raise TraplineError(f"trace: cannot write '{path}': {error.strerror}") from None
        _write_all(self._open[tid], data, path)

    def close(self) -> None:
        """Close all that is open."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()


def _write_all(fd: int, data: bytes, path: str) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        name = f"'{path}'" if path else "to standard error"
        raise TraplineError(f"trace: cannot write {name}: {error.strerror}; the command went on") from None
