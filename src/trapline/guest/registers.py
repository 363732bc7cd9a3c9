"""A guest's registers by name."""

from __future__ import annotations

from trapline.errors import UnsupportedByEngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from trapline import _native

__all__ = ["NAMES", "Registers", "signed"]

#: In the order of the kernel's signal frames.
NAMES = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp",
    "rip", "eflags",
)  # fmt: skip
#: What a seccomp listener tells of a call.
_TOLD = ("rax", "rdi", "rsi", "rdx", "r10", "r8", "r9", "rip")
_INDEX = {name: index for index, name in enumerate(NAMES)}


def signed(value: int) -> int:
    """Return a 64-bit register as a signed number."""
    return value - (1 << 64) if value >> 63 else value


def _unsupported(what: str) -> UnsupportedByEngineError:
    return UnsupportedByEngineError(f"{what}: use another engine", engine="notify", capability="registers")


class Registers:
    """Registers of a guest's thread that does not run just now: ``registers.rax = 0``.

    Values are unsigned, 64 bits.

    :raises UnsupportedByEngineError: a hook asks for what ``notify`` does not tell of a call, or sets a register.
    """

    __slots__ = ("_thread",)

    _thread: _native.GuestThread

    def __init__(self, thread: _native.GuestThread) -> None:
        object.__setattr__(self, "_thread", thread)

    def __getattr__(self, name: str) -> int:
        if name not in _INDEX:
            raise AttributeError(f"there is no register {name!r}, only {', '.join(NAMES)}")
        if self._thread.notified and name not in _TOLD:
            raise _unsupported(f"engine 'notify' does not tell {name}, only {', '.join(_TOLD)}")
        return self._thread.get(_INDEX[name])

    def __setattr__(self, name: str, value: int) -> None:
        if name not in _INDEX:
            raise AttributeError(f"there is no register {name!r}, only {', '.join(NAMES)}")
        if self._thread.notified:
            raise _unsupported("engine 'notify' cannot set registers in the middle of a call")
        self._thread.set(_INDEX[name], value & 0xFFFFFFFFFFFFFFFF)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        names = _TOLD if self._thread.notified else NAMES
        return iter([(name, self._thread.get(_INDEX[name])) for name in names])

    def as_dict(self) -> dict[str, int]:
        """Return all that are known."""
        return dict(self)

    def __repr__(self) -> str:
        return f"Registers({', '.join(f'{name}={value:#x}' for name, value in self)})"
