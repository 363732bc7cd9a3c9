"""Descriptors that a guest shares with this process: which calls are about them, and numbers out of its way."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from functools import cache

from trapline import _native, abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HIGH", "lift", "out_of_the_way", "tell"]

#: What is this process's own has numbers from here on: a shell's ``exec 3>file`` finds 3 free, as natively.
HIGH = 512

#: By enum tl_guest_descriptors in native/core/guest.h, from 1 on.
_CALLS = (
    ("close",),
    ("dup2", "dup3"),
    ("close_range",),
    ("open", "openat", "openat2", "creat", "open_by_handle_at", "dup", "socket", "accept", "accept4", "epoll_create",
     "epoll_create1", "eventfd", "eventfd2", "timerfd_create", "inotify_init", "inotify_init1", "fanotify_init",
     "memfd_create", "memfd_secret", "perf_event_open", "bpf", "pidfd_open", "pidfd_getfd", "open_tree",
     "open_tree_attr", "fsopen", "fsmount", "fspick", "mq_open", "landlock_create_ruleset"),
    ("pipe", "pipe2"),
    ("socketpair",),
    ("recvmsg",),
    ("recvmmsg",),
    ("fcntl", "fcntl64"),
    ("ioctl",),
)  # fmt: skip
#: Those whose messages have another layout in 32 bits.
_NATIVE_ALONE = frozenset({"recvmsg", "recvmmsg"})


@cache
def tell() -> tuple[int, ...]:
    """Tell the native core what which call does with descriptors, and return their numbers."""
    numbers = []
    for kind, names in enumerate(_CALLS, 1):
        for name in names:
            for arch in ("x86_64", "i386"):
                if not abi.exists(name, arch) or (arch == "i386" and name in _NATIVE_ALONE):
                    continue
                number = abi.number(name, arch)
                _native.tell_descriptors(arch == "i386", number, kind)
                if arch == "x86_64":
                    numbers.append(number)
    return tuple(numbers)


def lift(fd: int) -> int:
    """Return a high number for a descriptor in place of the one that it has, or that one where there is none.

    No guest closes it, one with a table of its own neither.
    """
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:  # a low limit
        return fd
    os.close(fd)
    _native.keep_descriptor(high)
    return high


@contextmanager
def out_of_the_way() -> Iterator[None]:
    """Have what is opened meanwhile get high numbers, while the low ones are taken."""
    held: list[int] = []
    try:
        try:
            held.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            while held[-1] < HIGH:
                held.append(os.dup(held[-1]))
        except OSError:  # a low limit: what is opened needs some of them
            for fd in held:
                os.close(fd)
            held = []
        yield
    finally:
        for fd in held:
            os.close(fd)
