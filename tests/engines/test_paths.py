"""What ``path``, ``paths`` and ``fd_path`` say."""

from __future__ import annotations

import os

import pytest

from trapline import Errno, on

AT_EMPTY_PATH = 0x1000


@pytest.fixture
def path_of(calls):
    """Run the victim in a folder and return what the hook saw of each hooked call."""

    def run(words, *names, what=lambda call: call.path, **options):
        seen = []

        @on(*names)
        def hook(call):
            seen.append(what(call))

        calls(words, [hook], **options)
        return seen

    return run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("file", "{}/file"),
        ("./file", "{}/file"),
        ("sub/../file", "{}/file"),
        ("..", None),
        ("../../../../../../../../../../../..", "/"),
        (".", "{}"),
        ("./", "{}"),
        ("sub//deep///x", "{}/sub/deep/x"),
        ("sub/", "{}/sub"),
        ("/", "/"),
        ("//etc//hosts", "/etc/hosts"),
        ("/../etc/./hosts", "/etc/hosts"),
        ("/etc/...", "/etc/..."),
        ("a" * 4000, "{}/" + "a" * 4000),
    ],
)
def test_path_is_absolute_and_free_of_dots(engine, path_of, sys, tmp_path, name, expected):
    folder = str(tmp_path)
    expected = os.path.dirname(folder) if expected is None else expected.format(folder)
    assert path_of([sys("mkdir", f"s:{name}", 0)], "mkdir", cwd=folder, engine=engine) == [expected]


def test_a_path_relative_to_a_descriptor_is_resolved(engine, path_of, sys, tmp_path):
    (tmp_path / "sub").mkdir()
    words = [
        sys("open", f"s:{tmp_path}/sub", os.O_DIRECTORY),
        sys("openat", "$", "s:../file", 0),
        sys("openat", 3, "s:inside", 0),
        sys("openat", 3, "s:/absolute", 0),
    ]
    seen = path_of(words, "openat", engine=engine, cwd=tmp_path)
    assert seen[-3:] == [f"{tmp_path}/file", f"{tmp_path}/sub/inside", "/absolute"]


def test_upper_halves_of_a_dirfd_are_garbage(engine, path_of, sys, tmp_path):
    words = [
        sys("open", f"s:{tmp_path}", os.O_DIRECTORY),
        sys("openat", "0xdeadbeef00000003", "s:inside", 0),
        sys("openat", "0x77777777ffffff9c", "s:here", 0),
        sys("openat", "0xffffff9c", "s:here", 0),
    ]
    seen = path_of(words, "openat", engine=engine, cwd="/usr")
    assert seen[-3:] == [f"{tmp_path}/inside", "/usr/here", "/usr/here"]


def test_the_working_directory_is_the_caller_s_own(engine, path_of, sys, tmp_path):
    (tmp_path / "sub").mkdir()
    words = [
        "fork " + sys("chdir", "s:sub"),
        sys("mkdir", "s:x", 0),
        sys("chdir", "s:sub"),
        sys("mkdir", "s:x", 0),
    ]
    seen = path_of(words, "mkdir", cwd=tmp_path, engine=engine)
    assert seen == [f"{tmp_path}/x", f"{tmp_path}/sub/x"]


def test_calls_with_two_paths_give_both(engine, path_of, sys, tmp_path):
    words = [
        sys("rename", "s:a", "s:/b"),
        sys("renameat2", -100, "s:./a", -100, "s:b", 1),
        sys("link", "s:x", "s:y"),
    ]
    seen = path_of(
        words, "rename", "renameat2", "link", what=lambda call: call.paths, cwd=tmp_path, engine=engine
    )
    here = str(tmp_path)
    assert seen == [(f"{here}/a", "/b"), (f"{here}/a", f"{here}/b"), (f"{here}/x", f"{here}/y")]


def test_the_target_of_a_symlink_is_text_and_its_place_is_a_path(engine, path_of, sys, tmp_path):
    seen = path_of(
        [sys("symlink", "s:../target", "s:place")],
        "symlink",
        what=lambda call: call.paths,
        cwd=tmp_path,
        engine=engine,
    )
    assert f"{tmp_path}/place" in seen[0]


def test_calls_without_paths_have_none(engine, path_of, sys):
    seen = path_of([sys("getppid")], "getppid", what=lambda call: (call.path, call.paths), engine=engine)
    assert seen == [(None, ())]


@pytest.mark.parametrize("memory", ["0", "p:", "u:/etc/hosts", "l:5000", "s:"])
def test_a_path_that_the_kernel_will_refuse_is_none(engine, path_of, sys, memory):
    assert path_of([sys("mkdir", memory, 0)], "mkdir", engine=engine) == [None]


