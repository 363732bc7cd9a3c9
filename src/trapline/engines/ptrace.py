"""The ``ptrace`` engine: a seccomp filter that stops what is hooked, and a tracer.

Calls that nobody hooks run at native speed, as under ``notify``; the others stop at their entry, and behind the call
where a hook wants the result. Nothing is placed in the program. One thread of this process is the tracer of all its
threads; nobody else can trace them meanwhile (``strace``, ``gdb``).
"""

from __future__ import annotations

import os

from trapline import _native
from trapline.bpf import action
from trapline.engines.attached import AttachedProgram, refusal, yama
from trapline.engines.base import Program
from trapline.engines.tables import CallTables
from trapline.errors import CommandError, EngineStartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.engines.base import Command, Plan
    from trapline.engines.recorder import Recorder
    from trapline.process import ProcessTree

__all__ = ["PtraceEngine"]

_EPERM, _EACCES = 1, 13


class PtraceEngine:
    """One program under one tracer."""

    name = "ptrace"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._recorder: Recorder | None = None
        if plan.capture is not None:
            from trapline.engines.recorder import Recorder

            self._recorder = Recorder(plan.capture)
            plan = self.plan = plan.with_hooks(self._recorder.hooks)
        self.tables = CallTables(plan, action.RET_TRACE)

    def _tracer(self, *, filtered: bool) -> _native.Tracer:
        on_unhidden = self.plan.on_unhidden if self.plan.hide_vdso else None
        capture = self.plan.capture
        on_signal = self._recorder.signal if self._recorder and capture and capture.signals else None
        return _native.Tracer(self.tables.program.to_bytes(), filtered, on_unhidden, on_signal)

    def launch(self, command: Command) -> Program:
        """Start a command, held before its filter is installed, and seize it."""
        tracer = self._tracer(filtered=True)
        try:
            spawn = _native.Spawn(
                command.executable, command.argv, command.environment, command.cwd, command.stdio,
                self.tables.program.to_bytes(), command.job, True,
            )  # fmt: skip
        except OSError as error:
            raise CommandError(
                error.errno, str(error.strerror), os.fsdecode(command.cwd or command.executable)
            ) from None
        try:
            tracer.seize(spawn.pid)
        except OSError as error:
            spawn.close()
            os.waitpid(spawn.pid, 0)
            raise _explain("ptrace(PTRACE_SEIZE)", error.errno or 0) from None
        return _Started(spawn, tracer)

    def attach(self, pid: int) -> Program:
        """Seize every thread of a running process; all its calls stop, as no filter can be taken back."""
        tracer = self._tracer(filtered=False)
        program = None
        try:
            program = _Attached(pid, tracer)
            tracer.attach(pid)
        except OSError as error:
            if program is not None:
                program.close()
            raise refusal(self.name, pid, error.errno or 0, "ptrace(PTRACE_SEIZE) failed") from None
        return program

    def start(self, program: Program, tree: ProcessTree, defer: Callable[..., None]) -> None:
        """Start to answer, and let go a command that is held."""
        assert isinstance(program, _Traced)
        if self._recorder is not None:
            self._recorder.begin()
        self.tables.listen(program.tracer.transport(), tree, defer).start()
        program.release()

    def sites(self) -> None:
        """Nothing is rewritten."""

    def end_capture(self, pid: int, status: int | None) -> int:
        """Write what is left of the record, and how the command has ended."""
        return 0 if self._recorder is None else self._recorder.end(pid, status)

    def close(self) -> None:
        """The listener owns what there is."""


class _Traced(Program):
    tracer: _native.Tracer

    def status_elsewhere(self) -> int | None:
        import select

        # The tracer may have been told before the parent; it says so in a moment.
        for _ in range(1000):
            status = self.tracer.exit_status()
            if status is not None:
                return status
            select.select([], [], [], 0.001)
        return None

    def release(self) -> None:
        """Let the program go on."""


class _Started(_Traced):
    def __init__(self, spawn: _native.Spawn, tracer: _native.Tracer) -> None:
        super().__init__(spawn)
        self.tracer = tracer

    def wait_exec(self, wake: int) -> bool:
        done = self._spawn.wait_exec(wake)
        if done and self._spawn.filter_error:
            raise _explain("seccomp(SECCOMP_SET_MODE_FILTER)", self._spawn.filter_error)
        return done

    def release(self) -> None:
        self._spawn.release()

    def close(self) -> None:
        super().close()
        self.tracer.close()


class _Attached(AttachedProgram, _Traced):
    def __init__(self, pid: int, tracer: _native.Tracer) -> None:
        super().__init__(pid)
        self.tracer = tracer

    def release(self) -> None:
        self.tracer.begin()

    def close(self) -> None:
        self.tracer.detach(2000)
        self.tracer.close()
        super().close()


def _explain(what: str, number: int) -> EngineStartError:
    from trapline.abi.errno import Errno

    name = Errno(number).name if number in set(Errno) else str(number)
    if number == _EPERM and yama() in ("2", "3"):
        why = f"because Yama's ptrace_scope is {yama()}: `sysctl kernel.yama.ptrace_scope=1`, or run as root"
    elif number in (_EPERM, _EACCES):
        why = "because a seccomp profile around this process refuses it; in a container, add `--cap-add SYS_PTRACE`"
    else:
        why = os.strerror(number)
    return EngineStartError(
        number, f"engine 'ptrace' cannot start: {what} failed with {name}, {why}. Run `trapline doctor`"
    )
