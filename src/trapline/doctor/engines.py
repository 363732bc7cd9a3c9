"""Which features an engine cannot do without, and which it can."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from trapline.features import Feature

DEFAULT_ENGINE = "notify"


class Engine(NamedTuple):
    """What one engine asks of a machine.

    :ivar needs: groups of features; one of each group has to work.
    :ivar wants: features that make it faster or more faithful.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    wants: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """Whether an engine works here.

    :ivar verdict: ``"works"``, ``"limited"`` (something wanted is lacking), ``"unavailable"``, or
        ``"unknown"`` when what it needs could not be tried.
    :ivar missing: the features that are needed and do not work, or were not tried.
    :ivar lacking: the features that are wanted and do not work.
    """

    name: str
    verdict: str
    missing: tuple[str, ...]
    lacking: tuple[str, ...]


_SUD = ("sud_exclusive", "sud_inclusive")
_MEMORY = ("process_vm", "proc_mem")
# The agent enters a program by ptrace at its execve, as code in a memfd; hooks read the program's memory.
_AGENT = (("ptrace_seize",), ("memfd_exec",), _MEMORY, ("procfs",))
_HOOKS = ("pidfd_open", "pidfd_getfd", "process_vm", "proc_mem", "memfd_sealing", "openat2")

ENGINES = (
    Engine(
        "notify",
        (
            ("seccomp_filter",),
            ("seccomp_user_notif",),
            ("notify_listener_free",),
            ("notify_listener",),
            ("notify_continue",),
            _MEMORY,
            ("procfs",),
        ),
        ("notify_wait_killable", "notify_sync_wake_up", "notify_addfd", "notify_addfd_send", *_HOOKS),
    ),
    Engine(
        "rewrite",
        (("sud_exclusive",), ("membarrier_sync_core",), ("code_patching",), *_AGENT),
        ("thread_segment", *_HOOKS),
    ),
    Engine("sud", (("sud_exclusive",), *_AGENT), _HOOKS),
    Engine("trap", (("seccomp_filter",), ("seccomp_trap",), *_AGENT), _HOOKS),
    Engine(
        "ptrace",
        (
            ("seccomp_filter",),
            ("seccomp_trace",),
            ("ptrace_seize",),
            ("ptrace_seccomp_stop",),
            ("ptrace_get_syscall_info",),
            _MEMORY,
            ("procfs",),
        ),
        _HOOKS,
    ),
    Engine("guest", ((*_SUD, "seccomp_trap", "notify_listener"),), ("arena", "sud_inclusive", "fsgsbase")),
)


def judge(engine: Engine, features: Mapping[str, Feature]) -> Verdict:
    """Decide whether *engine* works with *features*; one without a probe on this machine counts as fine."""

    def works(name: str) -> bool:
        return name not in features or bool(features[name])

    unmet = [name for group in engine.needs if not any(map(works, group)) for name in group]
    refused = [name for name in unmet if features[name].works is False]
    lacking = [name for name in engine.wants if name in features and features[name].works is False]
    if refused:
        verdict = "unavailable"
    elif unmet:
        verdict = "unknown"
    else:
        verdict = "limited" if lacking else "works"
    # What could not be tried is only interesting when nothing else is in the way.
    missing = refused or unmet
    return Verdict(engine.name, verdict, tuple(missing), tuple(n for n in lacking if n not in missing))
