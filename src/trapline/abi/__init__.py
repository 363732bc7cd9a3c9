"""The kernel's ABI as data: numbers, names and signatures of system calls.

Importing this costs well under a millisecond: each architecture's tables are modules of their own, loaded
when first asked for. ``abi.errno``, ``abi.signals``, ``abi.flags`` and ``abi.structs`` hold the rest.
"""

from __future__ import annotations

import os
import sys

from trapline.errors import TraplineError, UnknownSyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from trapline.abi.prototypes import Param, Signature

__all__ = [
    "ARCHES",
    "AUDIT_ARCH",
    "IPC",
    "SOCKETCALL",
    "X32_SYSCALL_BIT",
    "Param",
    "Signature",
    "exists",
    "name",
    "names",
    "native_arch",
    "number",
    "signature",
]

#: Architectures that have tables here.
ARCHES: tuple[str, ...] = ("x86_64", "i386", "aarch64")

#: What ``seccomp_data.arch`` holds for each (AUDIT_ARCH_X86_64 and so on; linux/audit.h).
AUDIT_ARCH: dict[str, int] = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}

#: Set in ``seccomp_data.nr`` of calls made through the x32 ABI, whose ``arch`` is that of x86_64.
X32_SYSCALL_BIT = 0x40000000

#: i386 ``socketcall``: its first argument, and the call that it stands for (linux/net.h).
SOCKETCALL: dict[int, str] = {
    1: "socket",
    2: "bind",
    3: "connect",
    4: "listen",
    5: "accept",
    6: "getsockname",
    7: "getpeername",
    8: "socketpair",
    9: "send",
    10: "recv",
    11: "sendto",
    12: "recvfrom",
    13: "shutdown",
    14: "setsockopt",
    15: "getsockopt",
    16: "sendmsg",
    17: "recvmsg",
    18: "accept4",
    19: "recvmmsg",
    20: "sendmmsg",
}

#: i386 ``ipc``: the low 16 bits of its first argument, and the call that it stands for (linux/ipc.h).
IPC: dict[int, str] = {
    1: "semop",
    2: "semget",
    3: "semctl",
    4: "semtimedop",
    11: "msgsnd",
    12: "msgrcv",
    13: "msgget",
    14: "msgctl",
    21: "shmat",
    22: "shmdt",
    23: "shmget",
    24: "shmctl",
}

_MACHINES = {
    "x86_64": "x86_64",
    "i386": "i386",
    "i486": "i386",
    "i586": "i386",
    "i686": "i386",
    "aarch64": "aarch64",
}
_native: list[str] = []  # asked for once: uname costs more than a table lookup
_by_name: dict[str, dict[str, int]] = {}
_by_number: dict[str, dict[int, str]] = {}
_signatures: dict[tuple[str, str], Signature] = {}


def __getattr__(attribute: str) -> object:
    """Load ``Param`` and ``Signature`` when they are first asked for."""
    if attribute in ("Param", "Signature"):
        from trapline.abi import prototypes as module

        return getattr(module, attribute)
    raise AttributeError(f"module 'trapline.abi' has no attribute {attribute!r}")


def native_arch() -> str:
    """Return this process's own architecture, as :data:`ARCHES` spells it.

    :raises TraplineError: there are no tables for this machine.
    """
    if not _native:
        machine = os.uname().machine
        arch = "i386" if machine == "x86_64" and sys.maxsize < 1 << 32 else _MACHINES.get(machine)
        if arch is None:
            raise TraplineError(
                f"no system call tables for machine {machine!r}, only for {', '.join(ARCHES)}"
            )
        _native.append(arch)
    return _native[0]


def _numbers(arch: str | None) -> dict[str, int]:
    arch = arch or native_arch()
    return _by_name.get(arch) or _by_name.setdefault(arch, _load_numbers(arch))


