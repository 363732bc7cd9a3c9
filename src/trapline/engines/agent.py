"""The in-process engines: ``sud``, ``trap`` and ``rewrite``.

An agent inside the program catches each of its system calls. What nobody hooks never leaves the program; hooks are
asked through memory that both sides share. It enters at execve, by a short ptrace, and follows every fork, thread and
execve. It shares the program's memory, so it is no security boundary.
"""

from __future__ import annotations

import os

from trapline import _native, abi
from trapline.bpf import action
from trapline.engines.base import Program
from trapline.engines.tables import CallTables
from trapline.errors import CommandError, EngineStartError, TraplineError, UsageError
from trapline.rules import roles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from trapline.capture import Capture
    from trapline.engines.base import Command, Plan
    from trapline.engines.chains import RuleChains
    from trapline.engines.planner import Planner
    from trapline.process import ProcessTree

__all__ = ["RewriteEngine", "SudEngine", "TrapEngine"]

_PASS, _CONSTANT, _SLOW = 0, 1, 2
#: How often a site traps before it is rewritten. A trap costs some 2 us, and nobody waits for the plan; but to make
#: one takes this process 100 us and more.
_THRESHOLD = 16
_REWRITES, _TRAPS, _WAITS = 1, 2, 4
_WISH = "TRAPLINE_REWRITE"
_NATIVE = "x86_64"
_EPERM = 1
#: enum tl_chunk_type
_RECORDS, _STATUS = 1, 6
#: Numbers below this one are in the agent's tables.
_TABLE_SIZE = 1024


#: Why a program runs without hooks, by enum tl_unhooked.
_PRIVILEGES, _32_BIT, _TRACED, _REFUSED, _NO_ROOM, _FAILED, _UNARMED = range(1, 8)


def _why(reason: int, number: int) -> str:
    text = {
        _PRIVILEGES: "it gets privileges from its file (set-user-ID or the like), or its user may not read it",
        _32_BIT: "it is a 32-bit program",
        _TRACED: "another program traces it",
        _REFUSED: "ptrace is not permitted here; `trapline doctor` says how to allow it",
        _NO_ROOM: "there is no room in its memory (a limit such as `ulimit -v`)",
        _UNARMED: f"the kernel refuses to catch its calls ({os.strerror(number)}); see `trapline doctor`",
    }.get(reason)
    return text or os.strerror(number)


def _warner(outcome: str) -> Callable[[int, int, int, bytes], None]:
    """Return what says that a program cannot have hooks, once for each reason; it must not refer to the engine."""
    warned: set[int] = set()

    def warn(pid: int, reason: int, number: int, name: bytes) -> None:
        if reason not in warned:
            warned.add(reason)
            what = f"{os.fsdecode(name)!r} (process {pid})" if name else f"process {pid}"
            text = f"trapline: {what} {outcome}: {_why(reason, number)}\n"
            os.write(2, text.encode(errors="surrogateescape"))

    return warn


