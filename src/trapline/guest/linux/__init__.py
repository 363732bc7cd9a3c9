"""The ``linux`` personality: what belongs to a process is virtual, all else is the kernel's."""

from __future__ import annotations

from trapline import abi
from trapline.errors import UsageError
from trapline.guest.linux.memory import Memory
from trapline.guest.linux.threads import Threads
from trapline.guest.linux.timers import Timers
from trapline.guest.personality import Convention

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LINUX", "Linux"]

LINUX = Convention("rax", ("rdi", "rsi", "rdx", "r10", "r8", "r9"), "rax")


#: clone, clone3, rt_sigreturn, sigaltstack, arch_prctl.
_TRAPPED = (56, 435, 15, 131, 158)


class Linux(Memory, Threads, Timers):
    """Linux.

    Descriptors, working directory, umask and process id are those of this process.

    :param own_files: the guest runs on threads that have a table of descriptors and a working directory of their own:
        what it closes, opens and changes there is not seen by this process.
    :param execve: what becomes of ``execve``: with ``"refuse"`` it fails with EPERM; with ``"run"`` the guest ends, the
        command is run by :func:`trapline.run` under the same hooks and rules, and its status is the guest's.
    :param on_refused: called with the name of a call that was refused because it needs another process: ``fork``
        and its kin, which fail with ENOSYS, and ``execve``.
    :raises UsageError: *execve* is neither, or a command would have to be run with the guest's own files.
    """

    def __init__(
        self,
        *,
        own_files: bool = False,
        execve: str = "refuse",
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        if execve not in ("refuse", "run"):
            raise UsageError(f"execve={execve!r} is neither 'refuse' nor 'run'")
        if execve == "run" and own_files:
            raise UsageError(
                "a command cannot be given the files that only its guest has: leave out own_files or execve='run'"
            )
        self.own_files = own_files
        self.execve = execve
        self.on_refused = on_refused

    def trapped(self) -> tuple[int, ...] | None:
        """Return the calls that are about registers; what a derived class does may be."""
        added = {
            name
            for name, method in self.methods().items()
            if not method.__module__.startswith("trapline.guest.")
        }
        if "*" in added:
            return None
        return (*_TRAPPED, *[abi.number(name, "x86_64") for name in sorted(added)])
