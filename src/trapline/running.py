"""``trapline.run``: the shape of :func:`subprocess.run`, under hooks."""

from __future__ import annotations

import os
import selectors
import subprocess
import time

from trapline.session import Session
from trapline.stdio import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import IO, Any

    from trapline.rules import Rule
    from trapline.session import StrPath
    from trapline.stats import Stats
    from trapline.stdio import Given

__all__ = ["CompletedProcess", "run"]


class CompletedProcess(subprocess.CompletedProcess[Any] if TYPE_CHECKING else subprocess.CompletedProcess):  # type: ignore[misc]
    """A :class:`subprocess.CompletedProcess` with ``stats``.

    :ivar stats: what the session counted; see :class:`trapline.Stats`.
    """

    def __init__(self, args: Any, returncode: int, stdout: Any, stderr: Any, stats: Stats) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.stats = stats


def run(
    command: Sequence[StrPath],
    *,
    hooks: Iterable[object] = (),
    rules: Iterable[str | Rule] = (),
    engine: str = "auto",
    input: bytes | str | None = None,
    stdin: Given = None,
    stdout: Given = None,
    stderr: Given = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    executable: StrPath | None = None,
    cwd: StrPath | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = False,
    on_hook_error: str = "raise",
    workers: int = 64,
    allow_io_uring: bool = False,
    hide_vdso: bool | None = None,
) -> CompletedProcess:
    """Run a command under hooks and wait for it and for everything it started.

    What is not described here is as in :func:`subprocess.run` or :class:`Session`.

    :param command: program and arguments.
    :param hooks: decorated functions.
    :param timeout: seconds; the program is killed when they are over.
    :raises subprocess.TimeoutExpired: *timeout* seconds were not enough.
    :raises subprocess.CalledProcessError: with *check*, the exit status is not 0.
    :raises CommandError: the command cannot be executed.
    :raises HookError: a hook raised; ``__cause__`` is what.
    :raises UnsupportedByEngineError: the engine cannot do what a hook declares.
    """
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr may not be given with capture_output")
        stdout = stderr = PIPE
    if input is not None:
        if stdin is not None:
            raise ValueError("stdin and input may not both be given")
        stdin = PIPE
    is_text = text or encoding is not None or errors is not None
    if isinstance(input, str):
        input = input.encode(encoding or "utf-8", errors or "strict")
    session = Session(
        command, hooks=hooks, rules=rules, engine=engine, stdin=stdin, stdout=stdout, stderr=stderr,
        executable=executable, cwd=cwd, env=env, on_hook_error=on_hook_error, workers=workers,
        allow_io_uring=allow_io_uring, hide_vdso=hide_vdso,
    )  # fmt: skip
    with session:
        deadline = None if timeout is None else time.monotonic() + timeout
        captured = _communicate(session, input, deadline)
        try:
            returncode = session.wait(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        except TimeoutError:
            captured = None
        if captured is None:
            session.kill()
            session.wait()
            raise subprocess.TimeoutExpired(list(command), timeout or 0)
    out, err = [_decode(data, is_text, encoding, errors) for data in captured]
    done = CompletedProcess(list(command), returncode, out, err, session.stats)
    if check:
        done.check_returncode()
    return done


def _decode(data: bytes | None, is_text: bool, encoding: str | None, errors: str | None) -> Any:
    if data is None or not is_text:
        return data
    decoded = data.decode(encoding or "utf-8", errors or "strict")
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def _communicate(
    session: Session, data: bytes | None, deadline: float | None
) -> tuple[bytes | None, bytes | None] | None:
    """Feed and drain the pipes; None when the deadline has passed."""
    parts: dict[int, list[bytes]] = {}
    view = memoryview(data or b"")
    stdin = session.stdin
    with selectors.DefaultSelector() as selector:
        for file in (session.stdout, session.stderr):
            if file is not None:
                parts[file.fileno()] = []
                selector.register(file.fileno(), selectors.EVENT_READ)
        if stdin is not None and view:
            selector.register(stdin.fileno(), selectors.EVENT_WRITE)
        elif stdin is not None:
            stdin.close()
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            for key, event in selector.select(left):
                if event & selectors.EVENT_READ:
                    chunk = os.read(key.fd, 65536)
                    parts[key.fd].append(chunk)
                    if not chunk:
                        selector.unregister(key.fd)
                    continue
                assert stdin is not None
                try:
                    # A pipe that is ready takes at least PIPE_BUF bytes without blocking.
                    view = view[os.write(key.fd, view[:4096]) :]
                except BrokenPipeError:
                    view = view[len(view) :]
                if not view:
                    selector.unregister(key.fd)
                    stdin.close()
    return _collected(session.stdout, parts), _collected(session.stderr, parts)


def _collected(file: IO[bytes] | None, parts: dict[int, list[bytes]]) -> bytes | None:
    return None if file is None else b"".join(parts[file.fileno()])
