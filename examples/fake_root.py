"""Let a program believe that it is root: build archives and packages whose files belong to root.

    trapline run -s examples/fake_root.py -- id
    trapline run -s examples/fake_root.py -- tar cf site.tar public/

User and group ids are 0, every file belongs to root, and chown succeeds and is remembered (by device and
inode, for as long as the program runs) without changing a thing on disk. Nothing is permitted that was not
before: opening a file, binding a port, killing a process fail as ever. Works for static programs too, where
an LD_PRELOAD does not.

Not covered: access(2), which answers for the real user; device nodes; capabilities; ids inside ACLs. Files
are looked at with this process's own rights, so run it as the user that the program runs as.
"""

import os
import stat

import trapline
from caller_files import follows_links, name_for, reply_stat

#: What chown was told, by device and inode.
_owners: dict[tuple[int, int], tuple[int, int]] = {}
_KEEP = 0xFFFFFFFF


@trapline.on("getuid", "geteuid", "getgid", "getegid", "getuid32", "geteuid32", "getgid32", "getegid32")
def get_id(call: trapline.Call) -> object:
    return call.reply(0)


@trapline.on("getresuid", "getresgid", "getresuid32", "getresgid32")
def get_three_ids(call: trapline.Call) -> object:
    size = 2 if call.arch == "i386" and not call.name.endswith("32") else 4
    for address in call.args:
        call.write(address, bytes(size))
    return call.reply(0)


@trapline.on("getgroups", "getgroups32")
def get_groups(call: trapline.Call) -> object:
    size = 2 if call.name == "getgroups" and call.arch == "i386" else 4
    if call.args.gidsetsize:
        call.write(call.args.grouplist, bytes(size))
    return call.reply(1)


@trapline.on(
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid",
    "setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setgroups32",
)  # fmt: skip
def set_ids(call: trapline.Call) -> object:
    return call.reply(0)


@trapline.on("stat", "lstat", "fstat", "newfstatat", "stat64", "lstat64", "fstat64", "fstatat64", "statx")
def show_owner(call: trapline.Call) -> object:
    try:
        found = os.stat(name_for(call), follow_symlinks=follows_links(call))
        uid, gid = _owners.get((found.st_dev, found.st_ino), (0, 0))
        return reply_stat(call, found, st_uid=uid, st_gid=gid)
    except OSError:
        return None  # The kernel knows best how to say that.


@trapline.on("chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32")
def change_owner(call: trapline.Call) -> object:
    try:
        found = os.stat(name_for(call), follow_symlinks=follows_links(call))
    except OSError:
        return None
    key = (found.st_dev, found.st_ino)
    wanted = (call.args.user & _KEEP, call.args.group & _KEEP)
    had = _owners.get(key, (0, 0))
    _owners[key] = tuple([old if new == _KEEP else new for old, new in zip(had, wanted, strict=True)])  # type: ignore[assignment]
    return call.reply(0)


#: Calls that may remove a file, and which of their paths names it. Its inode is somebody else's soon.
_REMOVERS = {"unlink": 0, "unlinkat": 0, "rmdir": 0, "rename": 1, "renameat": 1, "renameat2": 1}


@trapline.on(*_REMOVERS)
def forget_owner(call: trapline.Call) -> object:
    if call.name == "renameat2" and call.args.flags:
        return None  # Both names stay, or the call fails rather than replace.
    try:
        found = os.lstat(name_for(call, _REMOVERS[call.name]))
    except OSError:
        return None
    if found.st_nlink == 1 or stat.S_ISDIR(found.st_mode):
        _owners.pop((found.st_dev, found.st_ino), None)
    return None
