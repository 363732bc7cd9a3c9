"""The processes of a program: who forked whom, what they run, and how to end them all."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Process", "ProcessTree"]


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state, parent and start time (clock ticks since boot) of a process; None when it is gone."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    # The name in parentheses may hold anything, so count from behind it.
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[1]), int(fields[19])


class Process:
    """A process of the program, as ``call.process`` gives it. What may change is read anew at each access.

    :ivar pid: its process id, as this process sees it.
    :ivar started: when it started, in clock ticks since boot: with *pid* it names one process for ever.
    """

    __slots__ = ("_parent", "_ppid", "pid", "started")

    def __init__(self, pid: int, ppid: int, started: int, parent: Process | None) -> None:
        self.pid = pid
        self.started = started
        self._ppid = ppid
        self._parent = parent

    @property
    def parent(self) -> Process | None:
        """The process that forked it, when that belongs to the program and was there when this one was first seen."""
        return self._parent

    @property
    def ppid(self) -> int:
        """Its parent now (an orphan has a new one); the last known one after its end."""
        found = _stat(self.pid)
        return found[1] if found is not None and found[2] == self.started else self._ppid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        found = _stat(self.pid)
        return found is not None and found[2] == self.started and found[0] not in "ZX"

    @property
    def comm(self) -> str:
        """Its name of up to 15 bytes; empty after its end."""
        return os.fsdecode((_read(f"/proc/{self.pid}/comm") or b"").rstrip(b"\n"))

    @property
    def cmdline(self) -> tuple[str, ...]:
        """Its arguments; empty after its end."""
        data = (_read(f"/proc/{self.pid}/cmdline") or b"").rstrip(b"\0")
        return tuple([os.fsdecode(word) for word in data.split(b"\0")]) if data else ()

    def _link(self, name: str) -> str | None:
        try:
            return os.readlink(f"/proc/{self.pid}/{name}")
        except OSError:
            return None

    @property
    def exe(self) -> str | None:
        """The file that it executes; None after its end or where it may not be read."""
        return self._link("exe")

    @property
    def cwd(self) -> str | None:
        """Its working directory; None after its end or where it may not be read."""
        return self._link("cwd")

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.comm or 'ended'}>"


class ProcessTree:
    """The processes of one program, from the moment that something asked for them.

    :ivar root: the process id of the command itself.
    """

    __slots__ = ("_known", "root")

    def __init__(self, root: int) -> None:
        self.root = root
        self._known: dict[int, Process] = {}

    def process(self, pid: int) -> Process | None:
        """Return the process of that id, or None when it is gone."""
        found = _stat(pid)
        if found is None:
            return None
        _, ppid, started = found
        known = self._known.get(pid)
        if known is None or known.started != started:
            parent = self.process(ppid) if pid != self.root and ppid > 1 and ppid != os.getpid() else None
            known = self._known[pid] = Process(pid, ppid, started, parent)
        return known

    def seen(self) -> Iterable[Process]:
        """Return the processes asked for so far, the ended ones too."""
        return list(self._known.values())

    def living(self) -> list[int]:
        """Return the ids of the command and of all that descend from it now."""
        children: dict[int, list[int]] = {}
        alive: set[int] = set()
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            found = _stat(int(entry))
            if found is not None and found[0] not in "ZX":
                alive.add(int(entry))
            if found is not None:
                children.setdefault(found[1], []).append(int(entry))
        todo = [self.root, *[known.pid for known in self._known.values() if known.is_alive]]
        reached: dict[int, None] = {}
        while todo:
            pid = todo.pop()
            if pid not in reached:
                reached[pid] = None
                todo.extend(children.get(pid, ()))
        return [pid for pid in reached if pid in alive]

    def kill(self) -> None:
        """End every process of the program, with SIGKILL.

        All are stopped before the first is killed: what a process forks while the others die would be lost
        sight of as an orphan.
        """
        import signal

        stopped: set[int] = set()
        while fresh := [pid for pid in self.living() if pid not in stopped]:
            for pid in fresh:
                _send(pid, signal.SIGSTOP)
                stopped.add(pid)
        for pid in stopped:
            _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        # A set-user-ID program of somebody else: not ours to end.
        return
