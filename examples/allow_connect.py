"""Let a program connect only where a list allows, and log everything else.

    trapline run -s examples/allow_connect.py --set 'allow=127.0.0.0/8 [::1]:443 10.1.2.3:53' -- CMD

``allow`` holds addresses or networks with an optional port, and ``unix:GLOB`` for socket files (``unix:@GLOB`` for
abstract ones). What is not on it fails with EACCES and is a line on standard error or in ``--set log=FILE``.

This is a boundary, and here is why. To look at an address and then let the kernel go on would be none: the kernel
reads the address again, and another thread may have changed it, or the descriptor, in between. So no call with an
address goes on. This process takes a copy of the caller's *socket* (the same open file: blocking or not, EINPROGRESS
and all options are the caller's), copies address and data once, judges that copy and acts with it.

Covered: connect, sendto (with MSG_FASTOPEN), sendmsg, sendmmsg; also by i386 socketcall. io_uring is refused by trapline.
Netlink is always allowed. Not covered: connections that come in, SCTP's own setsockopt way to connect, and other
processes of the same user that the program may trace or ask to connect in its place (list ``unix:`` with care). On the
other side of a Unix socket SO_PEERCRED names this process. A signal that the program handles does not interrupt a
blocking connect.
"""

import ctypes
import fnmatch
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import trapline
from trapline import CallGoneError, Errno, abi
from trapline.abi import structs

allow = trapline.option("allow", "127.0.0.0/8 [::1]", "ADDRESS[/BITS][:PORT] and unix:GLOB, separated by spaces")
log_file = trapline.option("log", "", "append to this file instead of standard error")

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD = abi.number("pidfd_getfd")
_log = open(log_file, "a", buffering=1) if log_file else sys.stderr  # noqa: SIM115
_MOST_BYTES = 1 << 20  # of one send; a stream then goes on with the rest


def parse(entry: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]:
    host, _, port = entry.removeprefix("[").partition("]:") if "]" in entry else entry.partition(":")
    return ipaddress.ip_network(host.rstrip("]"), strict=False), int(port) if port else None


_globs = [entry.removeprefix("unix:") for entry in allow.split() if entry.startswith("unix:")]
_networks = [parse(entry) for entry in allow.split() if not entry.startswith("unix:")]


def is_allowed(host: str, port: int) -> bool:
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_unspecified:  # Linux connects to loopback then.
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return any([address in network and wanted in (None, port) for network, wanted in _networks])


class Target:
    """An address, copied once: what it means, whether it is allowed, and how this process says it."""

    def __init__(self, call: trapline.Call, pointer: int, length: int) -> None:
        if not 0 <= length <= 128:
            raise OSError(Errno.EINVAL, "address length")
        self.raw = call.read(pointer, length) if length else b""
        self.held = -1
        family = int.from_bytes(self.raw[:2], sys.byteorder)
        if family == socket.AF_INET and length >= 8:
            host, port = socket.inet_ntop(family, self.raw[4:8]), int.from_bytes(self.raw[2:4], "big")
            self.text, self.allowed = f"{host}:{port}", is_allowed(host, port)
        elif family == socket.AF_INET6 and length >= 24:
            host, port = socket.inet_ntop(family, self.raw[8:24]), int.from_bytes(self.raw[2:4], "big")
            self.text, self.allowed = f"[{host}]:{port}", is_allowed(host, port)
        elif family == socket.AF_UNIX and length > 2:
            self._find(call)
        else:
            # No address; connect's AF_UNSPEC, which disconnects (a send takes it for AF_INET!); netlink: the kernel's own.
            self.text = f"family {family}"
            ends = family == socket.AF_UNSPEC and call.name == "connect"
            self.allowed = not length or ends or family == socket.AF_NETLINK

    def _find(self, call: trapline.Call) -> None:
        path = self.raw[2:]
        if path[:1] != b"\0":
            # Held open, so that nobody can put another file in its place; /proc then names just this one.
            if os.stat(f"/proc/{call.pid}").st_uid != os.geteuid():
                raise OSError(Errno.EACCES, "our rights are not the caller's")
            name = os.fsdecode(path.split(b"\0")[0])
            base = "root" if name.startswith("/") else "cwd"
            self.held = os.open(f"/proc/{call.pid}/{base}/{name.lstrip('/')}", os.O_PATH)
            self.raw = struct.pack("=H", socket.AF_UNIX) + f"/proc/self/fd/{self.held}\0".encode()
            path = os.readlink(f"/proc/self/fd/{self.held}").encode()
        self.text = "unix:" + os.fsdecode(path).replace("\0", "@")
        self.allowed = any([fnmatch.fnmatchcase(self.text[5:], glob) for glob in _globs])

    def close(self) -> None:
        if self.held >= 0:
            os.close(self.held)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "on behalf of the caller")
    return result


