"""Let a program connect only where a list allows, and log everything else.

    trapline run -s examples/allow_connect.py --set 'allow=127.0.0.0/8 [::1]:443 10.1.2.3:53' -- CMD

``allow`` holds addresses or networks with an optional port, and ``unix:GLOB`` for socket files
(``unix:@GLOB`` for abstract ones). What is not on it fails with EACCES and is a line on standard error or
in ``--set log=FILE``.

This is a boundary, and here is why. To look at an address and then let the kernel go on would be none: the
kernel reads the address again, and another thread may have changed it, or the descriptor, in between. So no
call with an address goes on. This process takes a copy of the caller's *socket* (the same open file:
blocking or not, EINPROGRESS and all options are the caller's), copies address and data once, judges that
copy and acts with it.

Covered: connect, sendto (with MSG_FASTOPEN), sendmsg, sendmmsg; also by i386 socketcall. io_uring is
refused by trapline. Netlink is always allowed. Not covered: connections that come in, SCTP's own setsockopt
way to connect, and other processes of the same user that the program may trace or ask to connect in its
place (list ``unix:`` with care). A program that has given up rights which this process has cannot use Unix
sockets; on their other side SO_PEERCRED names this process. A signal that the program handles does not
interrupt a blocking connect.
"""

import fnmatch
import ipaddress
import socket
import sys

import trapline
from caller_sockets import Address, answer

allow = trapline.option(
    "allow", "127.0.0.0/8 [::1]", "ADDRESS[/BITS][:PORT] and unix:GLOB, separated by spaces"
)
log_file = trapline.option("log", "", "append to this file instead of standard error")

_log = open(log_file, "a", buffering=1) if log_file else sys.stderr  # noqa: SIM115


def parse(entry: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]:
    host, _, port = entry.removeprefix("[").partition("]:") if "]" in entry else entry.partition(":")
    return ipaddress.ip_network(host.rstrip("]"), strict=False), int(port) if port else None


_globs = [entry.removeprefix("unix:") for entry in allow.split() if entry.startswith("unix:")]
_networks = [parse(entry) for entry in allow.split() if not entry.startswith("unix:")]


def is_allowed(call: trapline.Call, address: Address) -> bool:
    if address.path:
        return any(fnmatch.fnmatchcase(address.path, glob) for glob in _globs)
    if address.host:
        host = ipaddress.ip_address(address.host)
        host = getattr(host, "ipv4_mapped", None) or host
        if host.is_unspecified:  # Linux connects to loopback then.
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")
        return any(host in network and port in (None, address.port) for network, port in _networks)
    if address.family == socket.AF_UNSPEC:
        # A send without an address, or the end of an association; a send would take a real one for AF_INET.
        return not address.raw or call.name == "connect"
    return address.family == socket.AF_NETLINK


def judge(call: trapline.Call, address: Address) -> bool:
    allowed = is_allowed(call, address)
    if not allowed:
        process = call.process
        print(f"allow_connect: refused {call.name} to {address} by {process.comm}[{process.pid}]", file=_log)
    return allowed


@trapline.on("connect", "sendmsg", "sendmmsg", "socketcall")
def use_address(call: trapline.Call) -> object:
    return answer(call, judge)


# A plain send() is sendto without an address: a register, which cannot change. In socketcall it is memory.
@trapline.on("sendto", when=trapline.arg("addr") != 0)
def use_address_to_send(call: trapline.Call) -> object:
    return answer(call, judge)
