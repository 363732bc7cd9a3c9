"""What goes wrong in a guest, as exceptions."""

from __future__ import annotations

import signal

from trapline.errors import TraplineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.guest.arena import Area, Arena
    from trapline.guest.thread import Thread

__all__ = ["GuestExit", "GuestFault", "GuestKilled", "disassemble"]

_AROUND = 16
_LINES = 6


class GuestFault(TraplineError, RuntimeError):  # noqa: N818 (what it is, not that it is wrong)
    """An instruction of a guest could not be executed.

    :ivar signal: what the kernel would have sent: SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGTRAP.
    :ivar code: ``si_code``.
    :ivar address: what was accessed, or the instruction.
    :ivar registers: by name, as they were.
    :ivar disassembly: lines from the instruction on, as ``(address, text)``.
    :ivar areas: what was mapped in the arena.
    """

    def __init__(self, thread: Thread) -> None:
        number, self.code, self.address, self.trap, self.error_code = thread.fault()
        self.signal = signal.Signals(number)
        self.registers = thread.registers.as_dict()
        arena = thread.guest.arena
        self.areas = [_copy(area) for area in arena]
        self.disassembly = disassemble(arena, self.registers["rip"])
        super().__init__(self._text())

    def _text(self) -> str:
        rip = self.registers["rip"]
        where = next((area.name for area in self.areas if area.start <= rip < area.end), "")
        what = self.disassembly[0][1] if self.disassembly else "no code that can be read"
        place = f"{rip:#x}" + (f" in {where}" if where else "")
        return f"guest got {self.signal.name} at {place} ({what}), address {self.address:#x}"

    def report(self) -> str:
        """Return everything that is known, in several lines."""
        lines = [str(self), ""]
        names = list(self.registers)
        for at in range(0, len(names), 3):
            row = [f"{name:>6} {self.registers[name]:016x}" for name in names[at : at + 3]]
            lines.append("  ".join(row))
        lines += ["", *[f"  {address:x}: {text}" for address, text in self.disassembly], ""]
        lines += [f"  {area!r}" for area in self.areas]
        return "\n".join(lines)


def _copy(area: Area) -> Area:
    return type(area)(area.start, area.end, area.protection, area.name)


class GuestKilled(TraplineError, RuntimeError):  # noqa: N818 (what it is, not that it is wrong)
    """A signal of its own, or ``call.kill()``, has ended a guest that was called as a function.

    :ivar signal: its number.
    """

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(f"the guest was killed by signal {number}")


class GuestExit(TraplineError, RuntimeError):  # noqa: N818 (what it is, not that it is wrong)
    """Code that was called as a function has made ``exit`` or ``exit_group`` instead of returning.

    :ivar status: what it gave, 0 to 255.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the guest exited with status {status}")


def disassemble(arena: Arena, address: int, lines: int = _LINES) -> list[tuple[int, str]]:
    """Return instructions of an arena as ``(address, text)``."""
    import iced_x86

    code = arena.read(address, _AROUND * lines)
    formatter = iced_x86.Formatter(iced_x86.FormatterSyntax.NASM)
    found = []
    for instruction in iced_x86.Decoder(64, code, ip=address):
        found.append((instruction.ip, formatter.format(instruction)))
        if len(found) == lines:
            break
    return found