def _load_numbers(arch: str) -> dict[str, int]:
    if arch == "x86_64":
        from trapline.abi.numbers_x86_64 import NUMBERS
    elif arch == "i386":
        from trapline.abi.numbers_i386 import NUMBERS
    elif arch == "aarch64":
        from trapline.abi.numbers_aarch64 import NUMBERS
    else:
        raise _unknown_arch(arch)
    return NUMBERS


def _encoded(arch: str) -> dict[str, str]:
    if arch == "x86_64":
        from trapline.abi.signatures_x86_64 import SIGNATURES
    elif arch == "i386":
        from trapline.abi.signatures_i386 import SIGNATURES
    elif arch == "aarch64":
        from trapline.abi.signatures_aarch64 import SIGNATURES
    else:
        raise _unknown_arch(arch)
    return SIGNATURES


def _unknown_arch(arch: str) -> TraplineError:
    return TraplineError(f"unknown architecture {arch!r}: use one of {', '.join(ARCHES)}")


def _unnamed(name: str) -> int | None:
    """Read ``syscall_<nr>``; None when *name* is anything else."""
    digits = name.removeprefix("syscall_")
    if digits != name and digits.isascii() and digits.removeprefix("-").isdigit():
        return int(digits)
    return None


def number(name: str, arch: str | None = None) -> int:
    """Return the number of a system call.

    :param name: the kernel's name, or ``"syscall_<nr>"``, which is taken at its word.
    :param arch: one of :data:`ARCHES`; the native one when None.
    :raises UnknownSyscallError: *arch* has no call of that name; the message has the nearest names.
    """
    numbers = _numbers(arch)
    found = numbers.get(name)
    if found is None:
        found = _unnamed(name)
    if found is None:
        raise _unknown(name, arch or native_arch())
    return found


def _unknown(name: str, arch: str) -> UnknownSyscallError:
    import difflib

    elsewhere = [other for other in ARCHES if other != arch and name in _numbers(other)]
    if elsewhere:
        return UnknownSyscallError(
            name, f"system call {name!r} does not exist on {arch}, only on {', '.join(elsewhere)}"
        )
    near = difflib.get_close_matches(name, _numbers(arch), n=3)
    advice = f"; did you mean {' or '.join(near)}?" if near else "; syscall_<number> names any call"
    return UnknownSyscallError(name, f"unknown system call {name!r} on {arch}{advice}")


def name(nr: int, arch: str | None = None) -> str:
    """Return the name of system call *nr*, or ``"syscall_<nr>"`` when the table does not have it."""
    return _names_by_number(arch or native_arch()).get(nr) or f"syscall_{nr}"


def _names_by_number(arch: str) -> dict[int, str]:
    table = _by_number.get(arch)
    if table is None:
        table = _by_number[arch] = {value: key for key, value in _numbers(arch).items()}
    return table


def names(arch: str | None = None) -> Iterable[str]:
    """Return the names of every system call of *arch*, by number."""
    return _numbers(arch).keys()


def exists(name: str, arch: str | None = None) -> bool:
    """Whether *arch* has a system call of that name."""
    return name in _numbers(arch)


def signature(name: str, arch: str | None = None) -> Signature:
    """Return what is known of a system call's parameters and result.

    A call without a known prototype (``syscall_<nr>``, or one that the kernel only reserves a number for)
    gets a signature without parameters whose ``known`` is False. Calls that i386 has only behind
    ``socketcall`` and ``ipc`` (``send``, ``semop``) have signatures but no numbers.

    :raises UnknownSyscallError: *arch* has no call of that name.
    """
    if arch is None:
        arch = native_arch()
    found = _signatures.get((arch, name))
    if found is None:
        from trapline.abi.prototypes import parse

        encoded = _encoded(arch)
        proper = name if name in encoded else _names_by_number(arch).get(number(name, arch), name)
        found = _signatures[arch, name] = parse(name, arch, encoded.get(proper))
    return found
