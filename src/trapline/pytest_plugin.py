"""Fixtures for pytest: ``faults`` and ``trace``, and ``sweep``.

::

    def test_a_full_disk_is_reported(faults):
        with faults("write:error=ENOSPC:fd=1") as injected:
            done = subprocess.run(["mytool", "export"], capture_output=True)
        assert done.returncode != 0
        assert injected.count > 0

    def test_it_stays_at_home(trace):
        t = trace(["mytool", "export"])
        assert not t.wrote("/etc")
        assert not t.connections()

    def test_it_survives_what_can_happen(sweep):
        sweep(["mytool", "--version"])
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile

import pytest

from trapline.inject.sweep import Finding, Outcome, _trapline, verdict
from trapline.inject.sweep import sweep as _sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from trapline.trace.file import Event

__all__ = ["Faults", "Injected", "Trace", "faults", "sweep", "trace"]

_WRITERS = frozenset(
    {"write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice"}
)
_CHANGERS = frozenset((
    "creat", "truncate", "ftruncate", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat",
    "rmdir", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown",
    "fchownat", "utimensat", "mknod", "mknodat", "setxattr",
))  # fmt: skip
_ACCESS, _O_CREAT, _O_TRUNC = 3, 0o100, 0o1000
_CONNECTORS = frozenset({"connect", "sendto", "sendmsg"})


class Injected:
    """What was injected into the commands of one ``with`` block; complete at its end.

    :ivar hits: one dict each, with keys ``rule``, ``call``, ``number``, ``pid`` and ``tid``.
    :ivar count: how many faults were injected.
    """

    def __init__(self) -> None:
        self.hits: list[dict[str, Any]] = []
        self.count = 0


class Faults:
    """``with faults("fsync:error=EIO:when=2"):`` every command that :mod:`subprocess` starts in it meets the faults.

    The expressions are those of ``trapline inject``. In a shell command the shell meets them too.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    @contextlib.contextmanager
    def __call__(self, *expressions: str, engine: str = "auto") -> Iterator[Injected]:
        """Inject faults into what is started in the block.

        :raises UsageError: an expression is not understood.
        """
        from trapline.inject import parse

        for text in expressions:
            parse(text)
        words = [word for text in expressions for word in ("-e", text)]
        found = Injected()
        original = subprocess.Popen.__init__
        with (
            tempfile.TemporaryDirectory(prefix="trapline-faults-") as folder,
            self._monkeypatch.context() as patch,
        ):
            reports = 0

            def start(process: Any, args: Any, *rest: Any, **options: Any) -> None:
                nonlocal reports
                reports += 1
                if options.pop("shell", False):
                    text = args if isinstance(args, str) else args[0]
                    command = [options.pop("executable", None) or "/bin/sh", "-c", text]
                else:
                    command = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)
                report = os.path.join(folder, str(reports))
                prefix = [*_trapline(), "inject", "-q", "--engine", engine, "--json", report, *words, "--"]
                original(process, [*prefix, *command], *rest, **options)

            patch.setattr(subprocess.Popen, "__init__", start)
            try:
                yield found
            finally:
                for name in os.listdir(folder):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        report = json.load(file)
                    found.hits += report["injected"]
                    found.count += len(report["injected"]) + report["not_listed"]


