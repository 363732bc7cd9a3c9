"""Sets of system calls as strace's users write them: ``%file``, ``/^get.*id$``, ``!read,write``, ``all``."""

from __future__ import annotations

from trapline import abi
from trapline.errors import UnknownSyscallError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CLASSES", "EVERY", "select"]

#: What :func:`select` returns for all calls there are, also those that no table has.
EVERY = ("*",)

_NETWORK = """accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
 recvmmsg_time64 recvmsg send sendfile sendfile64 sendmmsg sendmsg sendto setsockopt shutdown socket socketcall
 socketpair getpmsg putpmsg"""
_PROCESS = """clone clone3 execve execveat exit exit_group fork kill pidfd_open pidfd_send_signal rt_sigqueueinfo
 rt_tgsigqueueinfo tgkill tkill unshare vfork wait4 waitid waitpid arch_prctl"""
_MEMORY = """brk break get_mempolicy io_destroy io_setup madvise mbind migrate_pages mincore mlock mlock2 mlockall mmap
 mmap2 move_pages mprotect mremap msync munlock munlockall munmap pkey_mprotect process_madvise process_mrelease
 remap_file_pages set_mempolicy set_mempolicy_home_node shmat shmdt map_shadow_stack mseal"""
_SIGNAL = """kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
 rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sgetmask sigaction sigaltstack signal signalfd
 signalfd4 sigpending sigprocmask sigreturn sigsuspend ssetmask tgkill tkill"""
_IPC = "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget"
_CLOCK = """adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
 clock_settime clock_settime64 gettimeofday settimeofday time stime"""
_CREDS = """capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
 getresgid32 getresuid getresuid32 getuid getuid32 prctl setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid
 setuid32"""
_PURE = "getegid getegid32 geteuid geteuid32 getgid getgid32 getpgrp getpid getppid gettid getuid getuid32"
_STAT = ("stat", "stat64", "oldstat")
_LSTAT = ("lstat", "lstat64", "oldlstat")
_FSTAT = ("fstat", "fstat64", "oldfstat", "newfstatat", "fstatat64")
_STATFS, _FSTATFS = ("statfs", "statfs64"), ("fstatfs", "fstatfs64")


def _takes_path(name: str, arch: str) -> bool:
    return bool(abi.signature(name, arch).paths)


def _has_descriptor(name: str, arch: str) -> bool:
    signature = abi.signature(name, arch)
    return signature.returns == "fd" or any(param.kind in ("fd", "fds") for param in signature.params)


def _listed(names: str | Sequence[str]) -> Callable[[str, str], bool]:
    listed = frozenset(names.split() if isinstance(names, str) else names)
    return lambda name, arch: name in listed


#: What a class has in it: ``(name, arch) -> bool``. *file* and *desc* follow from the calls' parameters.
CLASSES: dict[str, Callable[[str, str], bool]] = {
    "file": _takes_path,
    "desc": _has_descriptor,
    "network": _listed(_NETWORK),
    "net": _listed(_NETWORK),
    "process": _listed(_PROCESS),
    "memory": _listed(_MEMORY),
    "signal": _listed(_SIGNAL),
    "ipc": _listed(_IPC),
    "clock": _listed(_CLOCK),
    "creds": _listed(_CREDS),
    "pure": _listed(_PURE),
    "stat": _listed(_STAT),
    "lstat": _listed(_LSTAT),
    "fstat": _listed(_FSTAT),
    "%stat": _listed((*_STAT, *_LSTAT, *_FSTAT, "statx")),
    "statfs": _listed(_STATFS),
    "fstatfs": _listed(_FSTATFS),
    "%statfs": _listed((*_STATFS, *_FSTATFS, "ustat")),
}
#: Those that strace also knows without the percent sign.
_BARE = frozenset({"desc", "file", "memory", "process", "signal", "ipc", "network", "net"})


def _all() -> dict[str, str]:
    """Return the names of all calls that programs here can make, each with an architecture that has it."""
    native = abi.native_arch()
    found = dict.fromkeys(abi.names("i386"), "i386") if native == "x86_64" else {}
    return found | dict.fromkeys(abi.names(native), native)


def _matching(pattern: str) -> list[str]:
    import re

    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"/{pattern} is no regular expression: {error}") from None
    found = [name for name in _all() if compiled.search(name)]
    if not found:
        raise UsageError(f"no system call matches /{pattern}")
    return found


def _class(name: str) -> list[str]:
    is_in = CLASSES.get(name)
    if is_in is None:
        raise UsageError(f"unknown class of system calls %{name}; there are %{', %'.join(CLASSES)}")
    return [call for call, arch in _all().items() if is_in(call, arch)]


def _members(word: str) -> list[str]:
    if word[:1] == "/":
        return _matching(word[1:])
    if word[:1] == "%":
        return _class(word[1:])
    if word in _BARE:
        return _class(word)
    if word == "all":
        return list(EVERY)
    if word == "none":
        return []
    name, at, personality = word.partition("@")
    if at and personality != "64":
        raise UsageError(
            f"{word!r}: calls by another convention than the native one cannot be told apart here"
        )
    if name.isascii() and name.isdigit():
        numbered = abi.name(int(name))
        if numbered.startswith("syscall_"):
            raise UsageError(
                f"there is no system call {name}; write syscall_{name} to mean that number all the same"
            )
        return [numbered]
    if name not in _all():
        abi.number(name)  # raises what says so, with near names
    return [name]


def select(text: str) -> tuple[str, ...]:
    """Return the calls that a set names, or :data:`EVERY`.

    A set is names, numbers, ``%class``, ``/regex``, ``all`` or ``none`` with commas between; ``?`` before one of them
    lets it be unknown; ``!`` before the whole takes all others.

    :raises UsageError: part of it is no such thing.
    :raises UnknownSyscallError: it names a call that no table has.
    """
    inverted = text.startswith("!")
    words = text[1:] if inverted else text
    found: dict[str, None] = {}
    if not words:
        raise UsageError(f"{text!r} names no system call")
    for word in words.split(","):
        optional = word.startswith("?")
        try:
            if word.strip("?") or not found:
                found.update(dict.fromkeys(_members(word.removeprefix("?"))))
        except (UsageError, UnknownSyscallError):
            if not optional:
                raise
    if not inverted:
        return EVERY if "*" in found else tuple(found)
    if "*" in found:
        return ()
    return tuple([name for name in _all() if name not in found]) if found else EVERY
