"""Running a session in a forked child whose rights, or whose kernel, have been cut down first."""

from __future__ import annotations

import ctypes
import os
import pickle
import struct
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trapline

libc = ctypes.CDLL(None, use_errno=True)

SECCOMP = 317
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def refuse(rule: str) -> None:
    """Install one plain filter: ``NR:ERRNO``, or ``NR:ARG:BITS:ERRNO`` for calls with one of these bits set."""
    numbers = [int(part, 0) for part in rule.split(":")]
    nr, arg, bits, error = numbers if len(numbers) == 4 else (numbers[0], 0, 0, numbers[1])
    code = [
        (0x20, 0, 0, 0),
        (0x15, 0, 3, nr),
        (0x20, 0, 0, 16 + 8 * arg),
        (0x45, 0, 1 if bits else 0, bits),
        (0x06, 0, 0, ERRNO | error),
        (0x06, 0, 0, ALLOW),
    ]
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    memory = ctypes.create_string_buffer(program)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.syscall(SECCOMP, 1, 0, struct.pack("HxxxxxxP", len(code), ctypes.addressof(memory))) == 0


def become_nobody() -> None:
    """Give up root, where this is root at all."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        # Changing ids has made the process undumpable, as no program that a user starts would be.
        libc.prctl(4, 1, 0, 0, 0)


def in_child(setup: Callable[[], Any], function: Callable[[], Any]) -> Any:
    """Return what *function* returned in a child that ran *setup* first; its exception is raised here."""
    # A child without rights may not be able to read what has not been imported yet.
    trapline.run(["true"], hooks=[_unused], rules=["personality:delay_enter=1us"], capture_output=True)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                setup()
                answer = (True, function())
            except BaseException as error:
                answer = (False, "".join(traceback.format_exception(error)))
            with open(writer, "wb") as stream:
                stream.write(pickle.dumps(answer))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as stream:
        data = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    good, value = pickle.loads(data)
    assert good, value
    return value


@trapline.on("personality")
def _unused(call: trapline.Call) -> None:
    return None


def run_confined(
    rules: Sequence[str], program: str, words: Iterable[str], hooks: Iterable[object], **options: Any
) -> list[str]:
    """Run the victim under hooks in a child around which plain filters *rules* are."""

    def session() -> list[str]:
        done = trapline.run(
            [program, *words], hooks=hooks, capture_output=True, text=True, timeout=60, **options
        )
        assert done.returncode == 0, done
        return done.stdout.splitlines()

    return in_child(lambda: [refuse(rule) for rule in rules], session)
