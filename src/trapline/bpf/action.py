"""What a filter may answer: the kernel's ``SECCOMP_RET_*`` values, with their 16 bits of data.

Imported while a program starts, so it imports nothing.
"""

from __future__ import annotations

RET_KILL_PROCESS = 0x80000000
RET_KILL_THREAD = 0x00000000
RET_TRAP = 0x00030000
RET_ERRNO = 0x00050000
RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000
RET_LOG = 0x7FFC0000
RET_ALLOW = 0x7FFF0000

ACTION_MASK = 0xFFFF0000
DATA_MASK = 0x0000FFFF
#: The kernel answers with at most this errno, whatever a filter asks for.
MAX_ERRNO = 4095
ENOSYS = 38

NAMES: dict[int, str] = {
    RET_KILL_PROCESS: "KILL_PROCESS",
    RET_KILL_THREAD: "KILL_THREAD",
    RET_TRAP: "TRAP",
    RET_ERRNO: "ERRNO",
    RET_USER_NOTIF: "USER_NOTIF",
    RET_TRACE: "TRACE",
    RET_LOG: "LOG",
    RET_ALLOW: "ALLOW",
}


def errno(number: int) -> int:
    """Return the action that makes the call fail with errno *number* (0: succeed with 0).

    :param number: 0 to 4095; the kernel caps what is above.
    :raises ValueError: *number* is outside that range.
    """
    if not 0 <= number <= MAX_ERRNO:
        raise ValueError(f"errno {number} does not fit: a filter answers with 0 to {MAX_ERRNO}")
    return RET_ERRNO | number


def trace(data: int = 0) -> int:
    """Return the action that stops for a tracer, which reads *data* with PTRACE_GETEVENTMSG."""
    return RET_TRACE | (data & DATA_MASK)


def trap(data: int = 0) -> int:
    """Return the action that sends SIGSYS, with *data* as its ``si_errno``."""
    return RET_TRAP | (data & DATA_MASK)


def text(action: int) -> str:
    """Return *action* as people write it: ``ALLOW``, ``ERRNO(38)``, ``TRAP(7)``."""
    name = NAMES.get(action & ACTION_MASK)
    if name is None:
        return f"0x{action:08x}"
    data = action & DATA_MASK
    if data or name == "ERRNO":
        return f"{name}({data})"
    return name
