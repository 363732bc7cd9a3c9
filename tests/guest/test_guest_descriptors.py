"""A guest has this process's descriptors, and yet neither gets in the other's way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from machine_calls import GETPPID, call_of

from trapline import Errno, on

CLOSE, DUP2, FCNTL, CLOSE_RANGE = 3, 33, 72, 436
F_SETFD, FD_CLOEXEC = 2, 1


@pytest.fixture
def calls(assemble):
    """``calls(guest, number, ...)``: the result of one call that the guest makes."""

    def make(g, number, *args):
        return g.call(g.arena.load_code(assemble(call_of(number))), *args)

    return make


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_descriptors_come_and_go_as_natively(same, victim, kind):
    """Those that are closed on exec too, with all that a program may find closed by it at the end."""
    same(victim("guest/descriptors", kind))


REDIRECTS = """
    exec 3>$0 4>&1 5<&0
    for n in 6 7 8 9; do eval "exec $n>&4"; echo $n >&$n; done
    echo $PPID >&3
    read x <$0; echo $x
"""


def test_a_shell_redirects_whatever_numbers_it_likes(run, busybox, tmp_path):
    """What is ours is far away: the event loop of hooks and what a script has opened, too."""
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "from trapline import on\n"
        "kept = open(__file__)\n"
        "@on('getppid')\n"
        "async def look(call): return call.reply(len(kept.read(4)))\n"
    )
    command = (busybox, "sh", "-c", REDIRECTS, str(tmp_path / "file"))
    assert run(*command, options=("-s", str(hooks))) == (0, b"6\n7\n8\n9\n4\n", b"")


def test_a_guest_closes_what_it_was_given_by_number(run, busybox, tmp_path):
    (tmp_path / "given").write_text("by number\n")
    given = os.open(tmp_path / "given", os.O_RDONLY)
    command = (busybox, "sh", "-c", 'read x <&"$0"; echo $x; eval "exec $0<&-"; read x <&"$0"', str(given))
    try:
        status, output, said = run(*command, pass_fds=(given,))
    finally:
        os.close(given)
    assert (status, output) == (1, b"by number\n")
    assert b"Bad file descriptor" in said


def test_descriptors_of_this_process_are_not_the_guests_to_close(guest, calls, tmp_path):
    """What is closed on exec is not there for a program that is executed, and so not for a guest."""
    with open(tmp_path / "ours", "wb") as file:
        given = os.dup(file.fileno())
        os.set_inheritable(given, True)
        g = guest()
        for _ in range(40):
            assert calls(g, CLOSE, file.fileno()) == -Errno.EBADF
        assert calls(g, DUP2, given, file.fileno()) == -Errno.EBUSY
        assert calls(g, FCNTL, file.fileno(), F_SETFD, 0) == -Errno.EBADF
        assert calls(g, FCNTL, file.fileno(), F_SETFD, FD_CLOEXEC) == 0
        assert calls(g, CLOSE_RANGE, *sorted((file.fileno(), given)), 0) == 0
        assert file.write(b"still here") == 10
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given)


def test_nor_are_those_that_it_opens_while_the_guest_runs(guest, calls, tmp_path):
    """A hook opens a file between two calls, on a number that the guest had a moment ago."""
    files = []

    @on("getppid")
    def open_one(call):
        files.append(open(tmp_path / "ours", "wb"))
        return call.reply(files[-1].fileno())

    g = guest(hooks=[open_one])
    number = calls(g, 319, g.arena.map(4096), 1)  # memfd_create, closed on exec
    assert calls(g, CLOSE, number) == 0
    assert calls(g, GETPPID) == number
    assert calls(g, CLOSE, number) == -Errno.EBADF
    assert calls(g, CLOSE_RANGE, number, number, 0) == 0
    with files[0]:
        assert files[0].write(b"still here") == 10


def test_a_descriptor_that_a_hook_answers_with_is_the_guests(guest, calls):
    @on("open")
    def serve(call):
        return call.reply(os.open("/dev/null", os.O_RDONLY))

    @on("openat")
    async def serve_later(call):
        await asyncio.sleep(0)
        return call.reply_fd(b"from python")

    g = guest(hooks=[serve, serve_later])
    page = g.arena.map(4096)
    for number, args in ((2, (page, 0o2000000)), (257, (0, page, 0o2000000))):
        fd = calls(g, number, *args)
        assert calls(g, CLOSE, fd) == 0
        assert calls(g, CLOSE, fd) == -Errno.EBADF


def test_a_program_that_has_ended_has_nothing_open(guest_engine, victim):
    """Of what it has opened; this process still has what it had, and what rewriting reads is open in its own table."""
    script = (
        "import os, sys\n"
        "from trapline.guest import Guest, Linux\n"
        "def live(own_files):\n"
        "    with Guest(engine=sys.argv[1], personality=Linux(own_files=own_files)) as guest:\n"
        "        guest.load(sys.argv[2])\n"
        "        assert guest.run() == 0\n"
        "live(True)\n"
        "live(False)\n"
        "ours = open('/dev/null')\n"
        "before = os.listdir('/proc/self/fd')\n"
        "for own_files in (False, True) * 3: live(own_files)\n"
        "after = os.listdir('/proc/self/fd')\n"
        "assert after == before, (before, after)\n"
        "os.fstat(ours.fileno())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, guest_engine, victim("guest/descriptors")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
