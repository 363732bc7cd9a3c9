"""What this kernel, container and process can do, found by trying it. Nothing here knows a kernel version.

Each answer costs a short-lived child process, about a millisecond, and is remembered. Engines ask for the few
that decide between two ways of doing something; the whole list is what ``trapline doctor`` prints.
"""

from __future__ import annotations

from trapline import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Feature:
    """The outcome of one probe.

    :ivar name: the probe, such as ``"sud_inclusive"``.
    :ivar works: ``None`` when it could not be tried, so that nothing is known.
    :ivar errno: the error number that decided it, or 0.
    :ivar detail: a value, or what failed and how; may be empty.
    """

    __slots__ = ("detail", "errno", "name", "works")

    def __init__(self, name: str, works: bool | None, errno: int, detail: str) -> None:
        self.name = name
        self.works = works
        self.errno = errno
        self.detail = detail

    def __bool__(self) -> bool:
        return self.works is True

    def __repr__(self) -> str:
        return f"Feature({self.name!r}, {self.works!r}, {self.errno!r}, {self.detail!r})"


_known: dict[str, Feature] = {}


def names() -> tuple[str, ...]:
    """Return every feature that there is a probe for on this architecture, in the order of a report."""
    return _native.probe_names()


def probe(name: str, *, fresh: bool = False, timeout_ms: int = 5000) -> Feature:
    """Return whether a feature works here, trying it unless that is known already.

    :param fresh: try again, because the answer may have changed (a filter was installed, say).
    :param timeout_ms: milliseconds after which the attempt is given up and ``works`` is ``None``.
    :raises ValueError: there is no such probe.
    :raises OSError: no process could be made to try it in.
    """
    if not fresh and name in _known:
        return _known[name]
    feature = Feature(name, *_native.probe(name, timeout_ms))
    if feature.works is not None:
        _known[name] = feature
    return feature


def probe_all(*, fresh: bool = False, timeout_ms: int = 5000) -> Iterator[Feature]:
    """Yield every feature; one that no process could be made for comes with ``works`` ``None``."""
    for name in names():
        try:
            yield probe(name, fresh=fresh, timeout_ms=timeout_ms)
        except OSError as error:
            yield Feature(name, None, error.errno or 0, error.strerror or "")


def forget() -> None:
    """Forget every answer. To be called after installing a filter or dropping privileges."""
    _known.clear()


def sud_exclusive() -> bool:
    """System calls from outside one range can be dispatched to SIGSYS."""
    return probe("sud_exclusive").works is True


def sud_inclusive() -> bool:
    """System calls from inside one range, and no others, can be dispatched to SIGSYS."""
    return probe("sud_inclusive").works is True


def notify_listener() -> bool:
    """A seccomp listener can be made, and a call answered through it."""
    return probe("notify_listener").works is True


def notify_listener_free() -> bool:
    """No listener is present in this process tree yet; never answered from memory."""
    return probe("notify_listener_free", fresh=True).works is True


def notify_wait_killable() -> bool:
    """A handled signal waits for the reply to a received call instead of cancelling it."""
    return probe("notify_wait_killable").works is True


def notify_sync_wake_up() -> bool:
    """The supervisor and the caller can hand one CPU to each other."""
    return probe("notify_sync_wake_up").works is True


def notify_tsync_esrch() -> bool:
    """A listener can be made for all threads at once."""
    return probe("notify_tsync_esrch").works is True


def notify_addfd() -> bool:
    """A file can be installed in a caller that waits for its reply."""
    return probe("notify_addfd").works is True


def notify_addfd_send() -> bool:
    """A file can be installed and the call answered with its number in one step."""
    return probe("notify_addfd_send").works is True


def notify_addfd_send_retry() -> bool:
    """That one step can be repeated after a signal interrupted it. Takes 10 ms to find out."""
    return probe("notify_addfd_send_retry").works is True


def notify_receive_wakes() -> bool:
    """A blocking receive returns when the last task under the filter is gone."""
    return probe("notify_receive_wakes").works is True


def ptrace_seize() -> bool:
    """A child can be seized and stopped."""
    return probe("ptrace_seize").works is True


def ptrace_get_syscall_info() -> bool:
    """A tracee's system call can be read without naming a register."""
    return probe("ptrace_get_syscall_info").works is True


def ptrace_set_syscall_info() -> bool:
    """A tracee's system call can be changed without naming a register."""
    return probe("ptrace_set_syscall_info").works is True


def ptrace_sud_config() -> bool:
    """Syscall User Dispatch can be armed in a tracee from outside."""
    return probe("ptrace_sud_config").works is True


def pidfd_open() -> bool:
    """A process can be held, polled and signalled through a descriptor."""
    return probe("pidfd_open").works is True


def pidfd_getfd() -> bool:
    """A child's descriptor can be copied."""
    return probe("pidfd_getfd").works is True


def process_vm() -> bool:
    """A child's memory can be read and written with process_vm_readv and process_vm_writev."""
    return probe("process_vm").works is True


def proc_mem() -> bool:
    """A child's memory can be read and written through /proc/PID/mem."""
    return probe("proc_mem").works is True


def membarrier_sync_core() -> bool:
    """Other threads can be made to see code that was just changed."""
    return probe("membarrier_sync_core").works is True


def fsgsbase() -> bool:
    """Programs may set their FS and GS base themselves; false where the machine has no such thing."""
    return "fsgsbase" in names() and probe("fsgsbase").works is True


def user_namespace() -> bool:
    """The user may make a user namespace and is root inside it."""
    return probe("user_namespace").works is True
