"""A program under hooks: start it, wait for it, end it."""

from __future__ import annotations

import os
import sys
import time

from trapline import _native
from trapline.engines.base import Command, Plan, command_error, new_engine
from trapline.engines.choose import choose
from trapline.errors import (
    EngineStartError,
    HookError,
    TraplineError,
    UsageError,
)
from trapline.hooks import collect, error_policy
from trapline.process import ProcessTree
from trapline.rules import Rule, parse
from trapline.stats import Stats
from trapline.stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import IO, Any

    from trapline.attaching import AttachedSession
    from trapline.call import Call
    from trapline.capture import Capture
    from trapline.engines.base import Engine, Program
    from trapline.engines.deferred import DeferredHooks
    from trapline.rules import Hit
    from trapline.stdio import Given

    StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

__all__ = ["Session"]

_ENOENT, _EINTR, _EACCES, _ENOTDIR = 2, 4, 13, 20
_EXITED, _EMPTY, _WOKEN, _SIGNAL = 0, 1, 2, 3
#: How long hooks that still run when the program has ended may delay the end of the session.
_GRACE_MS = 2000


def _find_executable(name: bytes, env: Mapping[bytes, bytes], cwd: bytes | None) -> bytes:
    """Return what execvp would execute.

    :raises CommandError: nothing of that name is there.
    """
    if b"/" in name:
        return name
    denied = False
    for directory in env.get(b"PATH", os.fsencode(os.defpath)).split(b":"):
        candidate = os.path.join(directory or b".", name)
        there = os.path.join(cwd, candidate) if cwd is not None else candidate
        if os.path.isfile(there):
            if os.access(there, os.X_OK):
                return candidate
            denied = True
    error = _EACCES if denied else _ENOENT
    raise command_error(error, name)


