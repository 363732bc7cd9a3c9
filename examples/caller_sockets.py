"""Doing a socket call on behalf of a caller: a module for the examples beside it, no hooks file.

The caller's address and data are copied once; what was judged is what is used. The socket is the caller's
own open file, taken with `call.take_fd`, so that everything that is set on it (non-blocking, bound address,
options) holds. On Unix sockets, where the other side may ask who it talks to, this process has to have the
caller's rights, no more; else it refuses. Where nobody reads any more, a send fails with EPIPE, but no SIGPIPE comes.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import trapline
from trapline import Errno, decode
from trapline.abi import structs

_libc = ctypes.CDLL(None, use_errno=True)
_MSG_ZEROCOPY = 0x4000000
_MOST_BYTES = 1 << 20  # of one send; a stream then goes on with the rest


class Address:
    """A socket address of the caller, copied once.

    :ivar family: AF_INET, AF_INET6, AF_UNIX ...; AF_UNSPEC also where there is no address.
    :ivar host: of an IP address.
    :ivar port: of an IP address.
    :ivar path: of a Unix socket: where its file really is, ``@name`` if it is an abstract one.
    :ivar raw: the bytes for this process to use.
    """

    def __init__(self, call: trapline.Call, pointer: int, length: int) -> None:
        if not 0 <= length <= 128:
            raise OSError(Errno.EINVAL, "address length")
        self.raw = call.read(pointer, length) if length else b""
        self.held = -1
        self.host, self.port, self.path = "", 0, ""
        self._said = decode.sockaddr(self.raw)
        self.family = int(self._said.family)
        if self.family in (socket.AF_INET, socket.AF_INET6) and self._said.host:
            self.host, self.port = self._said.host, self._said.port or 0
        elif self.family == socket.AF_UNIX and length > 2:
            self._find(call)

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else str(self._said)

    def _find(self, call: trapline.Call) -> None:
        path = self.raw[2:]
        if path[:1] != b"\0":
            # Held open, so that nobody can put another file in its place; /proc then names just this one.
            name = os.fsdecode(path.split(b"\0")[0])
            base = "root" if name.startswith("/") else "cwd"
            self.held = os.open(f"/proc/{call.pid}/{base}/{name.lstrip('/')}", os.O_PATH)
            self.raw = struct.pack("=H", socket.AF_UNIX) + f"/proc/self/fd/{self.held}\0".encode()
            path = os.fsencode(os.readlink(f"/proc/self/fd/{self.held}"))
        self.path = os.fsdecode(path).replace("\0", "@")

    def close(self) -> None:
        if self.held >= 0:
            os.close(self.held)


#: Says whether an address may be used.
Judge = Callable[[trapline.Call, Address], bool]


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "on behalf of the caller")
    return result


def rights(tid: int) -> list[str]:
    """Return users, groups and capabilities of a thread, and where they hold."""
    with open(f"/proc/{tid}/status") as file:
        found = [line for line in file if line.startswith(("Uid:", "Gid:", "Groups:", "CapEff:"))]
    return [*found, os.readlink(f"/proc/{tid}/ns/user")]


def is_unix(fd: int) -> bool:
    domain, size = ctypes.c_int(), ctypes.c_uint(ctypes.sizeof(ctypes.c_int))
    where = ctypes.byref(domain), ctypes.byref(size)
    checked(_libc.getsockopt(fd, socket.SOL_SOCKET, socket.SO_DOMAIN, *where))
    return domain.value == socket.AF_UNIX


def answer(call: trapline.Call, judge: Judge) -> object:
    """Answer a call that may have an address; None where it is none of :data:`_ACTIONS`.

    :param judge: says whether an address may be used; the call fails with EACCES if not.
    """
    action = _ACTIONS.get(call.name)
    if action is None:
        return None
    try:
        return call.reply(action(call, judge))
    except OSError as error:
        return call.fail(error.errno or Errno.EIO)


def _on_behalf(
    call: trapline.Call, judge: Judge, pointer: int, length: int, act: Callable[[int, Address], int]
) -> int:
    address = Address(call, pointer, length)
    fd = -1
    try:
        if not judge(call, address):
            raise OSError(Errno.EACCES, "not allowed")
        fd = call.take_fd(call.args.fd)
        if is_unix(fd) and rights(call.tid) != rights(os.getpid()):
            raise OSError(Errno.EACCES, "our rights are not the caller's")
        return act(fd, address)
    finally:
        address.close()
        if fd >= 0:
            os.close(fd)


def _connect(call: trapline.Call, judge: Judge) -> int:
    def act(fd: int, address: Address) -> int:
        return checked(_libc.connect(fd, address.raw, len(address.raw)))

    return _on_behalf(call, judge, call.args.uservaddr, call.args.addrlen, act)


def _sendto(call: trapline.Call, judge: Judge) -> int:
    data = call.read(call.args.buff, min(call.args.len, _MOST_BYTES)) if call.args.len else b""

    def act(fd: int, address: Address) -> int:
        return _send(fd, data, call.args.flags, address, b"")

    return _on_behalf(call, judge, call.args.addr, call.args.addr_len if call.args.addr else 0, act)


def _sendmsg(call: trapline.Call, judge: Judge) -> int:
    return _one_message(call, judge, call.read_struct("msghdr", call.args.msg))


def _sendmmsg(call: trapline.Call, judge: Judge) -> int:
    size, done = structs.sizeof("mmsghdr", call.arch), 0
    try:
        for at in range(call.args.mmsg, call.args.mmsg + min(call.args.vlen, 1024) * size, size):
            entry: Any = call.read_struct("mmsghdr", at)
            sent = _one_message(call, judge, entry.msg_hdr)
            call.write(at + structs.sizeof("msghdr", call.arch), sent.to_bytes(4, sys.byteorder))
            done += 1
    except OSError:
        if not done:
            raise
    return done


def _one_message(call: trapline.Call, judge: Judge, header: Any) -> int:
    size, data = structs.sizeof("iovec", call.arch), b""
    if header.msg_iovlen > 1024:
        raise OSError(Errno.EMSGSIZE, "UIO_MAXIOV")
    if header.msg_controllen > 1 << 16:
        raise OSError(Errno.ENOBUFS, "ancillary data")
    for part in structs.unpack_all("iovec", call.read(header.msg_iov, header.msg_iovlen * size), call.arch):
        wanted = min(part.iov_len, _MOST_BYTES - len(data))
        data += call.read(part.iov_base, wanted) if wanted else b""
    control = bytearray(call.read(header.msg_control, header.msg_controllen))
    if control and call.arch == "i386":
        raise OSError(Errno.EOPNOTSUPP, "32-bit ancillary data has another layout")
    passed = []

    def act(fd: int, address: Address) -> int:
        for at in _rights(control):
            passed.append(call.take_fd(int.from_bytes(control[at : at + 4], sys.byteorder)))
            control[at : at + 4] = passed[-1].to_bytes(4, sys.byteorder)
        return _send(fd, data, call.args.flags, address, bytes(control))

    try:
        return _on_behalf(call, judge, header.msg_name, header.msg_namelen if header.msg_name else 0, act)
    finally:
        for fd in passed:
            os.close(fd)


def _rights(control: bytearray) -> Iterator[int]:
    """Yield where ancillary data holds descriptors."""
    at = 0
    while at + 16 <= len(control):
        length, level, kind = struct.unpack_from("=Qii", control, at)
        if not 16 <= length <= len(control) - at:
            return
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            yield from range(at + 16, at + length - 3, 4)
        at += -(-length // 8) * 8


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_char_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


def _send(fd: int, data: bytes, flags: int, address: Address, control: bytes) -> int:
    if flags & _MSG_ZEROCOPY:
        raise OSError(Errno.ENOBUFS, "our copy does not live that long")  # Programs then send without it.
    held = ctypes.create_string_buffer(data, len(data) or 1)
    iov = (ctypes.c_size_t * 2)(ctypes.addressof(held), len(data))
    header = _Header(
        address.raw or None, len(address.raw), ctypes.addressof(iov), 1, control or None, len(control), 0
    )  # fmt: skip
    return checked(_libc.sendmsg(fd, ctypes.byref(header), int(flags) | socket.MSG_NOSIGNAL))


_ACTIONS = {"connect": _connect, "sendto": _sendto, "sendmsg": _sendmsg, "sendmmsg": _sendmmsg}
