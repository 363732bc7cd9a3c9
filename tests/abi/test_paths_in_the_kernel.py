"""The path table against the running kernel: which calls follow a symbolic link in the last component.

A link that points to itself tells: whoever follows it gets ELOOP, whoever does not gets anything else.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trapline import abi
from trapline.abi import structs

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers used are x86_64's")

AT_FDCWD = (1 << 64) - 100
# Refused before the path is looked at: not in this kernel, not for this user, not without a descriptor.
EARLIER = {errno.ENOSYS, errno.EPERM, errno.EBADF}
PRIVILEGED = {"acct", "swapon", "swapoff", "pivot_root", "mount", "umount", "umount2", "move_mount", "fspick"}
PRIVILEGED |= {"mount_setattr", "open_tree_attr", "chroot"}
CALLS = [
    (name, param.name)
    for name in abi.names("x86_64")
    for param in abi.signature(name, "x86_64").paths
    # These want a valid command or descriptor first, or are no longer built: nothing can be learnt.
    if name not in ("quotactl", "fanotify_mark", "uselib")
    # Capabilities come before paths here.
    and (os.geteuid() == 0 or name not in PRIVILEGED)
]
# For these a link is ELOOP in either case: that is how O_NOFOLLOW and execveat refuse one.
ALWAYS_LOOP = {"open", "openat", "execveat"}
Issue = Callable[[str, str, int], int]


@pytest.fixture
def issue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issue:
    """Make a system call whose parameter *victim* is a looping link; returns the errno, 0 for success."""
    monkeypatch.chdir(tmp_path)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffers: list[ctypes.Array[ctypes.c_char]] = []

    def address(text: bytes) -> int:
        buffers.append(ctypes.create_string_buffer(text, 8192))
        return ctypes.addressof(buffers[-1])

    def argument(name: str, param: abi.Param, victim: str, flag: int) -> int:
        if param.name == victim:
            return address(b"loop")
        signature = abi.signature(name, "x86_64")
        if param.kind == "path":
            return address(b"other")
        if param.kind == "str":
            return address(b"user.trapline")
        if param.kind == "fd" and any(path.dirfd == param.name for path in signature.paths):
            return AT_FDCWD
        if (name, param.name) == ("mount_setattr", "uattr"):
            return address(structs.pack("mount_attr", "x86_64", attr_set=1))  # or it has nothing to do
        if (name, victim, param.name) == ("mount", "dev_name", "flags"):
            return 0x1000  # MS_BIND: the device is a path
        if param.pointer:
            return address(b"")
        sized = next((other for other in signature.params if other.size_of == param.name), None)
        if sized is not None:
            return structs.sizeof(sized.struct, "x86_64") if sized.struct else 64
        if (name, param.name) == ("inotify_add_watch", "fd"):
            return int(libc.inotify_init())
        if (name, param.name) == ("inotify_add_watch", "mask"):
            return flag | 2
        turn = signature.param(victim).follow_flag  # type: ignore[union-attr]
        return flag if turn and turn[0] == param.name else 0

    def call(name: str, victim: str, flag: int) -> int:
        for entry in tmp_path.iterdir():
            entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        os.symlink("loop", "loop")
        os.mkdir("other")
        params = abi.signature(name, "x86_64").params
        args = [argument(name, param, victim, flag) for param in params]
        result = libc.syscall(abi.number(name, "x86_64"), *map(ctypes.c_ulong, args))
        failure = ctypes.get_errno()
        if result >= 0 and abi.signature(name, "x86_64").returns == "fd":
            os.close(result)
        for param, value in zip(params, args, strict=True):
            if (name, param.name) == ("inotify_add_watch", "fd"):
                os.close(value)
        return 0 if result >= 0 else failure

    return call


@pytest.mark.parametrize(("name", "victim"), CALLS, ids=[f"{name}-{victim}" for name, victim in CALLS])
def test_links_are_followed_where_the_table_says(name: str, victim: str, issue: Issue) -> None:
    param = abi.signature(name, "x86_64").param(victim)
    assert param is not None
    found = issue(name, victim, 0)
    if param.follow and found in EARLIER:
        pytest.skip(f"{name} is refused before it looks: {errno.errorcode[found]}")
    assert (found == errno.ELOOP) == param.follow, errno.errorcode.get(found, found)
    if param.follow_flag is not None and name not in ALWAYS_LOOP:
        found = issue(name, victim, param.follow_flag[1])
        assert (found == errno.ELOOP) == (not param.follow), errno.errorcode.get(found, found)
