"""Whole system calls as one line of text."""

from __future__ import annotations

from trapline import abi
from trapline.abi import structs
from trapline.decode.addresses import sockaddr
from trapline.decode.memory import address_text, quote, read_string, struct_text, try_read
from trapline.decode.values import errno_text, flags_text, mode_text, signal_text
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.abi import Param, Signature
    from trapline.decode.memory import Reader

MAX_ERRNO = 4095
AT_FDCWD = -100
STRING_LIMIT = 32
ITEM_LIMIT = 16
# Arguments that only count under a flag of another one: call, parameter, and the test.
NEEDS_MODE = 0o100 | 0o20000000  # O_CREAT, or the bit that is O_TMPFILE's own
_FCNTL_FAMILIES = {2: "fd", 4: "open", 1033: "seal"}
_FCNTL_WITHOUT_ARGUMENT = (1, 3, 9, 11, 1025, 1032, 1034)


def call_text(
    name: str,
    arch: str,
    args: Sequence[int],
    read: Reader | None = None,
    *,
    result: int | None = None,
    limit: int = STRING_LIMIT,
) -> str:
    """Write a system call on one line: ``openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 3``.

    An i386 ``socketcall`` is written as the call that it stands for where *read* reaches its arguments.

    :param name: the kernel's name or ``syscall_<nr>``.
    :param args: the raw argument registers; missing ones are 0.
    :param read: ``read(address, size) -> bytes`` over the caller's memory; without it pointers stay numbers.
    :param result: the raw result; with it, what the kernel wrote is shown and the result follows.
    :param limit: bytes of a buffer that are shown.
    :raises UnknownSyscallError: *arch* has no call of that name.
    """
    inner = _behind_multiplexer(name, args, read) if arch == "i386" else None
    if inner is not None:
        name, args = inner
    signature = abi.signature(name, arch)
    if not signature.known:
        shown = ", ".join(hex(value) for value in args)
        text = f"{name}({shown})"
    else:
        line = Line(signature, args, read, result, limit)
        text = f"{name}({', '.join(line.arguments())})"
    return text if result is None else f"{text} = {result_text(signature, result)}"


def _behind_multiplexer(
    name: str, args: Sequence[int], read: Reader | None
) -> tuple[str, Sequence[int]] | None:
    """Find the call that an i386 ``socketcall`` stands for, with its arguments from memory."""
    if name != "socketcall" or read is None or len(args) < 2:
        return None
    real = abi.SOCKETCALL.get(args[0] & 0xFFFFFFFF)
    if real is None:
        return None
    count = len(abi.signature(real, "i386").params)
    words = try_read(read, args[1] & 0xFFFFFFFF, 4 * count)
    if len(words) < 4 * count:
        return None
    return real, [int.from_bytes(words[at : at + 4], "little") for at in range(0, 4 * count, 4)]


def result_text(signature: Signature, result: int) -> str:
    """Write a raw result: ``3``, ``0x7f0000000000``, ``-1 ENOENT (No such file or directory)``."""
    word = 32 if signature.arch == "i386" else 64
    result &= (1 << word) - 1
    signed = result - (1 << word) if result >> (word - 1) else result
    if -MAX_ERRNO <= signed < 0:
        return f"-1 {errno_text(-signed)}"
    if signature.returns == "none":
        return "?"
    if signature.returns == "addr":
        return address_text(result)
    if signature.returns == "mode":
        return mode_text(result)
    return str(result if signature.returns == "size" else signed)