def test_a_bad_dirfd_is_none_and_paths_has_a_place_for_it(engine, path_of, sys):
    words = [sys("renameat2", 77, "s:a", -100, "s:/b", 0)]
    assert path_of(words, "renameat2", what=lambda call: call.paths, engine=engine) == [(None, "/b")]


def test_an_empty_path_means_the_descriptor_where_the_call_says_so(engine, path_of, sys, tmp_path):
    words = [
        sys("open", f"s:{tmp_path}", os.O_DIRECTORY),
        sys("newfstatat", 3, "s:", "b:256", AT_EMPTY_PATH),
        sys("newfstatat", 3, "s:", "b:256", 0),
        sys("statx", 3, "s:", AT_EMPTY_PATH, 0xFFF, "b:256"),
        sys("statx", -100, "s:", AT_EMPTY_PATH, 0xFFF, "b:256"),
    ]
    here = str(tmp_path)
    seen = path_of(words, "newfstatat", "statx", engine=engine, cwd="/usr")
    assert seen[-4:] == [here, None, here, "/usr"]


def test_a_deleted_working_directory_still_gives_an_answer(engine, calls, sys, tmp_path):
    (tmp_path / "gone").mkdir()
    seen = []

    @on("mkdir")
    def hook(call):
        seen.append(call.path)
        return call.fail(Errno.EIO)

    words = [sys("chdir", f"s:{tmp_path}/gone"), sys("rmdir", f"s:{tmp_path}/gone"), sys("mkdir", "s:x", 0)]
    assert calls(words, [hook], engine=engine) == ["0", "0", "-5"]
    assert seen[0] is None or seen[0].startswith(f"{tmp_path}/gone")


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot(2) needs root")
def test_paths_are_as_the_caller_s_root_sees_them(engine, calls, sys, tmp_path):
    (tmp_path / "root" / "etc").mkdir(parents=True)
    seen = []

    @on("mkdir", "openat")
    def hook(call):
        seen.append(call.path)

    words = [
        sys("chroot", f"s:{tmp_path}/root"),
        sys("chdir", "s:/etc"),
        sys("mkdir", "s:made", 0o755),
        sys("mkdir", "s:/made", 0o755),
        sys("mkdir", "s:../../../../up", 0o755),
        sys("open", "s:/etc", os.O_DIRECTORY),
        sys("openat", "$", "s:x", 0),
    ]
    assert calls(words, [hook], engine=engine)[:5] == ["0"] * 5
    assert seen[-4:] == ["/etc/made", "/made", "/up", "/etc/x"]


def test_fd_path_names_what_a_descriptor_points_to(engine, calls, sys, tmp_path):
    (tmp_path / "file").write_text("x")
    seen = []

    @on("getppid")
    def hook(call):
        seen.extend(call.fd_path(fd) for fd in (3, 4, 5, 77, -1, -100))
        return call.reply(0)

    words = [
        sys("open", f"s:{tmp_path}/file", 0),
        sys("memfd_create", "s:name", 0),
        sys("eventfd2", 0, 0),
        sys("unlink", f"s:{tmp_path}/file"),
        sys("getppid"),
    ]
    calls(words, [hook], engine=engine, cwd="/usr")
    assert seen == [
        f"{tmp_path}/file (deleted)",
        "/memfd:name (deleted)",
        "anon_inode:[eventfd]",
        None,
        None,
        "/usr",
    ]


def test_the_path_of_an_exec_is_known_before_it_happens(engine, calls, sys):
    seen = []

    @on("execve", "execveat")
    def hook(call):
        seen.append((call.path, call.process.exe))

    getpid = sys("getpid").replace(" ", "_")
    calls([f"exec {getpid}"], [hook], engine=engine)
    victim = calls.done.args[0]
    assert seen[1] == (victim, victim)
    assert seen[0][0] == victim


@pytest.mark.parametrize("relative", ["", "./", "sub/../"])
def test_deciding_by_path_cannot_be_dodged_by_spelling(engine, calls, sys, tmp_path, relative):
    (tmp_path / "sub").mkdir()
    (tmp_path / "secret").write_text("x")

    @on("open", "openat", "openat2")
    def hook(call):
        return call.fail(Errno.EACCES) if call.path == f"{tmp_path}/secret" else None

    words = [
        sys("open", f"s:{relative}secret", 0),
        sys("openat", -100, f"c:{relative}secret", 0),
        sys("openat2", -100, f"e:{relative}secret", "h:" + "00" * 24, 24),
    ]
    assert calls(words, [hook], engine=engine, cwd=tmp_path) == ["-13"] * 3
