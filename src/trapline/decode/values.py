"""Numbers as text: flag words, error numbers, signals, modes, wait statuses."""

from __future__ import annotations

from trapline.abi import flags

_IFMT = 0o170000
# Families whose value bits are a number of their own rather than one of the names.
_OCTAL_MASKS = ("ipc", "shmget", "mode")


def flags_text(family: str, value: int, arch: str | None = None) -> str:
    """Write a flag word or an enumerated value of a family: ``O_RDWR|O_CREAT``, ``SEEK_END``, ``0x40``.

    Bits without a name follow in hexadecimal, so nothing is lost; 0 is ``0`` where it has no name.

    :raises UsageError: there is no such family.
    """
    members = flags.members(family, arch)
    if not flags.is_flags(family):
        for name, known in members.items():
            if known == value:
                return name
        return str(value) if -4096 < value < 4096 else hex(value)
    if family == "mode":
        return mode_text(value)
    mask = flags.value_mask(family)
    parts = _masked(family, value & mask, mask, members) if mask else []
    parts += _bits(value & ~mask, {name: bits for name, bits in members.items() if bits & ~mask})
    if family == "clone" and value & mask:
        parts.append(signal_text(value & mask))
    if parts:
        return "|".join(parts)
    return next((name for name, known in members.items() if known == 0), "0")


def _masked(family: str, value: int, mask: int, members: dict[str, int]) -> list[str]:
    """Write the bits of a flag word that hold a value."""
    if family == "clone":
        return []
    if family in _OCTAL_MASKS:
        return [f"0{value:o}"] if value else []
    for name, known in members.items():
        if known == value and not known & ~mask:
            return [name]
    return [hex(value)] if value else []


def _bits(value: int, members: dict[str, int]) -> list[str]:
    """Write bits; a name for several of them (``O_SYNC``) goes before the names for parts of it."""
    found = []
    for name, bits in sorted(members.items(), key=lambda item: -item[1].bit_count()):
        if bits and value & bits == bits:
            found.append((bits, name))
            value &= ~bits
    parts = [name for _, name in sorted(found)]
    if value:
        parts.append(hex(value))
    return parts


def mode_text(mode: int) -> str:
    """Write file type and permission bits: ``S_IFREG|0644``, ``0755``."""
    permissions = f"0{mode & ~_IFMT:03o}"
    if not mode & _IFMT:
        return permissions
    for name, value in flags.members("mode").items():
        if value == mode & _IFMT and name.startswith("S_IF"):
            return f"{name}|{permissions}"
    return f"0{mode:o}"


def errno_text(number: int) -> str:
    """Write a positive error number with its meaning: ``ENOENT (No such file or directory)``."""
    import os

    for name, value in flags.members("errno").items():
        if value == number:
            return f"{name} ({os.strerror(number)})"
    for name, value in flags.members("errno_restart").items():
        if value == number:
            return f"{name} (the kernel will restart the call)"
    return f"errno {number}"


def signal_text(number: int) -> str:
    """Write a signal's name: ``SIGCHLD``, ``SIGRT_3`` (counted from the kernel's 32); 0 stays ``0``."""
    for name, value in flags.members("signal").items():
        if value == number:
            return name
    if 32 < number < 64:
        return f"SIGRT_{number - 32}"
    return str(number)


def sigset_text(bits: int) -> str:
    """Write a signal set: ``[SIGINT SIGCHLD]``; ``~[...]`` when most signals are in it."""
    every = (1 << 64) - 1
    inverted = bits.bit_count() > 40
    shown = ~bits & every if inverted else bits & every
    names = " ".join(signal_text(number) for number in range(1, 65) if shown >> (number - 1) & 1)
    return f"{'~' if inverted else ''}[{names}]"


def wait_status_text(status: int) -> str:
    """Write a status that ``wait4`` filled in, in the words of ``man 2 wait``."""
    status &= 0xFFFFFFFF
    low, high = status & 0x7F, status >> 8 & 0xFF
    if status == 0xFFFF:
        return "WIFCONTINUED(s)"
    if low == 0:
        return f"WIFEXITED(s) && WEXITSTATUS(s) == {high}"
    if low == 0x7F:
        text = f"WIFSTOPPED(s) && WSTOPSIG(s) == {signal_text(high & 0x7F)}"
        text += " | 0x80" if high & 0x80 else ""
        event = status >> 16
        return f"{text}, {flags_text('ptrace_event', event)}" if event else text
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"WIFSIGNALED(s) && WTERMSIG(s) == {signal_text(low)}{core}"
