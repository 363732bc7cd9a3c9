"""What every engine can say about itself, and what a session asks of it."""

from __future__ import annotations

import os

from trapline import _native
from trapline.errors import CommandError, UsageError
from trapline.rules import MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from trapline.capture import Capture
    from trapline.engines.tables import CallTables
    from trapline.hooks import Hook
    from trapline.process import ProcessTree
    from trapline.rules import Rule

    class Engine(Protocol):
        """A way of catching system calls, for one program.

        :ivar name: as in :data:`ENGINES`.
        :ivar tables: hooks and rules, and the listener that calls them.
        """

        name: str
        tables: CallTables

        def launch(self, command: Command) -> Program:
            """Create the command's process; it makes no hooked call that is not held until :meth:`start`.

            :raises EngineStartError: this engine cannot start here.
            :raises CommandError: the command cannot be started in its directory.
            """

        def attach(self, pid: int) -> Program:
            """Take hold of a running process and all that it starts from now on.

            :raises EngineStartError: it may not be traced, or is already.
            """

        def start(self, program: Program, tree: ProcessTree, defer: Callable[..., None]) -> None:
            """Let hooks decide from now on: make ``tables.listener``, and start it."""

        def sites(self) -> dict[str, Any] | None:
            """Return what :class:`trapline.Stats` says of rewriting, or None where nothing is rewritten."""

        def close(self) -> None:
            """Give back what :meth:`start` took; the program has ended."""

        def end_capture(self, pid: int, status: int | None) -> int:
            """Write what is left of the record, and how the command has ended, unless it lives on.

            :returns: 0, or why that could not be written.
            """


__all__ = ["CAPABILITIES", "ENGINES", "Command", "Plan", "Program", "command_error", "new_engine"]

#: What a hook may need beyond deciding before the call, and how to say it in an error.
CAPABILITIES = {
    "result": "tell what a call returns",
    "change_args": "change arguments",
    "attach": "attach to a running process",
    "capture": "record calls",
    "stack": "record the stacks of callers",
}

#: Capabilities by engine, the cheapest first. Those that can be started are in STARTABLE.
ENGINES: dict[str, frozenset[str]] = {
    "notify": frozenset({"capture"}),
    "rewrite": frozenset({"result", "change_args", "attach", "capture", "stack"}),
    "sud": frozenset({"result", "change_args", "attach", "capture", "stack"}),
    "trap": frozenset({"result", "change_args", "capture", "stack"}),
    "ptrace": frozenset({"result", "change_args", "attach", "capture"}),
}
#: Module and class of the engines that this version can start, in the order of ENGINES.
_CLASSES = {
    "notify": ("trapline.engines.notify", "NotifyEngine"),
    "rewrite": ("trapline.engines.agent", "RewriteEngine"),
    "sud": ("trapline.engines.agent", "SudEngine"),
    "trap": ("trapline.engines.agent", "TrapEngine"),
    "ptrace": ("trapline.engines.ptrace", "PtraceEngine"),
}
#: The agent is machine code; where there is none, engines that need it were not built.
STARTABLE = tuple(
    name for name, (module, _) in _CLASSES.items()
    if module != "trapline.engines.agent" or hasattr(_native, "Agent")
)  # fmt: skip

#: What the vDSO answers without a system call.
VDSO_CALLS = frozenset({"clock_gettime", "clock_gettime64", "clock_getres", "gettimeofday", "time", "getcpu"})


def new_engine(name: str, plan: Plan) -> Engine:
    """Return the engine of that name, one of STARTABLE, for a program."""
    module, kind = _CLASSES[name]
    # Not importlib.import_module: importing that costs a millisecond of start-up.
    engine: Engine = getattr(__import__(module, fromlist=(kind,)), kind)(plan)
    return engine


def command_error(number: int, path: bytes) -> CommandError:
    """Return the error of a command that cannot be executed."""
    error = CommandError(number, os.strerror(number), os.fsdecode(path))
    error.add_note(f"cannot execute '{os.fsdecode(path)}': {os.strerror(number)}")
    return error


class Command:
    """What is to be started.

    :ivar executable: what execve gets.
    :ivar argv: its arguments.
    :ivar environment: ``KEY=VALUE`` each.
    :ivar cwd: its working directory; None: this one.
    :ivar stdio: descriptors to become its 0, 1 and 2; -1: what is there.
    :ivar job: who stands in for it at a terminal, or None.
    """

    __slots__ = ("argv", "cwd", "environment", "executable", "job", "stdio")

    def __init__(
        self,
        executable: bytes,
        argv: Sequence[bytes],
        environment: Sequence[bytes],
        cwd: bytes | None,
        stdio: tuple[int, int, int],
        job: _native.Job | None,
    ) -> None:
        self.executable = executable
        self.argv = argv
        self.environment = environment
        self.cwd = cwd
        self.stdio = stdio
        self.job = job


