"""Calls as strace writes them: what differs from :mod:`trapline.decode`, which leaves nothing out."""

from __future__ import annotations

from trapline import abi
from trapline.abi import flags, structs
from trapline.decode.calls import Line, result_text
from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import flags_text
from trapline.trace.records import STRUCTS
from trapline.trace.sockets import address as address_text_of
from trapline.trace.special import I386, SPECIAL
from trapline.trace.values import sigset_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.abi import Param
    from trapline.trace.file import Event

__all__ = ["StraceLine", "call_line"]

_AT_FDCWD = -100
_WORDS_SHOWN = 32
#: Of what mmap2 counts positions in.
_PAGE = 4096
_PLAIN_OPEN_FLAGS = frozenset({"pipe2", "dup3"})
#: Families that have a name for 0 which nobody writes, and those whose numbers are no mistake.
_NO_ZERO = frozenset({"rwf", "fallocate"})
_NUMBERED = frozenset({"ipproto", "ioctl", "mode", "personality"})
_LISTED = (1, 3, 1025, 1034)  # fcntl: F_GETFD, F_GETFL, F_GETLEASE, F_GET_SEALS


class StraceLine(Line):
    """The arguments of one call, and their text.

    :param event: the call.
    :param limit: bytes of a buffer that are shown.
    :param path_of: the file behind a descriptor, or "".
    """

    def __init__(self, event: Event, limit: int, path_of: Callable[[int], str] | None = None) -> None:
        super().__init__(abi.signature(event.name, event.arch), event.args, event.read, event.result, limit)
        self.event = event
        self.path_of = path_of
        self.pending = event.result is None
        self.word = 4 if self.arch == "i386" else 8

    def at(self, name: str) -> int:
        """Return an argument by its name."""
        return self.values[name]

    def fd(self, number: int) -> str:
        """Write a descriptor, with its file where that is wanted."""
        path = self.path_of(number) if self.path_of is not None else ""
        return f"{number}<{path}>" if path else str(number)

    def arguments(self) -> list[str]:
        """Write every argument that counts; one, where words are shorter and a 64-bit number takes two of them."""
        high = self._halves() if self.word == 4 else {}
        shown = []
        for param in self.signature.params:
            if param.name in high:
                value = self.values[high[param.name]] << 32 | self.values[param.name]
                shown.append(str(value - (1 << 64) if value >> 63 else value))
            elif param.name not in high.values() and self.counts(param):
                shown.append(self.argument(param))
        return shown

    def _halves(self) -> dict[str, str]:
        """Return the names of the high halves of numbers by those of the low ones."""
        found = {}
        for name in self.values:
            for low, high in (("_lo", "_hi"), ("_low", "_high"), ("_low", "_hi"), ("poslo", "poshi")):
                other = name.removesuffix(low) + high
                if name.endswith(low) and other in self.values:
                    found[name] = other
        return found

    def argument(self, param: Param) -> str:
        """Write one argument."""
        value = self.values[param.name]
        if param.kind == "fd":
            relative = param.name in self.dirfds or param.name.endswith("dfd")
            if value == _AT_FDCWD and relative:
                path = self.path_of(value) if self.path_of is not None else ""
                return f"AT_FDCWD<{path}>" if path else "AT_FDCWD"
            return self.fd(value)
        if param.kind == "offset" and self.signature.name == "mmap":
            return hex(value) if value else "0"
        if param.name == "pgoff" and self.signature.name == "mmap2":
            return hex(value * _PAGE) if value else "0"
        if param.kind == "flags" and param.family is not None and param.family != "so":
            named = self._enumerated(param.family, value)
            if named:
                return named
        if param.family == "open" and self.signature.name in _PLAIN_OPEN_FLAGS:
            return flags_text("open", value).removeprefix("O_RDONLY|").replace("O_RDONLY", "0")
        if param.kind == "signal" and value == 64:
            return "SIGRT_32"
        if param.kind == "mode" and self.signature.name not in ("mknod", "mknodat"):
            return f"0{value:o}" if value > 0o7 else f"0{value:02o}" if value else "000"
        return super().argument(param)

    def _enumerated(self, family: str, value: int) -> str:
        """Write a value that none of a family's names stands for: ``0x4d /* CLOCK_??? */``."""
        if value == 0 and family in _NO_ZERO:
            return "0"
        text = flags_text(family, value, self.arch)
        if not text[:1].isdigit() or "|" in text or value <= 0 or family in _NUMBERED:
            return ""
        names = list(flags.members(family, self.arch))
        start = names[0][: names[0].find("_") + 1]
        return (
            f"{value:#x} /* {start}??? */" if start and all(name.startswith(start) for name in names) else ""
        )

    def socket_address(self, read: Callable[[int, int], bytes], param: Param, address: int) -> str | None:
        """Write a socket address."""
        data = try_read(read, address, min(self.size(read, param), 128))
        return address_text_of(data) if len(data) >= 2 else None

    def pointer(self, param: Param, address: int) -> str:
        """Write what a pointer points to: what the kernel was given, or what it has written."""
        self.read = self.event.read_before if param.pointer == "in" else self.event.read
        if param.kind == "ptr" and param.struct is None and param.ctype == "int *" and not self.failed:
            data = try_read(self.event.read, address, 4) if address else b""
            return (
                f"[{int.from_bytes(data, 'little', signed=True)}]"
                if len(data) == 4
                else address_text(address)
            )
        if param.struct == "sigset_t":
            size = min(self.values.get("sigsetsize", 8), 8)
            data = (
                try_read(self.event.read, address, size)
                if address and (param.pointer == "in" or not self.unwritten)
                else b""
            )
            return sigset_text(int.from_bytes(data, "little")) if data else address_text(address)
        if param.pointer == "out" and param.kind == "buf" and self.result is not None and self.failed:
            return address_text(address)
        return super().pointer(param, address)

    def strings(self, read: Callable[[int, int], bytes], address: int) -> str | None:
        """Write argv, or a longer piece of it than elsewhere."""
        shown: list[str] = []
        for at in range(address, address + self.word * _WORDS_SHOWN, self.word):
            data = try_read(read, at, self.word)
            pointer = int.from_bytes(data, "little")
            if not pointer:
                return f"[{', '.join(shown)}]" if shown or data else None
            string = try_read(read, pointer, self.limit + 1).split(b"\0")[0]
            shown.append(quote(string, self.limit) if try_read(read, pointer, 1) else address_text(pointer))
        return f"[{', '.join(shown)}, ...]"

    @property
    def unwritten(self) -> bool:
        """The kernel has written nothing."""
        return self.pending or self.failed

    def struct(self, read: Callable[[int, int], bytes], param: Param, address: int) -> str | None:
        """Write a struct as shortly as strace does."""
        assert param.struct is not None
        short = STRUCTS.get(param.struct)
        if short is not None and param.kind != "array":
            data = try_read(read, address, structs.sizeof(param.struct, self.arch))
            if len(data) < structs.sizeof(param.struct, self.arch):
                return None
            return short(structs.unpack(param.struct, data, self.arch))
        return super().struct(read, param, address)


