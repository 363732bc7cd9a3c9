"""Hooks that change what the kernel sees of a call, and nothing that its program sees."""

from __future__ import annotations

import os
import sys as python

import pytest

import trapline as library
from trapline import Errno, on, on_return


def run(command, hooks, engine, **options):
    return library.run(
        command, hooks=hooks, engine=engine, capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize("kind", ["dynamic", "32"])
@pytest.mark.parametrize("way", ["go on", "perform", "return"])
def test_the_kernel_gets_a_copy_and_the_caller_keeps_registers_and_memory(result_engine, victim, kind, way):
    @on("write", changes_args=True)
    def shout(call):
        data = call.read(call.args.buf, call.args.count)
        if data == b"hello\n":
            call.write_arg("buf", data.upper() + b"and more\n")
            call.write_arg("count", len(data) + 9)
            assert call.args.count == 15
            assert call.read(call.args.buf, 6) == b"HELLO\n"
            if way == "perform":
                assert call.perform() == 15

    @on_return("write")
    def see(call):
        return None

    hooks = [shout, see] if way == "return" else [shout]
    done = run([victim("untouched", kind), "write"], hooks, result_engine)
    assert done.stdout == "HELLO\nand more\nkept\n"


@pytest.mark.parametrize("kind", ["dynamic", "32"])
def test_a_child_starts_with_the_registers_of_its_parent_not_with_ours(result_engine, victim, kind):
    @on("fork", changes_args=True)
    def change(call):
        call.write_arg("arg0", 0x1234)
        call.write_arg("arg3", b"something")

    done = run([victim("untouched", kind), "fork"], [change], result_engine)
    assert done.stdout == "kept\nkept\n"


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 3 << 20])
def test_data_may_be_of_any_size(result_engine, tmp_path, size):
    @on("write", changes_args=True)
    def replace(call):
        if call.fd_path(call.args.fd) == str(tmp_path / "out"):
            call.write_arg("buf", b"z" * size)
            call.write_arg("count", size)

    code = f"import os; f = os.open({str(tmp_path / 'out')!r}, os.O_WRONLY | os.O_CREAT); print(os.write(f, b'abc'))"
    assert run([python.executable, "-c", code], [replace], result_engine).stdout == f"{size}\n"
    assert (tmp_path / "out").read_bytes() == b"z" * size


def test_a_name_may_be_changed_as_a_string(result_engine, tmp_path, calls, sys):
    (tmp_path / "other").write_text("the other one")

    @on("openat", changes_args=True)
    def redirect(call):
        if call.path == "/no/such/file":
            call.write_arg("filename", str(tmp_path / "other"))
            assert call.path == str(tmp_path / "other")

    assert calls([sys("openat", -100, "s:/no/such/file", 0), "cat $"], [redirect], engine=result_engine)[
        1
    ] == ("the other one")


def test_arguments_have_names_and_positions_and_others_are_refused(result_engine, calls, sys):
    @on("getpriority", changes_args=True)
    def hook(call):
        with pytest.raises(AttributeError, match="no parameter"):
            call.write_arg("whom", 1)
        with pytest.raises(ValueError, match="six"):
            call.write_arg(6, 1)
        call.write_arg(0, 77)
        call.write_arg("arg1", 1)

    assert calls([sys("getpriority", 0, 0)], [hook], engine=result_engine) == [str(-Errno.EINVAL)]


def mappings(pid):
    with open(f"/proc/{pid}/maps") as file:
        return len(file.readlines())


@pytest.mark.parametrize("decision", ["go on", "reply", "perform", "fail", "reply_fd", "execve"])
def test_nothing_is_left_in_the_program(result_engine, tmp_path, decision):
    """The command is a shell, or a Python that starts programs by vfork; it tells how many mappings it has."""
    counts = []

    @on("openat", "execve", "mkdirat", "mkdir", changes_args=True)
    def hook(call):
        if call.name.startswith("mkdir"):
            counts.append(mappings(call.pid))
            return call.reply(0)
        if decision == "execve" and call.name == "execve" and call.path == "/no/such/program":
            call.write_arg("filename", "/bin/true")
        if call.name != "openat" or call.path != "/no/such/file":
            return None
        call.write_arg("filename", "/dev/null")
        if decision == "perform":
            call.perform()
        if decision == "fail":
            return call.fail(Errno.ENOENT)
        return (
            call.reply(77) if decision == "reply" else call.reply_fd(b"") if decision == "reply_fd" else None
        )

    code = (
        "import os, subprocess\n"
        "def once():\n"
        "    try: os.close(os.open('/no/such/file', 0))\n"
        "    except OSError: pass\n"
        f"    if {decision == 'execve'}: subprocess.run(['/no/such/program'], close_fds=False, check=True)\n"
        "for i in range(20): once()\n"
        "os.mkdir('/first')\n"
        "for i in range(20): once()\n"
        "os.mkdir('/second')\n"
    )
    done = run([python.executable, "-c", code], [hook], result_engine)
    assert done.returncode == 0, done
    assert counts[1] - counts[0] <= (1 if decision == "execve" else 0), counts


def test_a_program_is_replaced_by_another(result_engine):
    @on("execve", changes_args=True)
    def other(call):
        if call.path == "/bin/false":
            call.write_arg("filename", "/bin/echo")

    assert run(["sh", "-c", "/bin/false x; echo $?"], [other], result_engine).stdout == "x\n0\n"


def test_what_is_made_again_after_a_signal_is_changed_again(result_engine, victim):
    seen = []

    @on("read", changes_args=True)
    def hook(call):
        if call.args.count == 1:
            seen.append(call.args.buf)
            call.write_arg("count", 1)

    done = run([victim("interrupted"), "restart"], [hook], result_engine)
    assert done.stdout == "1 0 1\n"
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_what_goes_on_after_a_stop_has_its_copy_still(result_engine, victim):
    """The kernel keeps the address of the time that is left, and where it is to put it."""

    @on("clock_nanosleep", changes_args=True)
    def hook(call):
        call.write_arg("rqtp", (0).to_bytes(8, "little") + (200_000_000).to_bytes(8, "little"))

    assert run([victim("interrupted"), "stop"], [hook], result_engine).stdout == "0 0 0\n"


def test_what_the_program_may_not_map_is_an_error_of_the_hook(result_engine):
    seen = []

    @on("openat", changes_args=True)
    def hook(call):
        if call.path == "/no/such/file":
            try:
                call.write_arg("filename", b"x" * (1 << 30))
            except OSError as error:
                seen.append(error.errno)

    code = (
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "try: os.open('/no/such/file', 0)\n"
        "except OSError as error: print(error.errno)\n"
    )
    assert run([python.executable, "-c", code], [hook], result_engine).stdout == "2\n"
    assert seen == [Errno.ENOMEM]


def test_os_calls_see_their_own_buffers_unchanged(result_engine):
    @on("write", changes_args=True)
    def shout(call):
        call.write_arg("buf", call.read(call.args.buf, call.args.count).upper())

    code = "import os; b = bytearray(b'abc'); os.write(1, b); os.write(1, str(b == b'abc').encode())"
    assert run([python.executable, "-c", code], [shout], result_engine).stdout == "ABCTRUE"
    assert os.path.exists("/dev/null")
