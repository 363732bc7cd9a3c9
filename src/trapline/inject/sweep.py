"""One run for each fault that a command can meet: which of them it does not survive."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile

from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trapline.trace.file import Event

__all__ = ["Finding", "Outcome", "Point", "points_of", "sweep"]

#: What a call can plausibly fail with on a machine that is in trouble.
ERRORS: dict[str, tuple[str, ...]] = {
    "open": ("EACCES", "EMFILE", "EIO"), "openat": ("EACCES", "EMFILE", "EIO"), "openat2": ("EACCES", "EMFILE"),
    "creat": ("ENOSPC",), "read": ("EIO", "EINTR"), "pread64": ("EIO",), "readv": ("EIO",),
    "write": ("ENOSPC", "EIO", "EINTR"), "pwrite64": ("ENOSPC",), "writev": ("ENOSPC",), "close": ("EIO",),
    "fsync": ("EIO",), "fdatasync": ("EIO",), "ftruncate": ("ENOSPC",), "fallocate": ("ENOSPC",),
    "mmap": ("ENOMEM",), "mprotect": ("ENOMEM",), "mremap": ("ENOMEM",), "brk": (),
    "stat": ("EACCES",), "lstat": ("EACCES",), "newfstatat": ("EACCES", "EIO"), "fstat": ("EIO",), "statx": ("EACCES",),
    "getdents64": ("EIO",), "lseek": ("EIO",), "access": ("EACCES",), "readlink": ("EACCES",), "getcwd": ("ENOENT",),
    "rename": ("ENOSPC",), "renameat2": ("ENOSPC",), "unlink": ("EROFS",), "unlinkat": ("EROFS",),
    "mkdir": ("ENOSPC",), "mkdirat": ("ENOSPC",), "link": ("EMLINK",), "symlink": ("ENOSPC",), "chmod": ("EPERM",),
    "fchmod": ("EPERM",), "utimensat": ("EPERM",), "dup": ("EMFILE",), "dup2": ("EBUSY",), "pipe2": ("EMFILE",),
    "socket": ("EMFILE", "EAFNOSUPPORT"), "connect": ("ECONNREFUSED", "ETIMEDOUT"), "bind": ("EADDRINUSE",),
    "listen": ("EADDRINUSE",), "accept4": ("ECONNABORTED",), "sendto": ("ECONNRESET",), "recvfrom": ("ECONNRESET",),
    "sendmsg": ("ECONNRESET",), "recvmsg": ("ECONNRESET",), "setsockopt": ("ENOPROTOOPT",),
    "getsockopt": ("ENOPROTOOPT",), "fork": ("EAGAIN",), "vfork": ("EAGAIN",), "clone": ("EAGAIN",),
    "clone3": ("EAGAIN",), "execve": ("ENOMEM",), "epoll_create1": ("EMFILE",), "epoll_wait": ("EINTR",),
    "poll": ("EINTR",), "select": ("EINTR",), "eventfd2": ("EMFILE",), "getrandom": ("EAGAIN",), "ioctl": ("ENOTTY",),
    "flock": ("EWOULDBLOCK",), "memfd_create": ("EMFILE",), "copy_file_range": ("ENOSPC",), "sendfile": ("EIO",),
}  # fmt: skip
#: Calls that can transfer less than they were asked for.
_SHORT = frozenset({"read", "write", "pread64", "pwrite64", "recvfrom", "sendto"})
_ABOUT_DESCRIPTORS = _SHORT | {"close", "fstat", "lseek", "fsync", "ioctl", "getdents64"}
#: A program's own code has not begun before this call, and what comes before is the dynamic linker's.
_LINKED = "set_robust_list"
#: Signals by which a program ends itself when it has lost its way.
_CRASHES = frozenset({4, 5, 6, 7, 8, 11, 31})
_TRACES = ("Traceback (most recent call last)", "panicked at", "goroutine 1 [", "Segmentation fault", "core dumped",
           "Aborted", "terminate called", "AddressSanitizer", "Exception in thread")  # fmt: skip
_TRAPLINE_FAILED = 125
_NOT_RUN = (126, 127)


class Point:
    """A fault that can be injected.

    :ivar call: the call's name, and *number* which of these of its thread it is.
    :ivar fault: an error's name, or ``short``.
    :ivar what: the file or descriptor that the call is about, for people.
    """

    __slots__ = ("call", "fault", "number", "what")

    def __init__(self, call: str, number: int, fault: str, what: str) -> None:
        self.call = call
        self.number = number
        self.fault = fault
        self.what = what

    @property
    def expression(self) -> str:
        """What injects it."""
        effect = "short=1" if self.fault == "short" else f"error={self.fault}"
        return f"{self.call}:{effect}:when={self.number}"


class Outcome:
    """How a run has ended.

    :ivar status: exit status; None: it did not end in time.
    """

    __slots__ = ("status", "stderr", "stdout")

    def __init__(self, status: int | None, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


class Finding:
    """A fault that the command has not survived.

    :ivar point: the fault.
    :ivar why: what happened.
    :ivar command: what does it again, for a shell.
    """

    __slots__ = ("command", "outcome", "point", "why")

    def __init__(self, point: Point, why: str, command: str, outcome: Outcome) -> None:
        self.point = point
        self.why = why
        self.command = command
        self.outcome = outcome

    def __repr__(self) -> str:
        return f"<Finding {self.point.expression}: {self.why}>"


def points_of(events: Iterable[Event], *, linker: bool = False) -> list[Point]:
    """Return the faults that a recorded run could have met, one for each call and file or descriptor.

    :param linker: also those of the dynamic linker, before the program's own code begins.
    """
    from trapline.trace.file import CALL
    from trapline.trace.files import Files
    from trapline.trace.formats import path_of

    files, counts = Files(), dict[tuple[int, str], int]()
    begun: set[int] = set()
    found: dict[tuple[str, str], Point] = {}
    points: list[Point] = []
    for event in events:
        if event.kind != CALL:
            continue
        name = event.name
        number = counts[event.tid, name] = counts.get((event.tid, name), 0) + 1
        if name == _LINKED:
            begun.add(event.pid)
        what = path_of(event)
        if not what and event.args and name in _ABOUT_DESCRIPTORS:
            descriptor = event.args[0] & 0xFFFFFFFF
            what = files.path(event, descriptor) or f"descriptor {descriptor}"
        files.learn(event)
        if (event.pid not in begun and not linker) or (name, what) in found or event.error:
            continue
        faults = ERRORS.get(name, ()) + (("short",) if name in _SHORT and (event.result or 0) > 1 else ())
        for fault in faults:
            point = Point(name, number, fault, what)
            found[name, what] = point
            points.append(point)
    return points


def _trapline() -> list[str]:
    beside = os.path.join(os.path.dirname(sys.executable), "trapline")
    if os.access(beside, os.X_OK):
        return [beside]
    return [sys.executable, "-c", "import sys; from trapline.cli import main; sys.exit(main())"]


def _run(command: Sequence[str], timeout: float, folder: str) -> Outcome:
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            return Outcome(None, out, err)
    return Outcome(process.returncode, out, err)


def verdict(outcome: Outcome, normal: Outcome) -> str:
    """Return what was wrong with how a command has met a fault, or "": it went on, or failed in good order."""
    if outcome.status is None:
        return "hangs"
    if outcome.status > 128 and outcome.status - 128 in _CRASHES:
        import signal

        return f"ended by {signal.Signals(outcome.status - 128).name}"
    text = outcome.stderr.decode(errors="replace")
    for trace in _TRACES:
        if trace in text and trace not in normal.stderr.decode(errors="replace"):
            last = text.strip().splitlines()[-1][:120]
            return f"unhandled: {last}"
    if outcome.status == 0 and normal.status == 0 and outcome.stdout != normal.stdout:
        return "says that all is well, with other output"
    return ""


def sweep(
    command: Sequence[str],
    *,
    names: Iterable[str] = ("*",),
    errors: Iterable[str] | None = None,
    jobs: int = 0,
    timeout: float = 20.0,
    linker: bool = False,
    check: Callable[[Outcome, Outcome], str] = verdict,
    progress: Callable[[int, int], None] | None = None,
    engine: str = "auto",
) -> tuple[list[Finding], int]:
    """Run a command once for each fault that it can meet, and return those that it does not survive.

    It is run in an empty folder of its own each time, so files are best named from the root; a program's own relative
    name is found all the same. Its output must not differ from run to run, or it will look as
    if it did so because of a fault.

    :param command: program and arguments.
    :param names: of the calls to fail, or ``"*"``.
    :param errors: names of the errors to use; None: those that are plausible for each call.
    :param jobs: how many runs at a time; 0: as many as there are processors.
    :param timeout: seconds for one run.
    :param check: ``(outcome, normal outcome)``: what was wrong, or "".
    :param progress: called with how many runs are done, and how many there are.
    :returns: what was found, in the order of the calls, and the number of faults that were tried.
    :raises UsageError: it does not run without faults, or does not end in time, or meets none of these faults.
    """
    from concurrent.futures import ThreadPoolExecutor

    from trapline.trace.file import read

    command = [os.path.abspath(command[0]) if "/" in command[0] else command[0], *command[1:]]
    wanted, given = frozenset(names), None if errors is None else tuple(errors)
    trapline = _trapline()
    with tempfile.TemporaryDirectory(prefix="trapline-sweep-") as folder:
        record = os.path.join(folder, "record")
        first = os.path.join(folder, "0")
        os.mkdir(first)
        # What is plausible at a point depends on what happened there: -T asks for results.
        tracing = [
            *trapline,
            "trace",
            "-T",
            "--engine",
            engine,
            "--format",
            "raw",
            "-o",
            record,
            "--",
            *command,
        ]
        normal = _run(tracing, timeout, first)
        if normal.status is None:
            raise UsageError("sweep: without any fault the command does not end in time; see --timeout")
        if normal.status in (_TRAPLINE_FAILED, *_NOT_RUN):
            said = normal.stderr.decode(errors="replace").strip().removeprefix("trapline: ")
            said = said.replace("which -T needs", "which decides what is tried")
            raise UsageError(f"sweep: the command cannot be traced: {said}")
        points = [
            point for point in points_of(read(record), linker=linker) if "*" in wanted or point.call in wanted
        ]
        if given is not None:
            points = [point for point in points if point.fault in given]
        if not points:
            raise UsageError(
                "sweep: the command meets none of these faults; `trapline trace` shows what it calls"
            )
        done = 0

        def one(numbered: tuple[int, Point]) -> Finding | None:
            nonlocal done
            number, point = numbered
            here = os.path.join(folder, str(number))
            os.mkdir(here)
            injecting = ["inject", "-q", "-e", point.expression, "--", *command]
            outcome = _run([*trapline, *injecting], timeout, here)
            done += 1
            if progress is not None:
                progress(done, len(points))
            why = "" if outcome.status == _TRAPLINE_FAILED else check(outcome, normal)
            return Finding(point, why, shlex.join(["trapline", *injecting]), outcome) if why else None

        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            results = list(pool.map(one, enumerate(points, 1)))
    return [finding for finding in results if finding is not None], len(points)
