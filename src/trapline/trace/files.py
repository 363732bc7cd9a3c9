"""What descriptors stand for, as far as the calls of a program tell."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.trace.file import Event

__all__ = ["LEARNED", "Files"]

#: Calls that change what descriptors stand for, besides those that return one.
LEARNED = frozenset({"close", "close_range", "dup", "dup2", "dup3", "fcntl", "fork", "vfork", "clone", "clone3", "pipe",
                     "pipe2", "socketpair"})  # fmt: skip

_AT_FDCWD = -100
_CLONE_FILES, _CLONE_THREAD = 0x400, 0x10000
_F_DUPFD, _F_DUPFD_CLOEXEC = 0, 1030


class Files:
    """The descriptors of each process. What was open when recording began is not known."""

    def __init__(self) -> None:
        self._open: dict[int, dict[int, str]] = {}

    def of(self, pid: int) -> dict[int, str]:
        """Return the descriptors of a process that are known."""
        return self._open.setdefault(pid, {})

    def path(self, event: Event, fd: int) -> str:
        """Return what a descriptor of the call stands for, or ""."""
        if fd == event.result and event.path:
            return event.path
        return self.of(event.pid).get(fd, "")

    def learn(self, event: Event) -> None:
        """Follow what a call does to its process's descriptors."""
        result = event.result
        if result is None or event.error:
            return
        known, name = self.of(event.pid), event.name
        if name == "close":
            known.pop(_fd(event.args[0]), None)
        elif name in ("dup", "dup2", "dup3"):
            known[result] = event.path or known.get(_fd(event.args[0]), "")
        elif name == "fcntl" and event.args[1] in (_F_DUPFD, _F_DUPFD_CLOEXEC):
            known[result] = known.get(_fd(event.args[0]), "")
        elif name in ("fork", "vfork", "clone", "clone3") and result > 0:
            if result not in self._open:
                self._open[result] = dict(known)
        elif name == "close_range":
            for fd in [fd for fd in known if event.args[0] <= fd <= event.args[1]]:
                del known[fd]
        elif name in ("pipe", "pipe2", "socketpair"):
            address = event.args[0] if name != "socketpair" else event.args[3]
            try:
                data = event.read(address, 8)
            except OSError:
                return
            kind = "pipe" if name != "socketpair" else "socket"
            for at in (0, 4):
                known[int.from_bytes(data[at : at + 4], "little")] = kind
        elif event.path:
            known[result] = event.path


def _fd(register: int) -> int:
    value = register & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
