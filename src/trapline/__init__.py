"""Put your own Python between any program and the Linux kernel."""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline import guest as guest
    from trapline.abi.errno import Errno
    from trapline.bpf.conditions import Condition, arg, ip
    from trapline.call import Args, Call
    from trapline.errors import (
        CallGoneError,
        CommandError,
        EngineStartError,
        HookError,
        MemoryAccessError,
        TraplineError,
        UnknownSyscallError,
        UnsupportedByEngineError,
        UsageError,
    )
    from trapline.hooks import on, on_return
    from trapline.options import option
    from trapline.process import Process
    from trapline.running import CompletedProcess, run
    from trapline.session import Session
    from trapline.stats import Stats
    from trapline.stdio import DEVNULL, PIPE, STDOUT

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Args",
    "Call",
    "CallGoneError",
    "CommandError",
    "CompletedProcess",
    "Condition",
    "EngineStartError",
    "Errno",
    "HookError",
    "MemoryAccessError",
    "Process",
    "Session",
    "Stats",
    "TraplineError",
    "UnknownSyscallError",
    "UnsupportedByEngineError",
    "UsageError",
    "arg",
    "ip",
    "on",
    "on_return",
    "option",
    "run",
]

# Loaded when first asked for: a command line tool must not pay for what it does not use.
_MODULES = {
    "trapline.abi.errno": ("Errno",),
    "trapline.bpf.conditions": ("Condition", "arg", "ip"),
    "trapline.call": ("Args", "Call"),
    "trapline.errors": tuple([name for name in __all__ if name.endswith("Error")]),
    "trapline.hooks": ("on", "on_return"),
    "trapline.options": ("option",),
    "trapline.process": ("Process",),
    "trapline.running": ("CompletedProcess", "run"),
    "trapline.session": ("Session",),
    "trapline.stats": ("Stats",),
    "trapline.stdio": ("DEVNULL", "PIPE", "STDOUT"),
}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name == "guest":
        return __import__("trapline.guest", fromlist=("Guest",))
    for module, names in _MODULES.items():
        if name in names:
            # Not importlib.import_module: importing that costs a millisecond of start-up.
            value = globals()[name] = getattr(__import__(module, fromlist=(name,)), name)
            return value
    raise AttributeError(f"module 'trapline' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__", "guest"]
