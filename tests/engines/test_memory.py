"""Reading and writing the caller's memory."""

from __future__ import annotations

import errno
import os

import pytest

from trapline import MemoryAccessError, on

# readv and writev refused, as many containers do; the /proc file is the way that remains.
CONTAINER = ["310:1", "311:1"]


@pytest.fixture(params=["process_vm", "proc_mem"])
def anyhow(request, calls, victim):
    """Run the victim's words with either way of reaching memory, the supervisor being refused the other."""
    if request.param == "process_vm":
        return lambda words, hooks, **options: calls(words, hooks, **options)

    # The refusal has to be around the supervisor, which is this process: so the whole run goes to a forked child.
    from confined import run_confined

    return lambda words, hooks, **options: run_confined(CONTAINER, victim("caller"), words, hooks, **options)


@pytest.mark.parametrize("memory", ["s:hello", "e:hello", "c:hello", "r:hello"])
def test_read_and_read_str_see_what_is_there(engine, anyhow, sys, memory):
    @on("rename")
    def hook(call):
        address = call.args.oldname
        assert call.read(address, 6) == b"hello\0"
        assert call.read(address + 1, 3) == b"ell"
        assert call.read(address, 0) == b""
        assert call.read_str(address) == "hello"
        assert call.read_str(address, 3) == "hel"
        assert call.read_str(address, 6) == "hello"
        return call.reply(1)

    assert anyhow([sys("rename", memory, memory)], [hook], engine=engine) == ["1"]


@pytest.mark.parametrize(
    ("memory", "size"),
    [("e:hello", 7), ("u:hello", 6), ("p:", 1), ("0", 1), ("0xffffffffffffff00", 8), ("-1", 1)],
)
def test_reading_what_is_not_mapped_is_a_memory_access_error(engine, anyhow, sys, memory, size):
    @on("rename")
    def hook(call):
        address = call.args.oldname
        with pytest.raises(MemoryAccessError, match=r"cannot read .* of thread") as caught:
            call.read(address, size)
        assert caught.value.errno == errno.EFAULT
        assert caught.value.address == address
        assert caught.value.size == size
        assert isinstance(caught.value, OSError)
        return call.reply(1)

    assert anyhow([sys("rename", memory, "s:x")], [hook], engine=engine) == ["1"]


def test_a_string_without_end_before_unmapped_memory_is_a_memory_access_error(engine, anyhow, sys):
    @on("rename")
    def hook(call):
        with pytest.raises(MemoryAccessError):
            call.read_str(call.args.oldname)
        assert call.read_str(call.args.oldname, 5) == "hello"
        return call.reply(1)

    assert anyhow([sys("rename", "u:hello", "s:x")], [hook], engine=engine) == ["1"]


def test_read_str_stops_at_its_limit(engine, anyhow, sys):
    @on("rename")
    def hook(call):
        address = call.args.oldname
        assert call.read_str(address) == "a" * 4096
        assert call.read_str(address, 4095) == "a" * 4095
        assert call.read_str(address, 20000) == "a" * 10000
        with pytest.raises(ValueError, match="positive"):
            call.read_str(address, 0)
        with pytest.raises(ValueError, match="negative"):
            call.read(address, -1)
        return call.reply(1)

    assert anyhow([sys("rename", "l:10000", "s:x")], [hook], engine=engine) == ["1"]


def test_strings_that_are_no_utf8_survive_a_round_trip(engine, calls, sys):
    @on("rename")
    def hook(call):
        text = call.read_str(call.args.oldname)
        assert os.fsencode(text) == b"a\xff\xfe\xc3b"
        assert os.fsencode(call.path).endswith(b"a\xff\xfe\xc3b")
        return call.reply(1)

    assert calls([sys("rename", r"x:a\xff\xfe\xc3b", "s:x")], [hook], engine=engine) == ["1"]


