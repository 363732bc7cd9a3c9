"""What every engine can say about itself, and what a session asks of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trapline.hooks import Hook
    from trapline.rules import Rule

__all__ = ["CAPABILITIES", "ENGINES", "Plan"]

#: What a hook may need beyond deciding before the call, and how to say it in an error.
CAPABILITIES = {
    "result": "run a hook on return (it never sees a result)",
    "change_args": "change arguments",
    "attach": "attach to a running process",
}

#: Capabilities by engine, the cheapest first. Those that this version can start are in STARTABLE.
ENGINES: dict[str, frozenset[str]] = {
    "notify": frozenset(),
    "rewrite": frozenset({"result", "change_args", "attach"}),
    "sud": frozenset({"result", "change_args", "attach"}),
    "trap": frozenset({"result", "change_args"}),
    "ptrace": frozenset({"result", "change_args", "attach"}),
}
STARTABLE = ("notify",)

#: What the vDSO answers without a system call.
VDSO_CALLS = frozenset({"clock_gettime", "clock_gettime64", "clock_getres", "gettimeofday", "time", "getcpu"})


class Plan:
    """What a session wants of an engine.

    :ivar hooks: in order of registration.
    :ivar rules: in order; they act before hooks.
    :ivar hide_vdso: take the vDSO from new programs, so that they ask the kernel for the time.
    :ivar allow_io_uring: let ``io_uring_setup`` through, whose calls nobody sees.
    :ivar workers: most threads that run hooks at one time.
    :ivar on_error: ``(call, exception)`` of a hook that raised; returns an errno to fail with, 0 to let the kernel
        perform the call, or -1 to leave it waiting (its program is being killed).
    :ivar on_unhidden: ``(errno)``: a program has kept its vDSO although *hide_vdso* is set.
    """

    __slots__ = ("allow_io_uring", "hide_vdso", "hooks", "on_error", "on_unhidden", "rules", "workers")

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
    ) -> None:
        self.hooks = tuple(hooks)
        self.rules = tuple(rules)
        self.allow_io_uring = allow_io_uring
        self.workers = workers
        if hide_vdso is None:
            named = [hook.names for hook in self.hooks] + [rule.names for rule in self.rules]
            hide_vdso = any(not VDSO_CALLS.isdisjoint(names) for names in named)
        self.hide_vdso = hide_vdso
        self.on_error = on_error
        self.on_unhidden = on_unhidden

    def needs(self) -> dict[str, str]:
        """Return the capabilities that are needed, each with what needs it."""
        found: dict[str, str] = {}
        for hook in self.hooks:
            if hook.on_return:
                found.setdefault("result", f"hook {hook.name!r}")
            if hook.changes_args:
                found.setdefault("change_args", f"hook {hook.name!r}")
        return found
