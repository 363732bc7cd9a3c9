"""Running a function in a forked child whose rights have been cut down first."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)

NUMBERS = {
    "x86_64": {
        "ptrace": 101,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "seccomp": 317,
        "io_uring_setup": 425,
    }
    | {"pidfd_getfd": 438, "clone3": 435},
    "aarch64": {"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277}
    | {"io_uring_setup": 425, "pidfd_getfd": 438, "clone3": 435},
}[platform.machine()]

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
USER_NOTIF = 0x7FC00000
KILL_PROCESS = 0x80000000
NEW_LISTENER = 1 << 3

UNUSED_NUMBER = 4095


def install_filter(actions: dict[str | int, int], flags: int = 0) -> int:
    """Answer each named call with its action and allow the rest; return what seccomp(2) returns."""
    code = [(0x20, 0, 0, 0)]
    for name, action in actions.items():
        number = NUMBERS[name] if isinstance(name, str) else name
        code += [(0x15, 0, 1, number), (0x06, 0, 0, action)]
    code.append((0x06, 0, 0, ALLOW))
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    memory = ctypes.create_string_buffer(program)
    fprog = struct.pack("HP", len(code), ctypes.addressof(memory))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    result: int = libc.syscall(NUMBERS["seccomp"], 1, flags, fprog)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def in_child(setup: Callable[[], Any], function: Callable[[], Any]) -> Any:
    """Return what *function* returned (through JSON) in a child that ran *setup* first."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # A thread of an earlier test may still be on its way out.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            setup()
            data = json.dumps(function()).encode()
            with open(writer, "wb") as stream:
                stream.write(data)
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as stream:
        data = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"the confined child ended with {status}"
    return json.loads(data)


def become_nobody() -> None:
    """Give up root, where we are root at all."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        # Changing ids has made the process undumpable, as no program that a user starts would be.
        libc.prctl(4, 1, 0, 0, 0)


def enter_user_namespace() -> None:
    """Become root of a new user namespace that maps this user alone."""
    user = os.geteuid()
    assert libc.unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
    with open("/proc/self/setgroups", "w") as stream:
        stream.write("deny")
    with open("/proc/self/uid_map", "w") as stream:
        stream.write(f"0 {user} 1")
