"""Guests: foreign code inside this Python process, every system call ours.

A guest is loaded into one :class:`Arena`, runs natively on this process's threads, and each system call that it makes
is decided by hooks and by its personality. This process's own libraries are left alone.

An arena is no sandbox: a guest can read, write and jump to all of this process.
"""

from __future__ import annotations

from trapline.guest.arena import Arena, ArenaError, Code
from trapline.guest.faults import GuestExit, GuestFault, GuestKilled
from trapline.guest.guest import Guest
from trapline.guest.linux import Linux
from trapline.guest.personality import Convention, Personality, does
from trapline.guest.thread import GuestCall, Thread

__all__ = [
    "Arena",
    "ArenaError",
    "Code",
    "Convention",
    "Guest",
    "GuestCall",
    "GuestExit",
    "GuestFault",
    "GuestKilled",
    "Linux",
    "Personality",
    "Thread",
    "does",
]
