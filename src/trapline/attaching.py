"""A process that runs already, under hooks: take hold of it, let go of it."""

from __future__ import annotations

import os

from trapline.engines.attached import status_field
from trapline.engines.choose import is_possible
from trapline.errors import EngineStartError, UnsupportedByEngineError, UsageError
from trapline.process import Process
from trapline.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from trapline.engines.base import Engine, Plan, Program

__all__ = ["AttachedSession"]


class AttachedSession(Session):
    """What :meth:`Session.attach` returns: a session that lets its program go on when it ends.

    :param pid: the process to take hold of.
    :param options: as for :class:`Session`.
    """

    def __init__(self, pid: int, **options: Any) -> None:
        for name in ("stdin", "stdout", "stderr", "executable", "cwd", "env"):
            if name in options:
                raise UsageError(f"{name} is for a command that is started, and process {pid} runs already")
        if pid == os.getpid():
            raise UsageError("a process cannot attach to itself")
        leader = status_field(pid, "Tgid")
        if leader not in (None, str(pid)):
            raise UsageError(f"{pid} is a thread of process {leader}; attach to that, with all its threads")
        self._target = pid
        self._interrupted = False
        super().__init__(Process(pid, 0, 0, None).cmdline or [str(pid)], **options)

    def _needs(self, plan: Plan) -> dict[str, str]:
        return {**plan.needs(), "attach": f"attaching to process {self._target}"}

    def start(self) -> Session:
        """Take hold of the process; its threads stop for a moment."""
        if self._program is not None:
            raise UsageError("a session starts once; make another one")
        self._launch(self._attach, b"")
        return self

    def _take(self, program: Program, executable: bytes) -> None:
        self._begin(program)

    def _give_up(self) -> None:
        if self._program is not None:
            self._finish()

    def _attach(self, engine: Engine) -> Program:
        if self.engine != self._engines[-1] and not is_possible(self.engine):
            # To find out by trying would stop the program.
            raise EngineStartError(0, f"engine {self.engine!r} does not work here (`trapline doctor`)")
        try:
            return engine.attach(self._target)
        except NotImplementedError:
            if self.engine == self._engines[-1]:
                raise UnsupportedByEngineError(
                    f"engine {self.engine!r} cannot attach in this version",
                    engine=self.engine,
                    capability="attach",
                ) from None
            raise EngineStartError(0, f"engine {self.engine!r} cannot attach in this version") from None

    def detach(self) -> None:
        """Let go of the program and of all that it has started; what waits for a hook goes on without it."""
        self._finish()

    def interrupt(self) -> None:
        """Have :meth:`wait` raise KeyboardInterrupt, from a signal handler; nothing happens once it has returned."""
        self._interrupted = True
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None and not self._tree_is_gone:
            self._failure = error
            os.eventfd_write(self._wake, 1)

    def _wait_once(self, program: Program, seconds: float | None) -> None:
        super()._wait_once(program, seconds)
        if self._interrupted:
            raise KeyboardInterrupt
        if self._failure is not None:
            self.detach()
            self._raise_failure()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the program, and everything it has started since, has ended.

        :param timeout: seconds; None is for ever.
        :returns: the process's exit status, or minus the number of the signal that ended it.
        :raises TimeoutError: it still runs after *timeout* seconds.
        :raises HookError: a hook raised; the program has been let go.
        :raises UsageError: it has been let go before.
        """
        if self._program is not None and self._wake < 0 and self.returncode is None:
            raise UsageError("the session has let go of the program, so it cannot wait for its end")
        return super().wait(timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wake < 0 or os.getpid() != self._owner:
            return
        self.detach()
        if kind is None:
            self._raise_failure()
