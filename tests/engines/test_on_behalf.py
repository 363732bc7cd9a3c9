"""Opening files for a caller: with its eyes and its rights, and nobody can change what was judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys as python
import tempfile
from pathlib import Path

import pytest

import trapline
from trapline import UsageError, on

NOBODY = 65534


@pytest.fixture
def shared():
    """A folder that everybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="trapline-behalf-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def opener(shared):
    """Open on behalf whatever lies under the folder, and count it."""
    opened = []

    @on("open", "openat", "openat2", "creat")
    def hook(call):
        if call.path is None or not call.path.startswith(("/jailed", str(shared))):
            return None
        opened.append(call.path)
        try:
            fd = call.open_for_caller()
        except OSError as error:
            return call.fail(error.errno)
        try:
            return call.reply_fd(fd)
        finally:
            os.close(fd)

    hook.opened = opened
    return hook


def both(command, opener, engine, **options):
    """Run natively and with every open done on behalf; return what both agree on."""
    settings = {"capture_output": True, "text": True, **options}
    native = subprocess.run(command, **settings)
    ours = trapline.run(command, hooks=[opener], engine=engine, **settings)
    assert opener.opened
    assert (ours.returncode, ours.stdout, ours.stderr) == (native.returncode, native.stdout, native.stderr)
    return ours


def as_nobody(*command, groups="--clear-groups"):
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as somebody else")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", groups, *command]


def test_a_file_is_opened_from_the_callers_directory(engine, shared, opener):
    (shared / "file").write_text("from here\n")
    assert both(["cat", "file"], opener, engine, cwd=shared).stdout == "from here\n"


def test_a_descriptor_of_the_caller_is_where_a_relative_path_starts(engine, shared, opener):
    (shared / "file").write_text("by descriptor\n")
    directory = f"os.open({str(shared)!r}, os.O_DIRECTORY)"
    program = f"import os; print(os.read(os.open('file', 0, dir_fd={directory}), 99))"
    assert "by descriptor" in both([python.executable, "-c", program], opener, engine).stdout


def test_what_the_callers_user_may_not_read_is_refused_although_root_opens(engine, shared, opener):
    secret = shared / "secret"
    secret.write_text("for root\n")
    secret.chmod(0o600)
    assert "Permission denied" in both(as_nobody("cat", str(secret)), opener, engine).stderr


def test_a_supplementary_group_of_the_caller_counts(engine, shared, opener):
    secret = shared / "secret"
    secret.write_text("for the group\n")
    secret.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(secret, 0, 12345)
    allowed = both(as_nobody("cat", str(secret), groups="--groups=12345"), opener, engine)
    assert allowed.stdout == "for the group\n"
    assert (
        "Permission denied"
        in both(as_nobody("cat", str(secret), groups="--groups=54321"), opener, engine).stderr
    )


def test_root_without_capabilities_is_refused_as_natively(engine, shared, opener):
    secret = shared / "secret"
    secret.write_text("for nobody\n")
    secret.chmod(0)
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities to drop")
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", "cat", str(secret)]
    assert "Permission denied" in both(bare, opener, engine).stderr
    assert both(["cat", str(secret)], opener, engine).stdout == "for nobody\n"


def test_a_new_file_gets_the_callers_owner_and_umask(engine, shared, opener):
    if os.geteuid() == 0:
        os.chown(shared, NOBODY, NOBODY)
    trapline.run(
        as_nobody("sh", "-c", f"umask 027; : > {shared}/made"), hooks=[opener], engine=engine, check=True
    )
    found = (shared / "made").stat()
    assert opener.opened
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (NOBODY, NOBODY, 0o640)


def test_a_callers_own_root_directory_is_where_paths_and_links_begin(engine, shared, opener):
    if os.geteuid() != 0:
        pytest.skip("only root can change its root directory")
    (shared / "jailed").write_text("inside\n")
    (shared / "jailed-link").symlink_to("/jailed")
    program = (
        f"import os; os.chroot({str(shared)!r}); os.chdir('/');"
        "print(os.read(os.open('/jailed', 0), 99), os.read(os.open('/jailed-link', 0), 99))"
    )
    assert both([python.executable, "-c", program], opener, engine).stdout.count("inside") == 2