class Program:
    """A program that an engine has hold of; engines that know more of it derive from this.

    :ivar pid: the process that was started or attached to.
    :ivar pidfd: a descriptor of it, owned by this object, readable when it has ended; -1 once closed.
    :ivar tracer: who is told of its end and its stops, where that is not this process at large.
    """

    tracer: _native.Tracer | None = None

    def __init__(self, spawn: _native.Spawn) -> None:
        self._spawn = spawn
        self.pid = spawn.pid
        self.pidfd = spawn.pidfd

    @property
    def no_new_privs(self) -> bool:
        """It runs with no_new_privs."""
        return self._spawn.no_new_privs

    @property
    def exec_error(self) -> int:
        """Why its execve failed, or 0, once :meth:`wait_exec` has returned True."""
        return self._spawn.exec_error

    def wait_exec(self, wake: int) -> bool:
        """Wait until its execve has happened or failed (True), or the descriptor *wake* is readable.

        :raises EngineStartError: it could not be filtered.
        """
        return self._spawn.wait_exec(wake)

    def reap(self) -> int | None:
        """Wait for the end of the process and return its status; None when nobody knows it."""
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return self.status_elsewhere()

    def status_elsewhere(self) -> int | None:
        """Return the status of the process, which somebody else in this one has reaped, or None: it is not known."""
        return None

    def close(self) -> None:
        """Give back what the start took."""
        self._spawn.close()
        self.pidfd = -1


class Plan:
    """What a session wants of an engine.

    :ivar hooks: in order of registration.
    :ivar rules: in order; they act before hooks.
    :ivar hide_vdso: take the vDSO from new programs, so that they ask the kernel for the time.
    :ivar allow_io_uring: let ``io_uring_setup`` through, whose calls nobody sees.
    :ivar workers: most threads that run hooks at one time.
    :ivar capture: what is recorded, or None.
    :ivar on_error: ``(call, exception)`` of a hook that raised; returns an errno to fail with, 0 to let the kernel
        perform the call, or -1 to leave it waiting (its program is being killed).
    :ivar on_unhidden: ``(errno)``: a program has kept its vDSO although *hide_vdso* is set.
    """

    __slots__ = (
        "allow_io_uring",
        "capture",
        "hide_vdso",
        "hooks",
        "on_error",
        "on_unhidden",
        "rules",
        "workers",
    )

    def __init__(
        self,
        hooks: Sequence[Hook],
        rules: Sequence[Rule],
        *,
        allow_io_uring: bool,
        hide_vdso: bool | None,
        workers: int,
        on_error: Callable[..., int],
        on_unhidden: Callable[[int], None],
        capture: Capture | None = None,
    ) -> None:
        self.hooks = tuple(hooks)
        self.rules = tuple(rules)
        if len(self.rules) > MOST:
            raise UsageError(f"there are {len(self.rules)} rules, and at most {MOST} are possible")
        self.allow_io_uring = allow_io_uring
        self.capture = capture
        self.workers = workers
        if hide_vdso is None:
            named = [hook.names for hook in self.hooks] + [rule.names for rule in self.rules]
            hide_vdso = any(not VDSO_CALLS.isdisjoint(names) for names in named)
        self.hide_vdso = hide_vdso
        self.on_error = on_error
        self.on_unhidden = on_unhidden

    def with_hooks(self, more: Sequence[Hook]) -> Plan:
        """Return the same with further hooks, which are asked last; another engine may still get this one."""
        plan = object.__new__(Plan)
        for name in Plan.__slots__:
            setattr(plan, name, getattr(self, name))
        plan.hooks = (*self.hooks, *more)
        return plan

    def needs(self) -> dict[str, str]:
        """Return the capabilities that are needed, each with the first hook or rule that needs it."""
        found: dict[str, str] = {}
        if self.capture is not None:
            found["capture"] = "the record"
            if self.capture.results:
                found["result"] = self.capture.results
            if self.capture.stack:
                found["stack"] = "the record of stacks"
        for hook in self.hooks:
            if hook.on_return or hook.performs:
                found.setdefault("result", f"hook {hook.name!r}")
            if hook.changes_args:
                found.setdefault("change_args", f"hook {hook.name!r}")
        for rule in self.rules:
            if rule.delay_exit_ns or any(at_exit for _, at_exit, _ in rule.pokes):
                found.setdefault("result", f"rule '{rule.text}'")
            if rule.set_args or rule.most is not None:
                found.setdefault("change_args", f"rule '{rule.text}'")
        return found
