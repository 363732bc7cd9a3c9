"""Looking at files on behalf of a caller: a module for the examples beside it, no hooks file.

A hook that answers ``stat`` or ``open`` itself must mean the file that the caller means, so names go
through the caller's own root, working directory and descriptors, as /proc shows them.
"""

import os

import trapline
from trapline.abi import structs

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
STATX_BASIC_STATS = 0x7FF

#: What is somebody else's when this process looks, links to it included.
_OWN = (
    ("/proc/self", ""), ("/proc/thread-self", ""), ("/dev/fd", "/fd"),
    ("/dev/stdin", "/fd/0"), ("/dev/stdout", "/fd/1"), ("/dev/stderr", "/fd/2"),
)  # fmt: skip


def name_for(call: trapline.Call, which: int = 0) -> str:
    """Return where this process finds what a path argument of the call, or its descriptor, names.

    :raises OSError: the path cannot be read, or names nothing.
    """
    here = f"/proc/{call.tid}"
    paths = call.signature.paths
    if not paths:
        return f"{here}/fd/{call.args.fd}"
    param = paths[which]
    address = call.raw[param.index]
    name = call.read_str(address) if address else ""
    if name.startswith("/"):
        for own, place in _OWN:
            if name == own or name.startswith(f"{own}/"):
                return f"/proc/{call.pid}{place}{name[len(own) :]}"
        return f"{here}/root{name}"
    dirfd = getattr(call.args, param.dirfd) if param.dirfd else AT_FDCWD
    base = f"{here}/cwd" if dirfd == AT_FDCWD else f"{here}/fd/{dirfd}"
    if name:
        return f"{base}/{name}"
    flags = param.empty_flag
    if address and not (flags and getattr(call.args, flags[0]) & flags[1]):
        raise FileNotFoundError(2, "an empty path without AT_EMPTY_PATH")
    return base


def follows_links(call: trapline.Call) -> bool:
    """Whether the call means what a symbolic link points to. A descriptor always is the file itself."""
    if call.name.startswith(("lstat", "lchown", "readlink", "oldlstat")):
        return False
    for param in call.signature.params:
        if param.name in ("flag", "flags") and call.signature.paths:
            address = call.raw[call.signature.paths[0].index]
            empty = not address or not call.read_str(address)
            return empty or not getattr(call.args, param.name) & AT_SYMLINK_NOFOLLOW
    return True


def reply_stat(call: trapline.Call, found: os.stat_result, **changes: int) -> object:
    """Answer a call of the stat family; *changes* are members such as ``st_uid``."""
    params = {param.name: param for param in call.signature.params}
    times = {name: getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
    if "buffer" in params:
        members: dict[str, object] = {"stx_mask": STATX_BASIC_STATS}
        for name in ("mode", "ino", "nlink", "uid", "gid", "size", "blksize", "blocks"):
            members[f"stx_{name}"] = changes.get(f"st_{name}", getattr(found, f"st_{name}"))
        for name in ("dev", "rdev"):
            members[f"stx_{name}_major"] = os.major(getattr(found, f"st_{name}"))
            members[f"stx_{name}_minor"] = os.minor(getattr(found, f"st_{name}"))
        for name, value in times.items():
            members[f"stx_{name}"] = {"tv_sec": value // 10**9, "tv_nsec": value % 10**9}
        call.write_struct("statx", call.args.buffer, **members)
        return call.reply(0)
    layout = params["statbuf"].struct or "stat"
    known = {field.name for field in structs.fields(layout, call.arch)}
    members = {name: getattr(found, name) for name in known if hasattr(found, name)}
    for name, value in times.items():
        members |= {f"st_{name}": value // 10**9, f"st_{name}_nsec": value % 10**9}
    members = {name: value for name, value in (members | changes).items() if name in known}
    if "__st_ino" in known:
        members["__st_ino"] = found.st_ino & 0xFFFFFFFF
    call.write_struct(layout, call.args.statbuf, **members)
    return call.reply(0)
