"""Guests: foreign code in this process, every system call of which is ours to decide."""

from __future__ import annotations

import threading
import time

from trapline import _native, abi
from trapline.bpf import action
from trapline.bpf.ranges import normalize
from trapline.engines.base import Plan
from trapline.engines.tables import CallTables
from trapline.errors import UsageError
from trapline.guest import descriptors, interrupts
from trapline.guest.arena import PAGE, Arena, ArenaError, Code
from trapline.guest.engines import NOTIFY, TRAP, catching_filter, choose
from trapline.guest.faults import GuestExit, GuestKilled
from trapline.guest.hosting import Host
from trapline.guest.running import End, Running
from trapline.guest.thread import GuestCall, Thread
from trapline.hooks import collect, error_policy
from trapline.process import ProcessTree
from trapline.rules import Rule, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any

    from trapline.bpf.ranges import Range
    from trapline.call import Call
    from trapline.guest.personality import Personality

__all__ = ["Guest"]

_SLOW, _PASS_HERE = 2, 3
_IO_URING_SETUP = 425
_EPERM = 1
_STACK_SIZE = 1 << 20
_TABLE_SIZE = 1024
_INTEGER_ARGS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_MASK = (1 << 64) - 1


class Guest(Running):
    """Foreign code that runs on threads of this process.

    ::

        with trapline.guest.Guest(hooks=[orphan]) as guest:
            code = guest.arena.load_code(bytes.fromhex("b86e0000000f05c3"))  # getppid
            print(guest.call(code))

    Hooks and rules are those of :class:`trapline.Session`; what they leave undecided is done by the personality. On
    a thread that runs a guest, signals of this process are blocked, in hooks too, and so they are in what a hook
    starts; Python's own handlers run all the same, on the main thread, as soon as they are due.

    :param arena: where it lives; None is one of its own, which is closed with it.
    :param hooks: functions decorated with :func:`trapline.on` or :func:`trapline.on_return`.
    :param rules: as for :class:`trapline.Session`.
    :param engine: ``auto``, ``rewrite``, ``sud``, ``trap``, ``notify``, or one of those with ``:exclusive``,
        ``:trap`` or ``:notify`` where it says what is below.
    :param personality: what the guest believes the kernel is; None is :class:`trapline.guest.Linux`.
    :param on_hook_error: ``"raise"`` out of what runs the guest, ``"continue"``, or ``"fail:EIO"``.
    :param ranges: code outside the arena that is the guest's too, as pairs of a first address and one behind.
    """

    def __init__(
        self,
        arena: Arena | None = None,
        *,
        hooks: Iterable[object] = (),
        rules: Iterable[str | Rule] = (),
        engine: str = "auto",
        personality: Personality | None = None,
        on_hook_error: str = "raise",
        workers: int = 64,
        ranges: Sequence[Range] = (),
    ) -> None:
        from trapline.guest.linux import Linux

        super().__init__()
        self._choice = choose(engine)
        #: Name of the engine.
        self.engine = self._choice.name
        self._on_hook_error = error_policy(on_hook_error)
        hooks = list(hooks)
        self.personality = Linux() if personality is None else personality
        parsed = [rule if isinstance(rule, Rule) else parse(rule) for rule in rules]
        plan = Plan(
            collect(hooks), parsed, workers=workers, hide_vdso=None,
            allow_io_uring=self.personality.numbers is not None,
            on_error=self._hook_failed, on_unhidden=lambda _: None,
        )  # fmt: skip
        self.hides_vdso = bool(plan.hide_vdso)
        self._for_commands: dict[str, Any] = {
            "hooks": hooks,
            "rules": parsed,
            "on_hook_error": on_hook_error,
            "workers": workers,
        }
        self._owns_arena = arena is None
        self.arena = Arena() if arena is None else arena
        self.personality.begin(self)
        self._tables = CallTables(plan, action.RET_USER_NOTIF)
        self._native = _native.Guest(
            self._choice.base, self._choice.rewrites, self.personality.handlers(), self._kicked, self._hot
        )
        self._owns_files = bool(getattr(self.personality, "own_files", False))
        if self._owns_files:
            self._native.own_files()
        self._ranges = list(ranges)
        self._set_ranges()
        self._deferred: Any = None
        self._listen(plan)
        self._classify()
        self._stacks: list[int] = []
        self._return_to = self.arena.map(PAGE, "", name="return")
        self._host: Host | None = None
        self._main: Thread | None = None
        self._closed = False
        self._passed = 0
        self._sites: dict[str, Any] = {}

    # -- setting up ----------------------------------------------------------------------------------------------------

    def _set_ranges(self) -> None:
        """Say where its code is; what catches it by a filter gets one with just these ranges."""
        ranges = tuple(sorted([(self.arena.start, self.arena.end), *self._ranges]))
        self._native.set_ranges(ranges, self._choice.selects or len(ranges) > 1)
        if self._choice.base == TRAP:
            self._native.set_catching(catching_filter(normalize(ranges), action.RET_TRAP).to_bytes(), False)
        elif self._choice.base == NOTIFY:
            ranges = (*ranges, (self._native.bell, self._native.bell + 3))
            trapped = self.personality.trapped()
            program = catching_filter(normalize(ranges), action.RET_USER_NOTIF, trapped)
            self._native.set_catching(program.to_bytes(), False)
            # A thread that has its listener can have no other: what is new to it traps.
            program = catching_filter(normalize(self._ranges), action.RET_TRAP)
            self._native.set_catching(program.to_bytes(), True)

    def add_range(self, start: int, end: int) -> None:
        """Make code outside the arena the guest's too, also while it runs.

        Threads that run take notice at once. With dispatch that costs them nothing more than a selector; a thread with
        a filter gets another one, for good: what :meth:`remove_range` takes back is then told apart by the handler.

        :param start: its first address.
        :param end: the address behind it.
        """
        self._check()
        self._ranges.append((start, end))
        self._change_ranges()

    def remove_range(self, start: int, end: int) -> None:
        """Take back what :meth:`add_range` or the constructor was given.

        :raises UsageError: there is no such range.
        """
        self._check()
        if (start, end) not in self._ranges:
            raise UsageError(f"{start:#x} to {end:#x} is no range of this guest")
        self._ranges.remove((start, end))
        self._change_ranges()

    def _change_ranges(self) -> None:
        self._set_ranges()
        self._native.rearm()
        self._kick_all()

    def _listen(self, plan: Plan) -> None:
        call_type = type("GuestCall", (GuestCall,), {"__slots__": (), "_guest": self})
        if any(hook.is_async for hook in plan.hooks):
            from trapline.engines.deferred import DeferredHooks

            with descriptors.out_of_the_way():
                self._deferred = DeferredHooks(plan.workers, self._hook_failed, 1.0)
        import os

        listener = self._tables.listen(
            self._native.transport(), ProcessTree(os.getpid()), self._defer, call_type=call_type
        )
        self._native.set_listener(listener, self._tables.program.to_bytes())

    def _defer(self, call: Call, hooks: tuple[Callable[..., Any], ...]) -> None:
        self._deferred.decide(call, hooks)

    def _classify(self) -> None:
        """Say which calls go straight to the kernel."""
        native = self._native
        convention = self.personality.convention
        if convention is not None or self.personality.numbers is not None:
            from trapline.guest.linux import LINUX

            native.set_convention(*(convention or LINUX).positions())
            # Blocks look at Linux's numbers where Linux has them: here all calls are asked about.
            native.classify(_SLOW, None)
            return
        x86_64 = abi.AUDIT_ARCH["x86_64"]
        native.classify(_PASS_HERE, descriptors.tell())
        handled = [nr for arch, nr in self.personality.handlers() if arch == x86_64]
        if self._tables.sees_all or -1 in handled:
            native.classify(_SLOW, None)
        native.classify(_SLOW, [nr for nr in handled if nr >= 0])
        native.classify(_SLOW, [nr for arch, nr in self._tables.numbers() if arch == "x86_64"])
        if self._tables.chains is not None:
            for nr, result in self._tables.chains.constants.items():
                if nr is not None and nr < _TABLE_SIZE:
                    native.set_constant(nr, result)
        native.set_constant(_IO_URING_SETUP, -_EPERM)

    # -- errors, kicks -------------------------------------------------------------------------------------------------

    def _hook_failed(self, call: Call, error: BaseException) -> int:
        if self._on_hook_error >= 0:
            import sys
            import traceback

            note = f"trapline: a hook for {call.name} raised; the call goes on as on_hook_error says\n"
            if sys.stderr is not None:
                sys.stderr.write(note + "".join(traceback.format_exception(error)))
            return self._on_hook_error
        thread = self._threads.get(call._id & 0xFFF)
        if thread is None:  # nobody waits for it any more
            return -1
        thread.error = error
        if thread.driver != threading.get_native_id():
            thread.kick()
        return -1

    def _hot(self, site: int) -> None:
        """Called on a thread whose site has trapped often."""
        with self._lock:
            if self._rewriter is None:
                from trapline.guest.rewriting import Rewriter

                self._rewriter = Rewriter(self.arena, self._native)
        self._rewriter.rewrite(site)

    def _kicked(self, thread: Thread, in_call: bool) -> None:
        """Called on a thread that was interrupted, before it goes on; in the middle of a call it may be ended."""
        if thread.error is not None:
            error, thread.error = thread.error, None
            raise error
        if self._ending:
            raise End
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeoutError("the guest still runs after the time it was given")
        if in_call:
            return
        if self._rewriter is not None:
            self._rewriter.show(thread)
        self.personality.kicked(thread)

    # -- running -------------------------------------------------------------------------------------------------------

    def move_arena(self, low: int, high: int) -> None:
        """Have an arena that has ``[low, high)``, where a program is linked to be.

        :raises ArenaError: something else is there, in this process or in the arena that was given.
        """
        if low in self.arena and high <= self.arena.end:
            return
        if not self._owns_arena:
            raise ArenaError(
                12, f"the program is linked to be at {low:#x} and the arena is elsewhere: make the guest without "
                f"an arena of your own, or Arena(base={low:#x})"
            )  # fmt: skip
        self.arena.close()
        self.arena = Arena(base=low)
        self._return_to = self.arena.end - PAGE
        self.arena.map(PAGE, "", at=self._return_to, name="return")
        self._set_ranges()

    def _here(self, function: Callable[[], int]) -> int:
        """Run *function* where the engine wants the guest: here, or on a thread that has its filter for good."""
        if self._choice.base != TRAP and not self._owns_files:
            return function()
        if self._host is None:
            self._host = Host(self._owns_files)
        return self._host.run(function, lambda error: self.end(None, error))

    def disturb(self, thread: Thread) -> None:
        """Have Python's signal handlers called soon, though the main thread is in this guest."""
        thread.nudge()
        if self._host is not None:
            self._host.wake()

    @property
    def main(self) -> Thread | None:
        """The thread that its program began with."""
        return self._main

    def _check(self) -> None:
        if self._closed:
            raise UsageError("this guest is closed")

    def call(self, code: Code | int, *args: int, timeout: float | None = None) -> int:
        """Call code as a C function and return its result, signed.

        A hook may call the same guest again.

        :param code: what :meth:`Arena.load_code` returned, or an address.
        :param args: at most six integers, or addresses.
        :param timeout: seconds; None is for ever.
        :raises GuestFault: an instruction could not be executed.
        :raises GuestExit: it has made ``exit``.
        :raises TimeoutError: it has not returned in time; it has been stopped.
        """
        self._check()
        if len(args) > len(_INTEGER_ARGS):
            raise UsageError("a function takes at most six arguments here")
        thread = self.new_thread()
        outer = self._innermost()
        stack = self._stacks.pop() if self._stacks else self.arena.map_stack(_STACK_SIZE)
        registers = thread.registers
        registers.rip = int(code.address if isinstance(code, Code) else code)
        registers.rsp = stack + _STACK_SIZE - 8
        self.arena.memory(stack + _STACK_SIZE - 8, 8)[:] = self._return_to.to_bytes(8, "little")
        thread.return_to = self._return_to
        thread.fs = outer.fs if outer is not None else 0
        for name, value in zip(_INTEGER_ARGS, args, strict=False):
            setattr(registers, name, value & _MASK)
        if outer is None:
            self._ending = False
            self._failure = None
            self._deadline = None
        timer = self._limited(timeout)
        try:
            with interrupts.watching(thread):
                return self._here(lambda: self.drive(thread))
        except End:
            if self._failure is not None:
                raise self._failure from None
            status = self._run_command() or 0
            raise (GuestExit(status) if status >= 0 else GuestKilled(-status)) from None
        finally:
            if timer is not None:
                timer.cancel()
                self._deadline = None
            self._stacks.append(stack)
            self.forget_thread(thread)

    def load(
        self, path: str, argv: Sequence[str | bytes] | None = None, env: dict[str, str] | None = None
    ) -> None:
        """Load an ELF program; :meth:`run` runs it.

        :param argv: its arguments with its name; None is its path alone.
        :param env: its environment; None is this process's.
        """
        from trapline.guest.loader import load

        self._check()
        if self._main is not None:
            raise UsageError("a guest runs one program; make another guest")
        thread = self.new_thread()
        load(self, thread, path, [path] if argv is None else argv, env)
        self._main = thread

    def run(self, timeout: float | None = None) -> int:
        """Run the program that was loaded until it ends. The descriptors that it has not closed are closed then.

        :returns: its exit status, or minus the number of the signal that ended it.
        :raises GuestFault: an instruction could not be executed, and the guest has no handler for that.
        :raises TimeoutError: it still runs after *timeout* seconds; it has been stopped.
        """
        self._check()
        thread = self._main
        if thread is None or thread.tid:
            raise UsageError("there is no program to run; load() one")
        timer = self._limited(timeout)
        try:
            with interrupts.watching(thread):
                self._here(lambda: self._run_main(thread))
            if self._failure is not None:
                raise self._failure
            status = self._run_command()
        finally:
            if timer is not None:
                timer.cancel()
            self.forget_thread(thread)
            self._native.close_descriptors()
        assert status is not None
        return status

    def _run_command(self) -> int | None:
        """Run what the guest has executed, if anything, and return the status."""
        command, self._command = self._command, None
        if command is not None:
            from trapline.session import Session

            path, words, env = command
            with Session(words, executable=path, env=env, **self._for_commands) as session:
                self._status = session.wait()
        return self._status

    def _run_main(self, thread: Thread) -> int:
        try:
            self.drive(thread)
            self.end(0)
        except End:
            self.personality.ended(thread)
        except GuestKilled as killed:
            self.end(-killed.signal)
        except BaseException:
            self.end(None)
            self._wait_for_others()
            raise
        self._wait_for_others()
        return 0

    # -- what it did ---------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> dict[str, int]:
        """How often each call reached hooks, by name."""
        listener = self._tables.listener
        if self.personality.numbers is None or listener is None:
            return self._tables.counts()
        found: dict[str, int] = {}
        for (_, nr), count in listener.call_counts().items():
            name = self.personality.name(nr, "x86_64")
            found[name] = found.get(name, 0) + count
        return found

    @property
    def rules(self) -> dict[str, int]:
        """How often each rule acted, by its text."""
        return self._tables.rule_counts()

    @property
    def sites(self) -> dict[str, Any]:
        """How many sites are rewritten, and why others were left alone."""
        if self._closed:
            return self._sites
        if self._rewriter is None:
            return {"patched": 0, "left": {}}
        return {"patched": self._rewriter.patched, "left": dict(self._rewriter.refused)}

    @property
    def passed(self) -> int:
        """How many calls went straight to the kernel, those of rewritten sites apart."""
        return self._passed if self._closed else self._native.passed

    def close(self) -> None:
        """End its threads and give back its memory."""
        if self._closed:
            return
        self.end(None)
        if self._host is None or not self._host.is_left:
            with self._ended:
                self._ended.wait_for(lambda: not self._running, 5)
        self._passed = self._native.passed
        self._sites = self.sites
        self._closed = True
        if self._host is not None:
            self._host.close(self._release)
        else:
            self._release()

    def _release(self) -> None:
        self.personality.close()
        if self._deferred is not None:
            self._deferred.close()
        self._threads.clear()
        self._main = None
        # Its tables go with it, and not when the collector comes around.
        self._rewriter = None
        del self._native
        if self._tables.listener is not None:
            self._tables.listener.close()
        if self._owns_arena:
            self.arena.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
