"""Values as strace writes them."""

from __future__ import annotations

from trapline.abi import flags, structs
from trapline.decode.values import flags_text, signal_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "clone_flags", "descriptors", "file_mode", "limit_text", "makedev", "poll_text", "sigaction_text", "sigset_text",
    "stat_mask", "statx_text", "timespec_text",
]  # fmt: skip

_CSIGNAL = 0xFF
_STATX_ALL = 0xFFF
_INFINITY, _INFINITY_I386 = (1 << 64) - 1, (1 << 32) - 1


def clone_flags(bits: int, *, low: bool = True) -> str:
    """Write clone flags, and the signal in their low byte."""
    signal = bits & _CSIGNAL if low else 0
    rest = bits & ~signal
    words = [flags_text("clone3" if rest >> 32 else "clone", rest)] if rest else []
    words += [signal_text(signal)] if signal else []
    return "|".join(words) or "0"


def makedev(number: int) -> str:
    """Write a device's number."""
    major = (number >> 8 & 0xFFF) | (number >> 32 & ~0xFFF)
    minor = (number & 0xFF) | (number >> 12 & ~0xFF)
    return f"makedev({f'{major:#x}' if major else '0'}, {f'{minor:#x}' if minor else '0'})"


def limit_text(value: int) -> str:
    """Write a resource limit."""
    if value == _INFINITY:
        return "RLIM64_INFINITY"
    if value == _INFINITY_I386:
        return "RLIM_INFINITY"
    return f"{value // 1024}*1024" if value > 1024 and value % 1024 == 0 else str(value)


def sigset_text(bits: int) -> str:
    """Write a signal set: ``[INT CHLD]``, and ``~[...]`` where most are in it."""
    inverted = bits.bit_count() >= 43
    shown = ~bits & _INFINITY if inverted else bits
    names = [_short(number) for number in range(1, 65) if shown >> (number - 1) & 1]
    return f"{'~' if inverted else ''}[{' '.join(names)}]"


def file_mode(mode: int) -> str:
    """Write a file's type and permissions: ``S_IFDIR|S_ISVTX|0777``."""
    words = [
        name
        for name, value in flags.members("mode").items()
        if value == mode & 0o170000 and name[:4] == "S_IF"
    ]
    words += [
        name for bit, name in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")) if mode & bit
    ]
    return "|".join([*words, f"{mode & 0o777:#05o}".replace("o", "")[-4:] if mode & 0o777 else "000"])


def _short(number: int) -> str:
    if number in (32, 64):
        return "RTMIN" if number == 32 else "RT_32"
    return signal_text(number).removeprefix("SIG")


def sigaction_text(record: structs.Record) -> str:
    """Write a signal action."""
    handler = {0: "SIG_DFL", 1: "SIG_IGN"}.get(record.sa_handler, hex(record.sa_handler))
    shown = [f"sa_handler={handler}", f"sa_mask={sigset_text(record.sa_mask)}"]
    bits = record.sa_flags
    # The restorer's flag first, as strace has it.
    words = ["SA_RESTORER"] if bits & 0x04000000 else []
    rest = bits & ~0x04000000
    words += _ordered_sa(rest) if rest else []
    shown.append(f"sa_flags={'|'.join(words) or '0'}")
    if bits & 0x04000000:
        shown.append(f"sa_restorer={record.sa_restorer:#x}")
    return f"{{{', '.join(shown)}}}"


_SA = (
    (0x08000000, "SA_ONSTACK"), (0x10000000, "SA_RESTART"), (0x00000002, "SA_NOCLDWAIT"), (0x40000000, "SA_NODEFER"),
    (0x80000000, "SA_RESETHAND"), (0x00000004, "SA_SIGINFO"), (0x00000001, "SA_NOCLDSTOP"),
)  # fmt: skip


def _ordered_sa(bits: int) -> list[str]:
    found = [name for bit, name in _SA if bits & bit]
    left = bits & ~sum(bit for bit, _ in _SA)
    return [*found, hex(left)] if left else found


def poll_text(data: bytes, count: int, fd: Callable[[int], str], *, returned: bool = False) -> str:
    """Write an array of pollfd; of one that was *returned* those that have something."""
    shown = []
    for at in range(0, len(data) - 7, 8):
        number = int.from_bytes(data[at : at + 4], "little", signed=True)
        events, got = (int.from_bytes(data[at + 4 + more : at + 6 + more], "little") for more in (0, 2))
        if not returned:
            what = f", events={flags_text('poll', events)}" if number >= 0 else ""
            shown.append(f"{{fd={fd(number)}{what}}}")
        elif got:
            shown.append(f"{{fd={fd(number)}, revents={flags_text('poll', got)}}}")
    more = ", ..." if not returned and count > len(data) // 8 else ""
    return f"[{', '.join(shown)}{more}]"


def descriptors(data: bytes, count: int) -> str:
    """Write an fd_set."""
    bits = int.from_bytes(data, "little") & ((1 << max(count, 0)) - 1)
    return f"[{' '.join(str(fd) for fd in range(bits.bit_length()) if bits >> fd & 1)}]"


def stat_mask(bits: int) -> str:
    """Write which members of a struct statx are meant."""
    if bits & _STATX_ALL != _STATX_ALL:
        return flags_text("statx", bits)
    rest = bits & ~_STATX_ALL
    return "STATX_ALL" + (f"|{flags_text('statx', rest)}" if rest else "")


def timespec_text(data: bytes, unit: str = "tv_nsec") -> str:
    """Write seconds and a fraction of them, two words."""
    seconds, rest = (int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8))
    return f"{{tv_sec={seconds}, {unit}={rest}}}"


def statx_text(record: structs.Record) -> str:
    """Write a struct statx."""
    mask = stat_mask(record.stx_mask)
    attributes = flags_text("statx_attr", record.stx_attributes)
    return (
        f"{{stx_mask={mask}, stx_attributes={attributes}, stx_mode={file_mode(record.stx_mode)}, "
        f"stx_size={record.stx_size}, ...}}"
    )
