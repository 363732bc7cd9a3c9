"""Show a program another directory in the place of one: a second configuration, a fixture, a scratch copy.

    trapline run -s examples/redirect_directory.py --set from=/etc/ssl --set to=/tmp/my-ssl -- CMD

What is opened, looked at or read as a link under ``from`` is taken from ``to``; a directory that was opened
there is the other one, so listing it, and everything relative to it, needs no further help. The original
need not exist. Files are opened here and handed over in one step, so the answer cannot be raced.

Every other call that names something under ``from`` (unlink, rename, mkdir, chdir, execve, bind ...) fails
with EOPNOTSUPP rather than reach the original. Paths are compared as text: a symbolic link elsewhere that
leads into ``from``, or a descriptor that was open before, still reaches it, so this redirects and does not
confine.
"""

import os

import trapline
from caller_files import follows_links, reply_stat
from trapline import Errno, abi

source = os.path.normpath(trapline.option("from", "/nonexistent/from", "directory to stand in for, absolute"))
target = os.path.abspath(trapline.option("to", "/nonexistent/to", "directory that takes its place"))


def redirected(path: str | None) -> str | None:
    if path is None or not (path == source or path.startswith(source + "/")):
        return None
    return target + path[len(source) :]


def umask_of(call: trapline.Call) -> int:
    with open(f"/proc/{call.pid}/status", "rb") as file:
        return next((int(line.split()[1], 8) for line in file if line.startswith(b"Umask:")), 0o022)


def open_it(call: trapline.Call, path: str) -> object:
    if call.name == "openat2":
        return call.fail(
            Errno.ENOSYS
        )  # Its RESOLVE_ flags cannot be kept from here; programs fall back to openat.
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC if call.name == "creat" else int(call.args.flags)
    if flags & os.O_PATH:
        return call.fail(Errno.EOPNOTSUPP)  # The kernel hands over no such descriptors.
    mode = call.args.mode & ~umask_of(call) if flags & (os.O_CREAT | os.O_TMPFILE) else 0
    fd = os.open(path, flags | os.O_NOCTTY, mode & 0o7777)
    try:
        return call.reply_fd(fd)
    finally:
        os.close(fd)


def look(call: trapline.Call, path: str) -> object:
    return reply_stat(call, os.stat(path, follow_symlinks=follows_links(call)))


def check_access(call: trapline.Call, path: str) -> object:
    os.stat(path)
    return call.reply(0) if os.access(path, call.args.mode) else call.fail(Errno.EACCES)


def read_link(call: trapline.Call, path: str) -> object:
    text = os.fsencode(os.readlink(path))[: call.args.bufsiz]
    call.write(call.args.buf, text)
    return call.reply(len(text))


DOABLE = dict.fromkeys(("open", "openat", "openat2", "creat"), open_it)
DOABLE |= dict.fromkeys(("stat", "lstat", "newfstatat", "stat64", "lstat64", "fstatat64", "statx"), look)
DOABLE |= dict.fromkeys(("access", "faccessat", "faccessat2"), check_access)
DOABLE |= dict.fromkeys(("readlink", "readlinkat"), read_link)
ALL = {name for arch in ("x86_64", "i386") for name in abi.names(arch) if abi.signature(name, arch).paths}


@trapline.on(*sorted(ALL))
def redirect(call: trapline.Call) -> object:
    try:
        there = [path for path in map(redirected, call.paths) if path]
    except trapline.MemoryAccessError:
        return None  # A program that lets nobody look, such as ssh-agent, is left alone.
    if not there:
        return None
    do = DOABLE.get(call.name)
    if do is None:
        return call.fail(Errno.EOPNOTSUPP)
    try:
        return do(call, there[0])
    except OSError as error:
        return call.fail(error.errno or Errno.EIO)