class Trace:
    """What a command did.

    :ivar returncode: its exit status, or 128 and the signal that ended it.
    :ivar stdout: what it has written there, bytes; so *stderr*.
    :ivar events: all that was recorded, see :class:`trapline.trace.file.Event`.
    """

    def __init__(self, returncode: int, stdout: bytes, stderr: bytes, events: list[Event]) -> None:
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        self.events = events
        self._wrote: dict[str, None] = {}
        self._opened: dict[str, None] = {}
        self._learn()

    def calls(self, *names: str) -> list[Event]:
        """Return the calls with these names, or all."""
        from trapline.trace.file import CALL

        return [event for event in self.events if event.kind == CALL and (not names or event.name in names)]

    def _learn(self) -> None:
        from trapline.trace.files import Files
        from trapline.trace.formats import path_of

        files = Files()
        for event in self.calls():
            name, path = event.name, path_of(event)
            if not event.error and event.result is not None:
                if name in ("open", "openat", "creat") and event.path:
                    self._opened[event.path] = None
                    flags = 1 if name == "creat" else event.args[1 if name == "open" else 2]
                    if flags & _ACCESS or flags & (_O_CREAT | _O_TRUNC):
                        self._wrote[event.path] = None
                elif name in _CHANGERS and path:
                    self._wrote[os.path.abspath(path)] = None
                elif name in _WRITERS and event.args:
                    target = files.path(event, event.args[0] & 0xFFFFFFFF)
                    if target.startswith("/"):
                        self._wrote[target] = None
            files.learn(event)

    def wrote(self, prefix: str = "/") -> list[str]:
        """Return the files at or below *prefix* that were created, changed, or opened for writing.

        A name that a call gives relative to another folder than the current one counts as relative to the latter.
        """
        return [path for path in self._wrote if _is_below(path, prefix)]

    def opened(self, prefix: str = "/") -> list[str]:
        """Return the files at or below *prefix* that were opened."""
        return [path for path in self._opened if _is_below(path, prefix)]

    def executed(self) -> list[str]:
        """Return the programs that were executed, in order."""
        from trapline.trace.formats import path_of

        return [path_of(event) for event in self.calls("execve", "execveat") if event.result == 0]

    def connections(self) -> list[str]:
        """Return the addresses that the command has tried to connect or send to: ``127.0.0.1:80``, ``/run/x.sock``."""
        from trapline.decode.addresses import sockaddr

        found: dict[str, None] = {}
        for event in self.calls(*_CONNECTORS):
            place, size = (1, 2) if event.name == "connect" else (4, 5)
            if event.name == "sendmsg" or size >= len(event.args) or not event.args[place]:
                continue
            try:
                found[str(sockaddr(event.read_before(event.args[place], event.args[size] & 0xFFFFFFFF)))] = (
                    None
                )
            except OSError:
                continue
        return list(found)

    def __repr__(self) -> str:
        return f"<Trace: status {self.returncode}, {len(self.calls())} calls>"


def _is_below(path: str, prefix: str) -> bool:
    folder = prefix.rstrip("/")
    return path == folder or path.startswith(folder + "/")


def record(command: Sequence[str], *, engine: str = "auto", limit: int = 128, **options: Any) -> Trace:
    """Run a command and return what it did.

    :param options: as for :func:`subprocess.run`.
    """
    from trapline.trace.file import read

    with tempfile.TemporaryDirectory(prefix="trapline-trace-") as folder:
        path = os.path.join(folder, "record")
        words = [
            *_trapline(),
            "trace",
            "-T",  # results are needed, whatever engine there is
            "--engine",
            engine,
            "--format",
            "raw",
            "-s",
            str(limit),
            "-o",
            path,
            "--",
        ]
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, **options}
        done = subprocess.run([*words, *command], check=False, **settings)
        return Trace(done.returncode, done.stdout, done.stderr, list(read(path)))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """A :class:`Faults`."""
    return Faults(monkeypatch)


@pytest.fixture
def trace() -> Callable[..., Trace]:
    """Runs a command, ``trace(["ls"])``, and returns a :class:`Trace` of what it did."""
    return record


@pytest.fixture
def sweep() -> Callable[..., list[Finding]]:
    """Runs a command, ``sweep(["ls"])``, once for each fault that it can meet; fails with those it does not survive.

    Options are those of :func:`trapline.inject.sweep.sweep`; ``report=True`` returns the findings instead.
    """

    def run(
        command: Sequence[str],
        *,
        report: bool = False,
        check: Callable[[Outcome, Outcome], str] = verdict,
        **options: Any,
    ) -> list[Finding]:
        found, tried = _sweep(command, check=check, **options)
        if found and not report:
            lines = [
                f"{one.point.expression} ({one.point.what}): {one.why}\n    {one.command}" for one in found
            ]
            pytest.fail(
                f"{len(found)} of {tried} faults are not survived:\n" + "\n".join(lines), pytrace=False
            )
        return found

    return run
