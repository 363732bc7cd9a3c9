"""Which calls an engine has to report, for whom, and what is called for them.

The same for all engines: only the verdict that their filters give for such calls differs.
"""

from __future__ import annotations

from trapline import _native, abi
from trapline.bpf import action
from trapline.bpf.policy import Rule as FilterRule
from trapline.bpf.policy import compile_policy, native_arches, rules_for
from trapline.call import Call, path_places
from trapline.errors import UsageError
from trapline.rules import Hit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from trapline.bpf.program import Program
    from trapline.engines.base import Plan
    from trapline.engines.chains import RuleChains
    from trapline.hooks import Hook
    from trapline.process import ProcessTree

    #: What is called for a call, by architecture and number (None: every one).
    Table = dict[tuple[str, int | None], list[Hook]]

__all__ = ["EXEC_CALLS", "CallTables", "present"]

EXEC_CALLS = ("execve", "execveat")

_EPERM = 1
_IO_URING_SETUP = 425


def present(names: Iterable[str]) -> list[str]:
    """Return the names that exist for programs on this machine; others are calls that cannot happen."""
    arches = native_arches()
    return [
        name
        for name in names
        if name == "*" or name.startswith("syscall_") or any(abi.exists(name, arch) for arch in arches)
    ]


class CallTables:
    """The hooks and rules of one program.

    :param plan: what the session wants.
    :param verdict: ``SECCOMP_RET_*`` for calls that hooks or rules have to be asked about.
    :param also: names of further calls that the engine itself has to meet.
    :param in_agent: an agent in the program applies rules.
    :ivar program: the filter.
    :ivar listener: what answers, once :meth:`listen` has made it.
    :ivar chains: the rules by call, or None.
    """

    def __init__(self, plan: Plan, verdict: int, also: Iterable[str] = (), *, in_agent: bool = False) -> None:
        self.plan = plan
        self.listener: _native.Listener | None = None
        self._verdict = verdict
        self._hooked: Table = {}
        hook_filters = [self._filter_hook(hook) for hook in plan.hooks]
        self.chains = self._chain_rules(in_agent)
        self.program = self._compile(hook_filters, also)

    def _filter_hook(self, hook: Hook) -> list[FilterRule]:
        added = rules_for(present(hook.names), hook.when, self._verdict)
        for one in added:
            hooked = self._hooked.setdefault((one.arch, one.nr), [])
            if hook not in hooked:
                hooked.append(hook)
        return added

    def _chain_rules(self, in_agent: bool) -> RuleChains | None:
        rules = self.plan.rules
        if not rules:
            return None
        from trapline.engines.chains import RuleChains

        returned = {key for key, hooks in self._hooked.items() if any(hook.on_return for hook in hooks)}
        return RuleChains(rules, [present(rule.names) for rule in rules], returned, self._verdict, in_agent)

    def _compile(self, hook_filters: list[list[FilterRule]], also: Iterable[str]) -> Program:
        filters: list[FilterRule] = []
        if not self.plan.allow_io_uring:
            # What a ring does, nobody sees. EPERM is what kernel.io_uring_disabled says, and programs fall back.
            # By number, the same on every architecture: to look up a name loads tables, which costs a start-up.
            filters += [
                FilterRule(arch, _IO_URING_SETUP, None, action.errno(_EPERM)) for arch in native_arches()
            ]
        if self.chains:
            filters += self.chains.filters
        for added in hook_filters:
            filters += added
        names = present(also)
        if names:
            filters += rules_for(names, None, self._verdict)
        return compile_policy(filters)

    def listen(
        self,
        transport: _native.Transport,
        tree: ProcessTree,
        defer: Callable[..., None],
        call_type: type[Call] = Call,
    ) -> _native.Listener:
        """Return a listener over a transport that has all hooks and rules, and is to be started yet."""
        call_type = type("Call", (call_type,), {"__slots__": (), "_tree": tree, "__doc__": Call.__doc__})
        native = self.listener = _native.Listener(
            transport, self.plan.workers, call_type, self.plan.on_error, defer, path_places
        )
        if self.chains:
            self.chains.add_to(native)
        everywhere = {arch: hooks for (arch, nr), hooks in self._hooked.items() if nr is None}
        ruled = set(self.chains.supervised()) if self.chains else set()
        for (arch, nr), hooks in self._hooked.items():
            ordered = [hook for hook in self.plan.hooks if hook in hooks or hook in everywhere.get(arch, ())]
            # With one reason to be told of a call, the filter has tested its condition already.
            shared = len(ordered) > 1 or any(
                key == (arch, nr) or (key[0] == arch and None in (nr, key[1])) for key in ruled
            )
            for returned in (False, True):
                mine = [hook for hook in ordered if hook.on_return is returned]
                if mine:
                    functions = tuple([_for_call(hook, arch, nr, shared) for hook in mine])
                    is_async = any(hook.is_async for hook in mine)
                    native.set_hooks(
                        abi.AUDIT_ARCH[arch], -1 if nr is None else nr, functions, is_async, returned
                    )
        return native

    @property
    def sees_all(self) -> bool:
        """Some hook or rule is about every call there is."""
        return any(nr is None for _, nr in self._keys())

    def numbers(self) -> list[tuple[str, int]]:
        """Return architecture and number of each call that some hook or rule is about."""
        return [(arch, nr) for arch, nr in self._keys() if nr is not None]

    def _keys(self) -> list[tuple[str, int | None]]:
        return [*self._hooked, *(self.chains.calls() if self.chains else ())]

    def doom(self) -> None:
        """Kill from now on whatever makes a hooked call: the program is being ended."""
        if self.listener is None:
            return
        for (arch, nr), hooks in self._hooked.items():
            for returned in {hook.on_return for hook in hooks}:
                self.listener.set_hooks(
                    abi.AUDIT_ARCH[arch], -1 if nr is None else nr, (_native.Call.kill,), False, returned
                )

    def counts(self) -> dict[str, int]:
        """Return how often each call reached the hooks, by name."""
        found: dict[str, int] = {}
        arches = {value: name for name, value in abi.AUDIT_ARCH.items()}
        for (arch, nr), count in self.listener.call_counts().items() if self.listener else ():
            name = abi.name(nr, arches[arch])
            found[name] = found.get(name, 0) + count
        return found

    def rule_counts(self) -> dict[str, int]:
        """Return how often each rule acted, by its text; constants are not counted."""
        return self.chains.counts(self.listener) if self.chains and self.listener else {}

    def hits(self) -> tuple[list[Hit], int]:
        """Return where rules have acted that log it, as far as that was kept, and how often they have."""
        if self.listener is None or self.chains is None:
            return [], 0
        arches = {value: name for name, value in abi.AUDIT_ARCH.items()}
        count, found = self.listener.rule_hits()
        return [
            Hit(self.chains.rules[rule].text, abi.name(nr, arches[arch]), pid, tid, number)
            for rule, pid, tid, arch, nr, number in found
        ], count


def _for_call(hook: Hook, arch: str, nr: int | None, shared: bool) -> Callable[..., Any]:
    """Return what to call for a hook: the function itself, or one that looks whether the call is meant."""
    function, names, when = hook.function, hook.names, hook.when
    outer = None if nr is None else abi.name(nr, arch)
    multiplexed = (
        arch == "i386" and outer in ("socketcall", "ipc") and outer not in names and "*" not in names
    )
    if not multiplexed and (when is None or not shared):
        return function

    def is_meant(call: Call) -> bool:
        if multiplexed and call.name not in names:
            return False
        try:
            return when is None or when.matches(call.name, call.arch, call.args._registers, call.ip)
        except UsageError:
            return False  # of "*", what has no such parameter is not meant

    if hook.is_async:

        async def inner_async(call: Call) -> Any:
            return await function(call) if is_meant(call) else None

        return inner_async

    def inner(call: Call) -> Any:
        return function(call) if is_meant(call) else None

    return inner
