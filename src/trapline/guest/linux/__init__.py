"""The ``linux`` personality: what belongs to a process is virtual, all else is the kernel's."""

from __future__ import annotations

from trapline import abi
from trapline.guest.linux.memory import Memory
from trapline.guest.linux.process import Process
from trapline.guest.linux.signals import Signals
from trapline.guest.linux.threads import Threads
from trapline.guest.personality import Convention

__all__ = ["LINUX", "Linux"]

LINUX = Convention("rax", ("rdi", "rsi", "rdx", "r10", "r8", "r9"), "rax")


#: clone, clone3, rt_sigreturn, sigaltstack, arch_prctl.
_TRAPPED = (56, 435, 15, 131, 158)


class Linux(Memory, Threads, Signals, Process):
    """Linux.

    Descriptors, working directory, umask and process id are those of this process.

    :param own_files: the guest runs on threads that have a table of descriptors and a working directory of their own:
        what it closes, opens and changes there is not seen by this process.
    """

    def __init__(self, *, own_files: bool = False) -> None:
        super().__init__()
        self.own_files = own_files

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