class Session:
    """A command, and all that it starts, under hooks.

    ::

        with trapline.Session(["make", "test"], hooks=[hide]) as session:
            status = session.wait()

    Leaving the block waits for the program; leaving it by an exception kills the program first.

    :param command: program and arguments; the program is looked up in PATH.
    :param hooks: functions decorated with :func:`trapline.on` or :func:`trapline.on_return`.
    :param rules: rules as text (:mod:`trapline.rules`); they act before hooks.
    :param engine: ``"auto"`` or an engine's name.
    :param stdin: as for :class:`subprocess.Popen`: None, a descriptor, a file, ``PIPE`` or ``DEVNULL``; likewise
        *stdout* and *stderr* (which may be ``STDOUT``).
    :param executable: what is executed in place of the first word, which the program then only sees as its name.
    :param cwd: working directory of the command.
    :param env: environment of the command; None is this process's own.
    :param on_hook_error: what follows when a hook raises: ``"raise"`` (the program is killed, :meth:`wait` raises
        :class:`HookError`), ``"fail:EIO"`` (any errno: the call fails so) or ``"continue"`` (the kernel performs it).
        With the latter two the traceback goes to standard error.
    :param workers: most hooks that run at one time; further calls wait. Coroutine functions do not count.
    :param allow_io_uring: let programs set up io_uring, whose operations no hook sees.
    :param hide_vdso: take the vDSO from every program that is executed, so that it asks the kernel for the time
        (with ``rdtsc`` it can still count cycles). None: when a hook or rule names such a call, as clock_gettime.
    :param capture: what is recorded of the program's calls; see :class:`trapline.capture.Capture`.
    :raises UsageError: an option cannot be understood.
    :raises UnsupportedByEngineError: the engine cannot do what a hook declares.
    """

    def __init__(
        self,
        command: Sequence[StrPath],
        *,
        hooks: Iterable[object] = (),
        rules: Iterable[str | Rule] = (),
        engine: str = "auto",
        stdin: Given = None,
        stdout: Given = None,
        stderr: Given = None,
        executable: StrPath | None = None,
        cwd: StrPath | None = None,
        env: Mapping[str, str] | None = None,
        on_hook_error: str = "raise",
        workers: int = 64,
        allow_io_uring: bool = False,
        hide_vdso: bool | None = None,
        job: _native.Job | None = None,
        capture: Capture | None = None,
    ) -> None:
        if isinstance(command, str | bytes) or not command:
            raise UsageError("the command is a list of a program and its arguments, such as ['ls', '-l']")
        if not 1 <= workers <= 4096:
            raise UsageError(f"workers must be within 1 to 4096, not {workers}")
        self.command = [os.fsencode(word) for word in command]
        if any(b"\0" in word for word in self.command):
            raise UsageError("a NUL byte cannot be part of a command")
        self._env = {
            os.fsencode(key): os.fsencode(value)
            for key, value in (os.environ if env is None else env).items()
        }
        self._executable = self.command[0] if executable is None else os.fsencode(executable)
        self._cwd = None if cwd is None else os.fsencode(cwd)
        self._given = (stdin, stdout, stderr)
        self._on_hook_error = error_policy(on_hook_error)
        self._job = job
        parsed = [rule if isinstance(rule, Rule) else parse(rule) for rule in rules]
        plan = Plan(
            collect(hooks), parsed, allow_io_uring=allow_io_uring, hide_vdso=hide_vdso, workers=workers,
            on_error=self._hook_failed, on_unhidden=self._unhidden, capture=capture,
        )  # fmt: skip
        #: Name of the engine, and why it was chosen.
        rare = capture is not None and capture.is_rare and not plan.hooks and not plan.rules
        self._engines, self.engine_reason = choose(engine, self._needs(plan), rare=rare)
        self.engine = self._engines[0]
        #: Called with each engine that is tried; what it holds has not begun by then.
        self.on_engine: Callable[[Session], None] | None = None
        self._plan = plan
        #: Why the record could not be written to its end, an errno, or 0.
        self.capture_error = 0
        self._engine: Engine | None = None
        self._program: Program | None = None
        self._tree: ProcessTree | None = None
        self._deferred: DeferredHooks | None = None
        self._failure: BaseException | None = None
        self._failed_hook = ""
        self._wake = -1
        self._stdio: Stdio | None = None
        self._started = self._seconds = 0.0
        self._tree_is_gone = False
        self._killed_at = 0.0
        # A process that this one forks inherits the object, but the program is not its own.
        self._owner = os.getpid()
        #: Exit status, or minus the signal that ended the command; None while it runs.
        self.returncode: int | None = None
        #: The other ends of PIPEs, unbuffered binary files.
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None

    def start(self) -> Session:
        """Start the program; returns once it has been executed.

        :raises CommandError: it cannot be executed.
        :raises EngineStartError: the engine cannot start here; the message says what to do.
        """
        if self._program is not None:
            raise UsageError("a session starts once; make another one")
        executable = _find_executable(self._executable, self._env, self._cwd)
        environment = [key + b"=" + value for key, value in self._env.items()]
        stdio = self._stdio = Stdio(*self._given)
        self.stdin, self.stdout, self.stderr = stdio.ends
        given = (stdio.child[0], stdio.child[1], stdio.child[2])
        command = Command(executable, self.command, environment, self._cwd, given, self._job)
        try:
            self._launch(lambda engine: engine.launch(command), executable)
        except BaseException:
            stdio.close()
            raise
        finally:
            stdio.close_child()
        return self

    def _needs(self, plan: Plan) -> dict[str, str]:
        return plan.needs()

    def _begin(self, program: Program) -> None:
        engine = self._engine
        assert engine is not None
        self._program = program
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._started = time.monotonic()
        self._tree = ProcessTree(program.pid)
        if self._job is not None:
            self._job.pass_early(program.pidfd)
        if self.on_engine is not None:
            self.on_engine(self)
        if any(hook.is_async for hook in self._plan.hooks):
            from trapline.engines.deferred import DeferredHooks

            self._deferred = DeferredHooks(self._plan.workers, self._hook_failed, _GRACE_MS / 1000)
        engine.start(program, self._tree, self._defer)

    def _launch(self, launch: Callable[[Engine], Program], executable: bytes) -> None:
        """Use the first engine that can; more than one is there only for ``auto``.

        None is asked beforehand whether it can: that takes as long as to start it.
        """
        left = list(self._engines)
        while True:
            self.engine = left.pop(0)
            try:
                self._engine = new_engine(self.engine, self._plan)
                self._take(launch(self._engine), executable)
                return
            except EngineStartError as error:
                self._give_up()
                if error.errno == _EINTR or not left:
                    raise
                self._passed_over(str(error.args[1]))
            except BaseException:
                self._give_up()
                raise

    def _take(self, program: Program, executable: bytes) -> None:
        self._begin(program)
        self._wait_for_exec(program, executable)

    def _give_up(self) -> None:
        """End what could not be started; the program has done nothing yet that another start would repeat."""
        program = self._program
        if program is None:
            return
        self.kill()
        if self.returncode is None:
            self._reap(program)
        self._finish()

    def _passed_over(self, why: str) -> None:
        """Get ready for the next engine."""
        # Without the advice, which is followed.
        self.engine_reason = f"the next one that can do what is needed, as {why.partition('. ')[0]}"
        self._program = self._failure = self.returncode = None
        self._tree_is_gone = False
        self._killed_at = 0.0

    def _close_pipes(self) -> None:
        if self._stdio is not None:
            self._stdio.close()

    def _wait_for_exec(self, program: Program, executable: bytes) -> None:
        while not program.wait_exec(self._wake):
            os.eventfd_read(self._wake)
        if program.exec_error and self._failure is None:
            raise command_error(program.exec_error, executable)

    def _unhidden(self, number: int) -> None:
        self._fail(
            EngineStartError(
                number,
                f"cannot hide the vDSO, so clock calls would go unseen: ptrace failed with {os.strerror(number)}; the "
                "program was killed. Allow ptrace (`trapline doctor` says how), or pass hide_vdso=False",
            )
        )

    def _fail(self, error: BaseException) -> None:
        """End the program because of *error*; may be called from any thread."""
        if self._failure is None and not self._tree_is_gone:
            self._failure = error
            self.kill()
            os.eventfd_write(self._wake, 1)

    def _raise_failure(self) -> None:
        if isinstance(self._failure, EngineStartError):
            raise self._failure
        if self._failure is not None:
            raise HookError(f"hook {self._failed_hook} raised {self._failure!r}") from self._failure

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the program and everything it started has ended.

        Hooks need this process, so a daemon that the command leaves behind is waited for too.

        :param timeout: seconds; None is for ever.
        :returns: the command's exit status, or minus the number of the signal that ended it.
        :raises TimeoutError: it still runs after *timeout* seconds.
        :raises HookError: a hook raised (with ``on_hook_error="raise"``); the program has been killed.
        """
        program = self._running()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (self._tree_is_gone and self.returncode is not None):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"the program still runs after {timeout} seconds")
            if self._killed_at:
                # What hid from us and makes no hooked call cannot be waited for, for ever.
                rest = self._killed_at + _GRACE_MS / 1000 - time.monotonic()
                self._tree_is_gone = self._tree_is_gone or (rest <= 0 and self.returncode is not None)
                left = max(rest, 0.001) if left is None else max(min(rest, left), 0.001)
            self._wait_once(program, left)
        self._finish()
        self._raise_failure()
        assert self.returncode is not None
        return self.returncode

    def _running(self) -> Program:
        if self._program is None:
            raise UsageError("the session was not started; call start(), or use it in a with statement")
        return self._program

    def _wait_once(self, program: Program, seconds: float | None) -> None:
        engine = self._engine
        assert engine is not None
        assert engine.tables.listener is not None
        pidfd = -1 if self.returncode is not None else program.pidfd
        listener = -1 if self._tree_is_gone else engine.tables.listener.fd
        if self._job is not None:
            milliseconds = -1 if seconds is None else int(max(seconds * 1000, 1))
            event, value = self._job.wait(
                program.pid, pidfd, program.tracer, listener, self._wake, milliseconds
            )
            if event == _EXITED:
                self.returncode = os.waitstatus_to_exitcode(value)
            elif event == _EMPTY:
                self._tree_is_gone = True
            elif event == _WOKEN:
                os.eventfd_read(self._wake)
            elif event == _SIGNAL:
                raise KeyboardInterrupt
            return
        import select

        from trapline import waking

        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if pidfd >= 0:
            poller.register(pidfd, select.POLLIN)
        if listener >= 0:
            poller.register(listener, 0)
        for fd, _ in waking.poll(poller, None if seconds is None else max(seconds * 1000, 1)):
            if fd == self._wake:
                os.eventfd_read(self._wake)
            elif fd == pidfd:
                self._reap(program)
            else:
                self._tree_is_gone = True

    def _reap(self, program: Program) -> None:
        status = program.reap()
        self.returncode = 255 if status is None else os.waitstatus_to_exitcode(status)

    def poll(self) -> int | None:
        """Return what :meth:`wait` would, or None while the command runs."""
        if self.returncode is None and self._program is not None:
            self._wait_once(self._program, 0.0)
        return self.returncode

    def _finish(self) -> None:
        """Stop to listen; what the program may still be doing goes on without hooks, its hooked calls fail."""
        if self._wake < 0:
            return
        self._seconds = time.monotonic() - self._started
        engine = self._engine
        if engine is not None and engine.tables.listener is not None:
            engine.tables.listener.close()
            if self._deferred is not None:
                self._deferred.close()
            engine.tables.listener.wait_idle(_GRACE_MS)
        if engine is not None and self._plan.capture is not None and self._program is not None:
            self.capture_error = engine.end_capture(self._program.pid, self.returncode)
        if engine is not None:
            engine.close()
        if self._program is not None:
            self._program.close()
        # Another thread may be about to write to it.
        wake, self._wake = self._wake, -1
        os.close(wake)

    def _hook_failed(self, call: Call, error: BaseException) -> int:
        if self._on_hook_error >= 0:
            import traceback

            note = f"trapline: a hook for {call.name} raised; the call goes on as on_hook_error says\n"
            if sys.stderr is not None:
                sys.stderr.write(note + "".join(traceback.format_exception(error)))
            return self._on_hook_error
        if self._failure is None:
            self._failed_hook = f"for {call.name} in thread {call.tid}"
        self._fail(error)
        return -1

    def _defer(self, call: Call, hooks: tuple[Callable[..., Any], ...]) -> None:
        assert self._deferred is not None
        self._deferred.decide(call, hooks)

    @property
    def pid(self) -> int:
        """Process id of the command itself."""
        return self._running().pid

    @property
    def processes(self) -> ProcessTree:
        """The program's processes that hooks have asked for so far."""
        self._running()
        assert self._tree is not None
        return self._tree

    @property
    def stats(self) -> Stats:
        """What has happened so far."""
        program, engine = self._running(), self._engine
        assert engine is not None
        assert engine.tables.listener is not None
        received, answered, gone, workers, most_waiting, _ = engine.tables.listener.counts()
        return Stats(
            engine=self.engine,
            received=received,
            answered=answered,
            gone=gone,
            calls=engine.tables.counts(),
            rules=engine.tables.rule_counts(),
            sites=engine.sites(),
            workers=workers,
            most_waiting=most_waiting,
            filter_length=len(engine.tables.program),
            no_new_privs=program.no_new_privs,
            seconds=self._seconds or time.monotonic() - self._started,
        )

    @property
    def injected(self) -> tuple[list[Hit], int]:
        """Where rules have acted that log it: the first some thousands, and how many there were."""
        self._running()
        assert self._engine is not None
        return self._engine.tables.hits()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command itself; nothing happens when it has ended."""
        import signal

        if self.returncode is None:
            signal.pidfd_send_signal(self._running().pidfd, number)

    def kill(self) -> None:
        """End the command and everything it started, with SIGKILL."""
        if self._tree is not None and self._engine is not None:
            self._killed_at = time.monotonic()
            self._engine.tables.doom()
            self._tree.kill()

    @classmethod
    def attach(cls, pid: int, **options: Any) -> AttachedSession:
        """Take hold of a running process: all its threads, and what it starts from now on.

        ::

            with trapline.Session.attach(pid, hooks=[log]) as session:
                time.sleep(10)

        Leaving the block lets go of it, also by an exception, and it goes on as before; it is not killed. Nor is it
        when a hook raises: then :meth:`wait` raises :class:`HookError`. What it starts belongs to the session too.

        :param pid: the process.
        :param options: as for :class:`Session`, apart from those that are about starting a command.
        :returns: a session that has started; see :class:`trapline.attaching.AttachedSession`.
        :raises EngineStartError: the process is gone, may not be traced, or is traced already.
        :raises UnsupportedByEngineError: the engine cannot attach, or cannot do what a hook declares.
        """
        from trapline.attaching import AttachedSession

        session = AttachedSession(pid, **options)
        session.start()
        return session

    def __enter__(self) -> Session:
        return self if self._program is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wake < 0 or os.getpid() != self._owner:
            self._close_pipes()
            return
        if kind is not None:
            self.kill()
        self._close_pipes()
        try:
            self.wait()
        except TraplineError:
            if kind is None:
                raise
        except BaseException:
            self.kill()
            self._finish()
            raise
