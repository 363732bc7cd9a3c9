"""Values as text, the way people read them in traces: flags, errors, signals, addresses, whole calls.

========================  ================================================
:func:`flags_text`        ``O_RDWR|O_CREAT|0x40000000``
:func:`errno_text`        ``ENOENT (No such file or directory)``
:func:`signal_text`       ``SIGCHLD``, ``SIGRT_3``
:func:`sigset_text`       ``[SIGINT SIGCHLD]``
:func:`mode_text`         ``S_IFREG|0644``
:func:`wait_status_text`  ``WIFEXITED(s) && WEXITSTATUS(s) == 1``
:func:`result_text`       ``3``, ``-1 ENOENT (No such ...)``
:func:`sockaddr`          socket addresses as records
:func:`struct_text`       ``{tv_sec=1, tv_nsec=0}``
:func:`call_text`         ``openat(AT_FDCWD, "/etc/hosts", O_RDONLY)``
========================  ================================================
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.decode.addresses import Sockaddr, sockaddr
    from trapline.decode.calls import call_text, result_text
    from trapline.decode.memory import quote, struct_text
    from trapline.decode.values import (
        errno_text,
        flags_text,
        mode_text,
        signal_text,
        sigset_text,
        wait_status_text,
    )

__all__ = [
    "Sockaddr",
    "call_text",
    "errno_text",
    "flags_text",
    "mode_text",
    "quote",
    "result_text",
    "signal_text",
    "sigset_text",
    "sockaddr",
    "struct_text",
    "wait_status_text",
]

_HOMES = {
    "calls": ("call_text", "result_text"),
    "memory": ("quote", "struct_text"),
    "addresses": ("Sockaddr", "sockaddr"),
    "values": ("errno_text", "flags_text", "mode_text", "signal_text", "sigset_text", "wait_status_text"),
}


def __getattr__(name: str) -> object:
    """Load a function when it is first asked for: hooks that decode nothing pay nothing."""
    for home, functions in _HOMES.items():
        if name in functions:
            from importlib import import_module

            return getattr(import_module(f"trapline.decode.{home}"), name)
    raise AttributeError(f"module 'trapline.decode' has no attribute {name!r}")