def test_write_fills_an_output_argument(engine, anyhow, sys):
    @on("times")
    def hook(call):
        data = b"not at all random"
        call.write(call.args.tbuf, data)
        call.write(call.args[0], memoryview(b"N"))
        call.write(call.args[0], b"")
        return call.reply(len(data))

    lines = anyhow([sys("times", "b:32"), "dump 18"], [hook], engine=engine)
    assert lines == ["17", b"Not at all random\0".hex()]


@pytest.mark.parametrize("memory", ["r:hello", "p:", "0"])
def test_writing_where_the_program_itself_may_not_is_a_memory_access_error(engine, anyhow, sys, memory):
    @on("times")
    def hook(call):
        with pytest.raises(MemoryAccessError, match="cannot write"):
            call.write(call.args[0], b"JELLO")
        return call.reply(1)

    words = [sys("times", memory)]
    if memory.startswith("r"):
        words.append("dump 5")
    lines = anyhow(words, [hook], engine=engine)
    assert lines == ["1", b"hello".hex()][: len(words)]


def test_writing_over_the_edge_of_a_page_that_is_not_writable_is_an_error(engine, anyhow, sys):
    @on("times")
    def hook(call):
        with pytest.raises(MemoryAccessError):
            call.write(call.args[0] + 4090, b"0123456789")
        return call.reply(1)

    assert anyhow([sys("times", "b:4096")], [hook], engine=engine) == ["1"]


def test_reads_of_a_megabyte_cross_every_page(engine, anyhow, sys):
    @on("times")
    def hook(call):
        pattern = bytes(range(256)) * 4096
        call.write(call.args[0], pattern)
        assert call.read(call.args[0], len(pattern)) == pattern
        assert call.read(call.args[0] + 4095, 4098) == pattern[4095 : 4095 + 4098]
        return call.reply(1)

    assert anyhow([sys("times", f"b:{1 << 20}")], [hook], engine=engine) == ["1"]


def test_memory_is_the_new_image_s_after_an_exec(engine, anyhow, sys):
    seen = []

    @on("mkdir", "rmdir")
    def hook(call):
        seen.append(call.read_str(call.args.pathname))
        return call.reply(0)

    rmdir = sys("rmdir", "s:/after").replace(" ", "_")
    assert anyhow([sys("mkdir", "s:/before", 0), f"exec {rmdir}"], [hook], engine=engine) == ["0", "0"]


def test_a_vfork_child_and_its_parent_are_two_processes_with_one_memory(engine, calls, sys):
    seen = []

    @on("times")
    def hook(call):
        seen.append(call.pid)
        call.write(call.args[0], b"child")
        return call.reply(5)

    lines = calls(["vfork " + sys("times", "b:32"), "dump 5", sys("getpid")], [hook], engine=engine)
    assert lines[1] == b"child".hex()
    assert len(seen) == 1
    assert str(seen[0]) != lines[2]


def test_a_snapshot_is_refused_once_its_caller_is_gone(engine, victim, sys):
    import trapline

    kept = []

    @on("getppid")
    def hook(call):
        kept.append(call)
        return call.reply(1)

    trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine, capture_output=True)
    call = kept[0]
    for access in (
        lambda: call.read(0x1000, 1),
        lambda: call.pid,
        lambda: call.process,
        lambda: call.fd_path(0),
    ):
        with pytest.raises(trapline.CallGoneError):
            access()
    with pytest.raises(trapline.CallGoneError):
        call.write(0x1000, b"x")
    assert not call.waits()
    assert isinstance(trapline.CallGoneError("x"), ProcessLookupError)


def test_a_hook_that_meets_a_gone_caller_ends_quietly(engine, victim, sys):
    """The caller is killed while its hook runs; what the hook then raises is nobody's error."""
    import signal

    import trapline

    @on("getppid")
    def hook(call):
        pid = call.pid
        os.kill(pid, signal.SIGKILL)
        descriptor = os.pidfd_open(pid)
        import select

        select.select([descriptor], [], [])
        os.close(descriptor)
        call.read(0x1000, 1)
        raise AssertionError("read was possible")

    done = trapline.run([victim("caller"), sys("getppid")], hooks=[hook], engine=engine, timeout=60)
    assert done.returncode == -9
    assert done.stats.gone == 1
