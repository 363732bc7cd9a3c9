"""A guest's registers by name."""

from __future__ import annotations

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
_INDEX = {name: index for index, name in enumerate(NAMES)}


def signed(value: int) -> int:
    """Return a 64-bit register as a signed number."""
    return value - (1 << 64) if value >> 63 else value


class Registers:
    """Registers of a guest's thread that does not run just now: ``registers.rax = 0``.

    Values are unsigned, 64 bits.
    """

    __slots__ = ("_thread",)

    _thread: _native.GuestThread

    def __init__(self, thread: _native.GuestThread) -> None:
        object.__setattr__(self, "_thread", thread)

    def __getattr__(self, name: str) -> int:
        if name not in _INDEX:
            raise AttributeError(f"there is no register {name!r}, only {', '.join(NAMES)}")
        return self._thread.get(_INDEX[name])

    def __setattr__(self, name: str, value: int) -> None:
        if name not in _INDEX:
            raise AttributeError(f"there is no register {name!r}, only {', '.join(NAMES)}")
        self._thread.set(_INDEX[name], value & 0xFFFFFFFFFFFFFFFF)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter([(name, self._thread.get(index)) for name, index in _INDEX.items()])

    def as_dict(self) -> dict[str, int]:
        """Return all of them."""
        return dict(self)

    def __repr__(self) -> str:
        return f"Registers({', '.join(f'{name}={value:#x}' for name, value in self)})"
