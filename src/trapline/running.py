"""``trapline.run``: the shape of :func:`subprocess.run`, under hooks."""

from __future__ import annotations

import selectors
import subprocess
import time

from trapline.session import PIPE, Session, Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from trapline.rules import Rule
    from trapline.session import Stdio, StrPath

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
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    cwd: StrPath | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = False,
    on_hook_error: str = "raise",
    workers: int = 64,
    allow_io_uring: bool = False,
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
        command, hooks=hooks, rules=rules, engine=engine, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd,
        env=env, on_hook_error=on_hook_error, workers=workers, allow_io_uring=allow_io_uring,
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
    parts: dict[Any, list[bytes]] = {}
    view = memoryview(data or b"")
    with selectors.DefaultSelector() as selector:
        for file in (session.stdout, session.stderr):
            if file is not None:
                parts[file] = []
                selector.register(file, selectors.EVENT_READ)
        if session.stdin is not None:
            if view:
                selector.register(session.stdin, selectors.EVENT_WRITE)
            else:
                session.stdin.close()
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            for key, _ in selector.select(left):
                file = key.fileobj
                if file is session.stdin:
                    try:
                        view = view[session.stdin.write(view[:4096]) :]
                    except BrokenPipeError:
                        view = view[len(view) :]
                    if not view:
                        selector.unregister(file)
                        session.stdin.close()
                elif chunk := file.read(65536):  # type: ignore[union-attr]
                    parts[file].append(chunk)
                else:
                    selector.unregister(file)
    out, err = session.stdout, session.stderr
    return (
        None if out is None else b"".join(parts[out]),
        None if err is None else b"".join(parts[err]),
    )