def take(call: trapline.Call, fd: int) -> int:
    """Return a copy of the caller's descriptor: from here on nobody can swap it."""
    try:
        pidfd = os.pidfd_open(call.pid)
    except ProcessLookupError:
        raise CallGoneError(f"thread {call.tid} is gone") from None
    try:
        return checked(_libc.syscall(_PIDFD_GETFD, pidfd, fd, 0))
    finally:
        os.close(pidfd)


def on_behalf(call: trapline.Call, pointer: int, length: int, act: Callable[[int, Target], int]) -> int:
    """Judge an address and act with a copy of the caller's socket; the result is the kernel's."""
    target = Target(call, pointer, length)
    fd = -1
    try:
        if not target.allowed:
            process = call.process
            print(f"allow_connect: refused {call.name} to {target.text} by {process.comm}[{call.pid}]", file=_log)
            raise OSError(Errno.EACCES, "not on the list")
        fd = take(call, call.args.fd)
        if not call.waits():  # Its process may have ended, and the id be another's.
            raise CallGoneError(f"thread {call.tid} is gone")
        return act(fd, target)
    finally:
        target.close()
        if fd >= 0:
            os.close(fd)


def connect(call: trapline.Call) -> int:
    def act(fd: int, target: Target) -> int:
        return checked(_libc.connect(fd, target.raw, len(target.raw)))

    return on_behalf(call, call.args.uservaddr, call.args.addrlen, act)


def sendto(call: trapline.Call) -> int:
    data = call.read(call.args.buff, min(call.args.len, _MOST_BYTES)) if call.args.len else b""

    def act(fd: int, target: Target) -> int:
        return _send(fd, data, call.args.flags, target, b"")

    return on_behalf(call, call.args.addr, call.args.addr_len if call.args.addr else 0, act)


def sendmsg(call: trapline.Call) -> int:
    return _one_message(call, call.read_struct("msghdr", call.args.msg))


def sendmmsg(call: trapline.Call) -> int:
    size, done = structs.sizeof("mmsghdr", call.arch), 0
    try:
        for at in range(call.args.mmsg, call.args.mmsg + min(call.args.vlen, 1024) * size, size):
            sent = _one_message(call, call.read_struct("mmsghdr", at).msg_hdr)
            call.write(at + structs.sizeof("msghdr", call.arch), sent.to_bytes(4, sys.byteorder))
            done += 1
    except OSError:
        if not done:
            raise
    return done


def _one_message(call: trapline.Call, header: Any) -> int:
    size, data = structs.sizeof("iovec", call.arch), b""
    for part in structs.unpack_all("iovec", call.read(header.msg_iov, min(header.msg_iovlen, 1024) * size), call.arch):
        wanted = min(part.iov_len, _MOST_BYTES - len(data))
        data += call.read(part.iov_base, wanted) if wanted else b""
    control = bytearray(call.read(header.msg_control, min(header.msg_controllen, 1 << 16)))
    if control and call.arch == "i386":
        raise OSError(Errno.EOPNOTSUPP, "32-bit ancillary data has another layout")
    passed = []

    def act(fd: int, target: Target) -> int:
        for at in _rights(control):
            passed.append(take(call, int.from_bytes(control[at : at + 4], sys.byteorder)))
            control[at : at + 4] = passed[-1].to_bytes(4, sys.byteorder)
        return _send(fd, data, call.args.flags, target, bytes(control))

    try:
        return on_behalf(call, header.msg_name, header.msg_namelen if header.msg_name else 0, act)
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
        ("name", ctypes.c_char_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_char_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


def _send(fd: int, data: bytes, flags: int, target: Target, control: bytes) -> int:
    held = ctypes.create_string_buffer(data, len(data) or 1)
    iov = (ctypes.c_size_t * 2)(ctypes.addressof(held), len(data))
    header = _Header(
        target.raw or None, len(target.raw), ctypes.addressof(iov), 1, control or None, len(control), 0
    )  # fmt: skip
    return checked(_libc.sendmsg(fd, ctypes.byref(header), int(flags) | socket.MSG_NOSIGNAL))


_ACTIONS = {"connect": connect, "sendto": sendto, "sendmsg": sendmsg, "sendmmsg": sendmmsg}


def answer(call: trapline.Call) -> object:
    action = _ACTIONS.get(call.name)
    if action is None:
        return None
    try:
        return call.reply(action(call))
    except OSError as error:
        return call.fail(error.errno or Errno.EIO)


# A plain send() is sendto without an address: a register, which nobody can change. Inside socketcall it is memory.
trapline.on("connect", "sendmsg", "sendmmsg", "socketcall")(answer)
trapline.on("sendto", when=trapline.arg("addr") != 0)(answer)
