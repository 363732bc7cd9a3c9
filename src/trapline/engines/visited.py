"""A running process that the agent has entered, and leaves again."""

from __future__ import annotations

import os

from trapline.engines.attached import AttachedProgram, refusal, status_field
from trapline.errors import EngineStartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline import _native

__all__ = ["VisitedProgram"]

_ESRCH, _EPERM = 3, 1
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, 8


def _filters(pid: int) -> int:
    return int(status_field(pid, "Seccomp_filters") or status_field(pid, "Seccomp") or 0)


def _obstacle(pid: int) -> str:
    """Return what the kernel would not mind, but the program might."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            if b"/memfd:trapline" in file.read():
                return "it is under trapline already, and one agent in it is all that is possible"
    except OSError:
        return ""  # the kernel says it better
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            if file.read(5) == b"\x7fELF\x01":
                return "it is a 32-bit program, and the agent is 64-bit code. Use --engine ptrace"
    except OSError:
        pass
    if _filters(pid) > _filters(os.getpid()):
        # What they forbid nobody can know, and it may be the end of the program.
        return (
            "it has a seccomp filter of its own, which may not allow what the agent does. Use --engine ptrace"
        )
    return ""


class VisitedProgram(AttachedProgram):
    """The process, with the agent in all of its threads.

    :param engine: for messages.
    :param pid: its process id.
    :raises EngineStartError: the agent cannot be put there.
    """

    def __init__(self, engine: str, pid: int, agent: _native.Agent) -> None:
        self._agent = agent
        try:
            super().__init__(pid)
        except OSError as error:
            raise refusal(engine, pid, error.errno or 0, str(error.strerror)) from None
        try:
            why = _obstacle(pid)
            if why:
                raise EngineStartError(_EPERM, f"engine {engine!r} cannot attach to process {pid}: {why}")
            agent.attach(pid)
        except EngineStartError:
            super().close()
            raise
        except OSError as error:
            super().close()
            raise refusal(engine, pid, error.errno or 0, str(error.strerror)) from None

    def status_elsewhere(self) -> int | None:
        """Return the status of a process that is not ours to wait for, as the kernel keeps it for others."""
        import fcntl
        import struct

        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if fields[0] == b"Z":
                return int(fields[-1])
        except (OSError, IndexError):
            pass
        info = struct.Struct("=2Q12i")
        try:
            told = fcntl.ioctl(self.pidfd, _PIDFD_GET_INFO, info.pack(_PIDFD_INFO_EXIT, *[0] * 13))
        except OSError:
            return None
        mask, *_, status = info.unpack(told)
        return status if mask & _PIDFD_INFO_EXIT else None

    def close(self) -> None:
        """Take the agent out of it, and out of all that it has started."""
        if self.pidfd >= 0:
            left = self._agent.detach()
            if left:
                text = f"trapline: {left} processes keep their agent, as their threads cannot be stopped; they go on\n"
                os.write(2, text.encode())
        super().close()
