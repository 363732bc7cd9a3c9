"""The ``notify`` engine: seccomp user notification.

The filter holds back the calls that somebody hooks; the kernel hands each to this process, and its thread waits for
the answer. Kernel-enforced, inherited by everything the program starts, and needs no privilege. It sees calls
before they happen: neither results nor changed arguments are possible, and a record of them has no results.
"""

from __future__ import annotations

import errno
import os

from trapline import _native, abi
from trapline.bpf import action
from trapline.bpf.policy import rules_for
from trapline.engines.base import Program
from trapline.engines.tables import EXEC_CALLS, CallTables, present
from trapline.errors import CommandError, EngineStartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.engines.base import Command, Plan
    from trapline.engines.recorder import Recorder
    from trapline.process import ProcessTree

__all__ = ["NotifyEngine"]

_EPERM, _EBUSY, _EACCES, _EINVAL, _ENOSYS = 1, 16, 13, 22, 38


class NotifyEngine:
    """One program under one listener."""

    name = "notify"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._recorder: Recorder | None = None
        if plan.capture is not None:
            from trapline.engines.recorder import Recorder

            self._recorder = Recorder(plan.capture, sees_results=False)
            plan = self.plan = plan.with_hooks(self._recorder.hooks)
        self.tables = CallTables(plan, action.RET_USER_NOTIF, EXEC_CALLS if plan.hide_vdso else ())
        self._transport: _native.Transport | None = None

    def launch(self, command: Command) -> Program:
        """Start a command; it is filtered, and its first call that a hook can see is its execve."""
        try:
            spawn = _native.Spawn(
                command.executable, command.argv, command.environment, command.cwd, command.stdio,
                self.tables.program.to_bytes(), command.job, False,
            )  # fmt: skip
        except OSError as error:
            if error.errno == errno.EINTR:
                raise EngineStartError(error.errno, str(error.strerror)) from None
            if "seccomp" in str(error):
                raise _explain(error) from None
            raise CommandError(
                error.errno, str(error.strerror), os.fsdecode(command.cwd or command.executable)
            ) from None
        self._transport = _native.notify_transport(spawn.listener)
        return Program(spawn)

    def attach(self, pid: int) -> Program:
        """Not possible: a filter is installed by the program itself."""
        raise NotImplementedError

    def start(self, program: Program, tree: ProcessTree, defer: Callable[..., None]) -> None:
        """Start to answer."""
        assert self._transport is not None
        if self._recorder is not None:
            self._recorder.begin()
        native = self.tables.listen(self._transport, tree, defer)
        self._transport = None
        if self.plan.hide_vdso:
            for one in rules_for(present(EXEC_CALLS), None, action.RET_USER_NOTIF):
                assert one.nr is not None
                native.meet_exec(abi.AUDIT_ARCH[one.arch], one.nr, program.pid, self.plan.on_unhidden)
        native.start()

    def sites(self) -> None:
        """Nothing is rewritten."""

    def end_capture(self, pid: int, status: int | None) -> int:
        """Write what is left of the record, and how the command has ended."""
        return 0 if self._recorder is None else self._recorder.end(pid, status)

    def close(self) -> None:
        """The listener owns what there is."""


def _explain(error: OSError) -> EngineStartError:
    """Return the error to raise when the child could not be filtered."""
    number = error.errno or 0
    remedies = {
        _EBUSY: "because this process tree already has a listener. ",
        _EACCES: "because neither no_new_privs nor CAP_SYS_ADMIN is there. Run `trapline doctor`",
        _EPERM: "because a seccomp profile around this process refuses it; in a container, start that with "
        "`--security-opt seccomp=unconfined` or a profile that allows seccomp(2). Run `trapline doctor`",
        _EINVAL: "because this kernel has no user notification (Linux 5.0 or later). Run `trapline doctor`",
        _ENOSYS: "because this kernel has no seccomp filters. Run `trapline doctor`",
    }
    from os import strerror

    from trapline.abi.errno import Errno

    name = Errno(number).name if number in set(Errno) else str(number)
    why = remedies.get(number, f"({strerror(number)}). Run `trapline doctor`")
    if number == _EBUSY:
        from trapline.engines.choose import next_engine

        other = next_engine(NotifyEngine.name)
        why += f"Use --engine {other}, or run `trapline doctor`" if other else "Run `trapline doctor`"
    return EngineStartError(
        number,
        f"engine 'notify' cannot start: seccomp(SECCOMP_SET_MODE_FILTER) failed with {name}, {why}",
    )