class Line:
    """The arguments of one call while they are written."""

    def __init__(
        self, signature: Signature, args: Sequence[int], read: Reader | None, result: int | None, limit: int
    ) -> None:
        self.signature = signature
        self.arch = signature.arch
        self.read = read
        self.limit = limit
        self.result = result
        word = 32 if self.arch == "i386" else 64
        self.failed = result is not None and (result & (1 << word) - 1) >= (1 << word) - MAX_ERRNO
        padded = [*args, *[0] * 6]
        self.values = {param.name: param.narrow(padded[param.index]) for param in signature.params}
        self.dirfds = {param.dirfd for param in signature.params if param.dirfd}

    def arguments(self) -> list[str]:
        """Write every argument that counts."""
        return [self.argument(param) for param in self.signature.params if self.counts(param)]

    def counts(self, param: Param) -> bool:
        """Whether the kernel looks at an argument at all."""
        name = self.signature.name
        if name in ("open", "openat", "mq_open") and param.name == "mode":
            return bool(self.values.get("flags", self.values.get("oflag", 0)) & NEEDS_MODE)
        if name in ("fcntl", "fcntl64") and param.name == "arg":
            return self.values["cmd"] not in _FCNTL_WITHOUT_ARGUMENT
        return True

    def argument(self, param: Param) -> str:
        """Write one argument."""
        value = self.values[param.name]
        if param.pointer is not None:
            return self.pointer(param, value)
        if param.kind == "fd":
            relative = param.name in self.dirfds or param.name.endswith("dfd")
            return "AT_FDCWD" if value == AT_FDCWD and relative else str(value)
        if param.kind == "flags" and param.family is not None:
            if param.family == "so" and self.values.get("level") != 1:
                return self.other_option(value)
            return flags_text(param.family, value, self.arch)
        if param.kind == "signal":
            return signal_text(value)
        if param.kind == "mode":
            return mode_text(value)
        if param.kind in ("uid", "gid"):
            return "-1" if value == (1 << param.width) - 1 else str(value)
        if param.kind == "arg" and self.signature.name in ("fcntl", "fcntl64"):
            family = _FCNTL_FAMILIES.get(self.values["cmd"])
            return (
                flags_text(family, value, self.arch) if family else str(value) if value < 4096 else hex(value)
            )
        if param.kind in ("addr", "arg"):
            return address_text(value)
        if param.kind in ("dev", "u64"):
            return hex(value)
        return str(value)

    def other_option(self, value: int) -> str:
        """Write a socket option of another level than SOL_SOCKET."""
        families = {0: "ip", 6: "tcp", 41: "ipv6"}
        family = families.get(self.values.get("level", -1))
        return flags_text(family, value, self.arch) if family else str(value)

    def pointer(self, param: Param, address: int) -> str:
        """Write what a pointer points to, or the address where that cannot be seen or is not there yet."""
        read = self.read
        written = self.result is not None and not self.failed
        if address == 0 or read is None or (param.pointer == "out" and not written):
            return address_text(address)
        text: str | None = None
        if param.kind in ("path", "str"):
            string = read_string(read, address)
            text = None if string is None else quote(string)
        elif param.kind == "strv":
            text = self.strings(read, address)
        elif param.kind == "fds":
            pair = try_read(read, address, 8)
            text = (
                f"[{int.from_bytes(pair[:4], 'little')}, {int.from_bytes(pair[4:], 'little')}]"
                if pair
                else None
            )
        elif param.kind == "sockaddr":
            text = self.socket_address(read, param, address)
        elif param.kind == "iovec":
            text = self.vector(read, param, address, written)
        elif param.kind == "buf" and param.struct is None:
            size = self.size(read, param)
            if param.filled and self.result is not None:
                size = min(size, self.result)
            data = try_read(read, address, min(size, self.limit + 1))
            text = quote(data, self.limit) if data or not size else None
        elif param.struct is not None and structs.exists(param.struct, self.arch):
            text = self.struct(read, param, address)
        return address_text(address) if text is None else text

    def size(self, read: Reader, param: Param) -> int:
        """Return the size in bytes that belongs to a buffer, also where it lies in memory itself."""
        if param.size_of is None:
            return 0
        holder = self.signature.param(param.size_of)
        size = self.values[param.size_of]
        if holder is not None and holder.pointer is not None:
            size = int.from_bytes(try_read(read, size, 4), "little") if size else 0
        return max(size, 0)

    def strings(self, read: Reader, address: int) -> str | None:
        """Write argv or envp."""
        width = 4 if self.arch == "i386" else 8
        shown: list[str] = []
        for position in range(ITEM_LIMIT + 1):
            entry = try_read(read, address + position * width, width)
            if len(entry) < width:
                return None if not shown else f"[{', '.join(shown)}, ???]"
            pointer = int.from_bytes(entry, "little")
            if pointer == 0:
                return f"[{', '.join(shown)}]"
            string = read_string(read, pointer, self.limit + 1)
            shown.append(address_text(pointer) if string is None else quote(string, self.limit))
        return f"[{', '.join(shown[:ITEM_LIMIT])}, ...]"

    def socket_address(self, read: Reader, param: Param, address: int) -> str | None:
        """Write a socket address."""
        data = try_read(read, address, min(self.size(read, param), 128))
        return sockaddr(data).text() if len(data) >= 2 else None

    def vector(self, read: Reader, param: Param, address: int, written: bool) -> str | None:
        """Write an array of iovec with the bytes that were or will be transferred."""
        count = self.values[param.count_of] if param.count_of else 0
        data = try_read(read, address, structs.sizeof("iovec", self.arch) * min(count, ITEM_LIMIT))
        readable = param.pointer == "in" or written
        left = self.result if param.filled and self.result is not None else 1 << 62
        shown: list[str] = []
        try:
            for record in structs.unpack_all("iovec", data, self.arch):
                size = min(record.iov_len, left)
                left -= size
                inside = try_read(read, record.iov_base, min(size, self.limit + 1)) if readable else b""
                base = (
                    quote(inside, self.limit)
                    if inside or (readable and not size)
                    else address_text(record.iov_base)
                )
                shown.append(f"{{iov_base={base}, iov_len={record.iov_len}}}")
        except UsageError:
            return None
        return f"[{', '.join(shown)}{', ...' if count > ITEM_LIMIT else ''}]" if shown or not count else None

    def struct(self, read: Reader, param: Param, address: int) -> str | None:
        """Write a struct, or as many of an array as there are and fit on a line."""
        assert param.struct is not None
        shape = structs.layout(param.struct, self.arch)
        if shape.flexible:
            return None
        if param.kind != "array":
            size = self.size(read, param) if shape.extensible and param.size_of else shape.size
            data = try_read(read, address, min(size, shape.size))
            return (
                struct_text(param.struct, data, self.arch)
                if len(data) == min(size, shape.size) and data
                else None
            )
        count = self.values[param.count_of] if param.count_of else 2  # utimensat and its like: two times
        if param.filled and self.result is not None:
            count = min(count, self.result)
        shown = []
        for position in range(min(max(count, 0), ITEM_LIMIT)):
            data = try_read(read, address + position * shape.size, shape.size)
            if len(data) < shape.size:
                return None
            shown.append(struct_text(param.struct, data, self.arch))
        return f"[{', '.join(shown)}{', ...' if count > ITEM_LIMIT else ''}]"