class AgentEngine:
    """One program with an agent in each of its processes."""

    name = ""
    flags = 0
    #: What becomes of a program that the agent cannot follow into.
    outcome = "runs without hooks"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tables = CallTables(plan, action.RET_USER_NOTIF, in_agent=True)
        # So that tests and measurements meet nothing but rewritten sites.
        at_once = os.environ.get(_WISH) == "at-once" and self.flags & _REWRITES
        try:
            self.agent = _native.Agent(
                self.flags | (_WAITS if at_once else 0),
                1 if at_once else _THRESHOLD,
                bool(plan.hide_vdso),
                self.tables.program.to_bytes(),
                _warner(self.outcome),
            )
        except OSError as error:
            raise EngineStartError(
                error.errno or 0,
                f"engine {self.name!r} cannot start: {error.strerror}. Use --engine notify, or ptrace where hooks "
                "need results, or run `trapline doctor`",
            ) from None
        self._spawn: _native.Spawn | None = None
        self._planner: Planner | None = None
        self._command: Command | None = None
        self._records = False

    def launch(self, command: Command) -> Program:
        """Create the process; it is held before its execve."""
        self._command = command
        environment = [each for each in command.environment if not each.startswith(_WISH.encode() + b"=")]
        try:
            self._spawn = _native.Spawn(
                command.executable, command.argv, environment, command.cwd, command.stdio, None,
                command.job, True, self.agent.descriptors,
            )  # fmt: skip
        except OSError as error:
            raise CommandError(
                error.errno, str(error.strerror), os.fsdecode(command.cwd or command.executable)
            ) from None
        return Program(self._spawn)

    def attach(self, pid: int) -> Program:
        """Put the agent into a running process, which is stopped until :meth:`start`."""
        if self.flags & _TRAPS:
            raise NotImplementedError
        from trapline.engines.visited import VisitedProgram

        self.agent.classify_own()
        return VisitedProgram(self.name, pid, self.agent)

    def start(self, program: Program, tree: ProcessTree, defer: Callable[..., None]) -> None:
        """Start to answer, and let the program begin."""
        native = self.tables.listen(self.agent.transport(), tree, defer)
        self._classify()
        capture = self.plan.capture
        if capture is not None:
            self._record(capture)
        native.start()
        if self.flags & _REWRITES:
            from trapline.engines.planner import Planner

            self._planner = Planner(self.agent)
        if self._spawn is None:
            self._begin_capture(capture, program.pid, self.agent.ticks())
            self.agent.begin()
            return
        ticks = self.agent.ticks()
        try:
            reason, number = self.agent.enter(self._spawn)
        except OSError as error:
            raise self._error(error.errno or 0, str(error.strerror)) from None
        if reason:
            raise self._error(number, _why(reason, number))
        self._begin_capture(capture, program.pid, ticks)

    def _record(self, capture: Capture) -> None:
        alone = not self.plan.hooks and not self.plan.rules
        try:
            self.agent.capture(
                capture.fd, capture.part, capture.limit, capture.drop, capture.signals, alone, capture.plans()
            )
        except OSError as error:
            raise EngineStartError(error.errno or 0, f"cannot record calls: {error.strerror}") from None

    def _begin_capture(self, capture: Capture | None, pid: int, ticks: int) -> None:
        """Write what is recorded. Not before it is certain that no other engine has to: they append to one file."""
        if capture is None:
            return
        try:
            self.agent.begin_capture()
        except OSError as error:
            raise TraplineError(f"cannot record calls: {error.strerror}") from None
        self._records = True
        command = self._command
        if command is not None and not capture.names.isdisjoint(("*", "execve")):
            from trapline.capture import first_call

            record = first_call(command.executable, command.argv, command.environment, ticks, capture.limit)
            self.agent.append_chunk(_RECORDS, pid, pid, record)

    def _error(self, number: int, why: str) -> EngineStartError:
        return EngineStartError(
            number,
            f"engine {self.name!r} cannot enter the program: {why}. Use --engine notify, or ptrace where "
            "hooks need results, or run `trapline doctor`",
        )

    def _classify(self) -> None:
        """Tell the agent which calls may go straight to the kernel."""
        agent, chains = self.agent, self.tables.chains
        if self.tables.sees_all:
            agent.classify(_SLOW, None)
        agent.classify_own()
        agent.classify(_SLOW, [nr for arch, nr in self.tables.numbers() if arch == _NATIVE])
        if chains is not None:
            self._set_rules(chains)
        if not self.plan.allow_io_uring:
            agent.set_constant(425, -_EPERM)

    def _set_rules(self, chains: RuleChains) -> None:
        """Have rules applied by the agent; those that it does not find are the supervisor's."""
        constants = {nr: result for nr, result in chains.constants.items() if nr is not None}
        everywhere = chains.constants.get(None)
        if everywhere is not None:
            others = {nr for arch, nr in chains.calls() if arch == _NATIVE}
            constants |= {nr: everywhere for nr in range(_TABLE_SIZE) if nr not in others}
        for key in sorted(chains.calls(), key=lambda key: key[1] is not None):
            arch, nr = key
            uses = [
                (index, -1 if inner is None else inner, *roles(chains.rules[index], arch, nr))
                for index, inner in chains.uses.get(key, ())
            ]
            if not self.agent.set_rules(abi.AUDIT_ARCH[arch], -1 if nr is None else nr, tuple(uses)):
                raise UsageError("there are too many rules for so many calls; use fewer, or --engine notify")
        for number, result in constants.items():
            self.agent.set_constant(number, result)

    def sites(self) -> dict[str, Any] | None:
        """Return what became of the system call instructions that were met, as :class:`trapline.Stats` has it."""
        if not self.flags & _REWRITES:
            return None
        from trapline.rewriting.windows import REASONS

        reasons = ["unwritable", *REASONS]
        processes: dict[int, dict[str, Any]] = {}
        for pid, seen, patched, refused in self.agent.reports():
            left = {reasons[number]: count for number, count in refused.items()}
            rare = seen - patched - sum(left.values())
            if rare > 0:
                left["rare"] = rare
            processes[pid] = {"seen": seen, "patched": patched, "left": left}
        total: dict[str, Any] = {"seen": 0, "patched": 0, "left": {}, "processes": processes}
        for one in processes.values():
            total["seen"] += one["seen"]
            total["patched"] += one["patched"]
            for reason, count in one["left"].items():
                total["left"][reason] = total["left"].get(reason, 0) + count
        return total

    def end_capture(self, pid: int, status: int | None) -> int:
        """Write what is left of the record, and how the command has ended."""
        if not self._records:
            return 0
        error = self.agent.end_capture()
        if status is None:
            return error
        return self.agent.append_chunk(_STATUS, pid, pid, status.to_bytes(4, "little", signed=True)) or error

    def close(self) -> None:
        """End the planner."""
        if self._planner is not None:
            self._planner.close()


class SudEngine(AgentEngine):
    """Every system call traps (Syscall User Dispatch)."""

    name = "sud"


class TrapEngine(AgentEngine):
    """Every system call traps (a seccomp filter on the instruction pointer); needs no dispatch in the kernel."""

    name = "trap"
    flags = _TRAPS
    # The filter stays, and would end it at its first call.
    outcome = "cannot be executed under this engine"


class RewriteEngine(AgentEngine):
    """As ``sud``, until a site has trapped often enough to be rewritten."""

    name = "rewrite"
    flags = _REWRITES