def call_line(event: Event, limit: int = 32, path_of: Callable[[int], str] | None = None) -> tuple[str, str]:
    """Write a call, ``openat(AT_FDCWD, "/etc/hosts", O_RDONLY)``, and its result, ``3`` or ``-1 ENOENT (...)``.

    :param limit: bytes of a buffer that are shown.
    :param path_of: the file behind a descriptor, or "".
    """
    line = StraceLine(event, limit, path_of)
    name = event.name
    if not line.signature.known:
        return f"{name}({', '.join(map(hex, event.args))})", _result(line, "")
    special = SPECIAL.get(name) if line.arch != "i386" else I386.get(name)
    try:
        shown, extra = (line.arguments(), "") if special is None else special(line)
    except (KeyError, IndexError, ValueError, OSError):
        shown, extra = line.arguments(), ""  # the program has written over its ring
    return f"{name}({', '.join(shown)})", _result(line, extra)


def _result(line: StraceLine, extra: str) -> str:
    result = line.event.result
    if result is None:
        return "?"
    name = line.signature.name
    if line.failed:
        return result_text(line.signature, result)
    if (name == "fcntl" and line.values["cmd"] in _LISTED) or name == "personality":
        return f"{result:#x}{extra}" if result else f"0{extra}"
    if name == "rt_sigreturn":
        return str(result)
    if name == "umask":
        return f"0{result:02o}"
    if line.signature.returns == "fd" or (name == "fcntl" and line.values["cmd"] in (0, 1030)):
        return f"{line.fd(result)}{extra}"
    return result_text(line.signature, result) + extra