def test_resolve_flags_of_openat2_hold(engine, shared, opener, victim, sys):
    (shared / "below").mkdir()
    (shared / "file").write_text("above\n")
    program = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True);"
        f"d = os.open({str(shared / 'below')!r}, os.O_DIRECTORY); how = (ctypes.c_uint64 * 3)(0, 0, RESOLVE);"
        "r = libc.syscall(437, d, b'../file', how, 24); print(r >= 0, ctypes.get_errno())"
    )
    for resolve, said in (("0", "True 0"), ("8", "False 18")):
        command = [python.executable, "-c", program.replace("RESOLVE", resolve)]
        assert both(command, opener, engine).stdout.strip() == said


def test_proc_self_is_the_callers_own(engine):
    @on("openat")
    def hook(call):
        if call.path != "/proc/self/comm":
            return None
        fd = call.open_for_caller()
        try:
            return call.reply_fd(fd)
        finally:
            os.close(fd)

    assert (
        trapline.run(["cat", "/proc/self/comm"], hooks=[hook], engine=engine, capture_output=True).stdout
        == b"cat\n"
    )


def test_another_path_can_be_opened_in_the_same_way(engine, shared):
    (shared / "other").write_text("instead\n")

    @on("openat")
    def hook(call):
        if call.path != "/etc/hostname":
            return None
        fd = call.open_for_caller(f"{shared}/other")
        try:
            return call.reply_fd(fd)
        finally:
            os.close(fd)

    done = trapline.run(["cat", "/etc/hostname"], hooks=[hook], engine=engine, capture_output=True, text=True)
    assert done.stdout == "instead\n"


def test_a_path_that_changes_while_it_is_judged_gains_nothing(engine, shared, victim):
    (shared / "a").write_text("fair\n")
    (shared / "b").write_text("secret\n")
    judged = []

    @on("openat")
    def hook(call):
        if call.path is None or not call.path.startswith(str(shared)):
            return None
        fd = call.open_for_caller()
        try:
            judged.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
            return call.reply_fd(fd) if judged[-1] == "a" else call.fail(trapline.Errno.EACCES)
        finally:
            os.close(fd)

    command = [victim("race_open"), f"{shared}/a", f"{shared}/b", "2000"]
    done = trapline.run(command, hooks=[hook], engine=engine, capture_output=True, text=True)
    fair, secret, refused = map(int, done.stdout.split())
    assert secret == 0
    assert fair == judged.count("a")
    assert refused == judged.count("b")
    assert len(judged) == 2000


def test_this_process_stays_as_it_is(engine, shared, opener):
    (shared / "file").write_text("x")
    before = (os.getcwd(), os.geteuid(), os.getgroups(), os.umask(0o22))
    trapline.run(
        ["sh", "-c", f"umask 077; cd /; cat {shared}/file"],
        hooks=[opener],
        engine=engine,
        stdout=trapline.DEVNULL,
    )
    assert opener.opened
    assert (os.getcwd(), os.geteuid(), os.getgroups(), os.umask(before[3])) == (*before[:3], 0o22)


def test_a_descriptor_that_cannot_be_handed_over_is_refused_as_such(engine, shared, opener):
    program = f"import os; os.open({str(shared)!r}, os.O_PATH)"
    done = trapline.run(
        [python.executable, "-c", program], hooks=[opener], engine=engine, capture_output=True
    )
    assert b"Operation not supported" in done.stderr


def test_a_call_that_opens_nothing_is_told_so(engine):
    @on("getppid")
    def hook(call):
        with pytest.raises(UsageError, match="not for getppid"):
            call.open_for_caller()
        return call.reply(7)

    command = [python.executable, "-c", "import os; print(os.getppid())"]
    assert trapline.run(command, hooks=[hook], engine=engine, capture_output=True).stdout == b"7\n"
