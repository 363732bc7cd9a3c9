"""A process that ran before an engine took hold of it."""

from __future__ import annotations

import os

from trapline.engines.base import Program
from trapline.errors import EngineStartError

__all__ = ["AttachedProgram", "refusal", "status_field", "yama"]

_EPERM, _ESRCH, _EACCES = 1, 3, 13


def status_field(pid: int, name: str) -> str | None:
    """Return a field of ``/proc/PID/status``, or None: it does not have it, or there is no such process."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == name:
                    return value.strip()
    except OSError:
        pass
    return None


def yama() -> str:
    """Return what Yama, if it is there, makes of ptrace: a number as text, or nothing."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            return file.read().strip()
    except OSError:
        return ""


def _who(pid: int) -> str:
    return f"process {pid} ({status_field(pid, 'Name') or 'which has ended'})"


def _why_not(pid: int) -> str:
    """Return why the kernel does not let us trace a process that is there."""
    tracer = int(status_field(pid, "TracerPid") or 0)
    if tracer:
        return f"because {_who(tracer)} traces it already"
    if (status_field(pid, "State") or "Z")[0] in "ZX":
        return "because it has ended"
    if status_field(pid, "VmSize") is None:
        return "because it is a thread of the kernel, and so not yours to trace"
    owner = (status_field(pid, "Uid") or "").split()
    if owner and owner[0] != str(os.geteuid()):
        return f"because it is not yours to trace: it runs as user {owner[0]}. Run trapline as that user, or as root"
    why = "because it is not yours to trace: it has privileges, or has asked not to be looked at"
    if yama() not in ("", "0"):
        why += f"; Yama's ptrace_scope is {yama()}, which 0 or CAP_SYS_PTRACE would allow"
    return why


def refusal(engine: str, pid: int, number: int, what: str) -> EngineStartError:
    """Return the error of an engine that cannot take hold of a process.

    :param number: an errno.
    :param what: has failed with it.
    """
    from trapline.abi.errno import Errno

    if what.endswith("failed") and number in set(Errno):
        what += f" with {Errno(number).name}"
    if number == _ESRCH:
        what += ": it is gone"
    elif number in (_EPERM, _EACCES):
        what += f", {_why_not(pid)}"
    return EngineStartError(number, f"engine {engine!r} cannot attach to process {pid}: {what}")


class AttachedProgram(Program):
    """The process, and whoever waits for its end.

    :param pid: its process id.
    :raises OSError: it is gone.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    @property
    def no_new_privs(self) -> bool:
        """It runs with no_new_privs."""
        return status_field(self.pid, "NoNewPrivs") == "1"

    @property
    def exec_error(self) -> int:
        """It was executed long ago."""
        return 0

    def reap(self) -> int | None:
        """Return the status of the process, which has ended; a child of this one stays its to reap."""
        # Whoever it is here that has started it.
        try:
            info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return self.status_elsewhere()
        assert info is not None
        return info.si_status << 8 if info.si_code == os.CLD_EXITED else info.si_status

    def close(self) -> None:
        """Let go of it."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = -1
