"""What hooks do with the calls of guests, on every engine."""

from __future__ import annotations

import asyncio
import os
import struct
import threading

import pytest
from machine_calls import CALLS, GETPID, GETPPID, WRITE, call_of, orphan

from trapline import Errno, arg, on, on_return
from trapline.errors import UnsupportedByEngineError
from trapline.guest import GuestKilled, Linux


def test_a_hook_decides_a_call(guest, assemble):
    seen = []

    @on("getppid")
    def look(call):
        seen.append((call.name, call.arch, call.ip, call.pid, call.tid))
        return call.reply(1234)

    g = guest(hooks=[look])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    assert g.call(code) == 1234
    assert [each[:4] for each in seen] == [("getppid", "x86_64", code.address + 10, os.getpid())]
    assert str(seen[0][4]) in os.listdir("/proc/self/task") or g.engine.endswith(("trap", "notify"))


def test_what_nobody_decides_is_the_kernels(guest, assemble):
    g = guest(hooks=[orphan])
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid()


def test_a_site_that_makes_many_calls_goes_on_to_be_hooked(guest, assemble):
    count = [0]

    @on("getppid")
    def look(call):
        count[0] += 1
        return call.reply(count[0])

    g = guest(hooks=[look])
    code = g.arena.load_code(assemble(CALLS))
    assert g.call(code, 500, GETPPID) == 500
    assert count[0] == 500
    assert g.call(code, 100, GETPID) == os.getpid()
    if g.engine.startswith("rewrite"):
        assert g.sites["patched"] == 1


def test_constant_rules_need_no_python(guest, assemble):
    g = guest(rules=["getppid:retval=5", "getuid:error=EIO"])
    code = g.arena.load_code(assemble(CALLS))
    assert g.call(code, 100, GETPPID) == 5
    assert g.call(code, 100, 102) == -Errno.EIO


def test_rules_that_count_and_delay_act(guest, assemble):
    g = guest(rules=["getppid:error=EAGAIN:when=3", "getuid:delay_enter=1ms:count"])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    assert [g.call(code) for _ in range(4)] == [os.getppid(), os.getppid(), -Errno.EAGAIN, os.getppid()]
    assert g.call(g.arena.load_code(assemble(call_of(102)))) == os.getuid()
    assert g.rules["getuid:delay_enter=1ms:count"] == 1


def test_results_are_seen_and_replaced(guest, assemble):
    seen = []

    @on_return("getpid")
    def look(call):
        seen.append(call.result)
        return call.reply(call.result + 1)

    g = guest(hooks=[look])
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid() + 1
    assert seen == [os.getpid()]


def test_a_hook_has_the_call_performed(guest, assemble):
    @on("getpid", performs=True)
    def look(call):
        return call.reply(call.perform() * 2)

    g = guest(hooks=[look])
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid() * 2


def test_arguments_are_changed_for_the_kernel_alone(guest, assemble):
    reader, writer = os.pipe()

    @on("write", changes_args=True)
    def shout(call):
        call.write_arg("buf", call.read(call.args.buf, call.args.count).upper())

    g = guest(hooks=[shout])
    data = g.arena.map(4096)
    g.arena.memory(data, 5)[:] = b"hello"
    assert g.call(g.arena.load_code(assemble(call_of(WRITE))), writer, data, 5) == 5
    assert os.read(reader, 10) == b"HELLO"
    assert g.arena.read(data, 5) == b"hello"
    os.close(reader)
    os.close(writer)


def test_a_hook_replies_with_a_descriptor(guest, assemble):
    @on("open")
    def serve(call):
        return call.reply_fd(b"from python")

    g = guest(hooks=[serve])
    name = g.arena.map(4096)
    g.arena.memory(name, 6)[:] = b"/nope\0"
    fd = g.call(g.arena.load_code(assemble(call_of(2))), name, 0)
    assert os.read(fd, 99) == b"from python"
    os.close(fd)


def test_paths_are_resolved(guest, assemble):
    seen = []

    @on("open")
    def look(call):
        seen.append(call.path)
        return call.fail(Errno.EACCES)

    g = guest(hooks=[look])
    name = g.arena.map(4096)
    g.arena.memory(name, 16)[:] = b"../x/./motd\0    "
    assert g.call(g.arena.load_code(assemble(call_of(2))), name, 0) == -Errno.EACCES
    assert seen == [os.path.normpath(os.path.join(os.getcwd(), "../x/motd"))]


def test_an_async_hook_decides_later(guest, assemble):
    @on("getppid")
    async def slow(call):
        await asyncio.sleep(0.001)
        return call.reply(3)

    g = guest(hooks=[slow])
    assert g.call(g.arena.load_code(assemble(call_of(GETPPID)))) == 3


def test_what_a_hook_raises_comes_out_of_the_call(guest, assemble):
    @on("getppid")
    def wrong(call):
        raise ZeroDivisionError("in the hook")

    g = guest(hooks=[wrong])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="in the hook"):
            g.call(code)
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid()


def test_a_hook_that_raises_can_fail_the_call(guest, assemble, capsys):
    @on("getppid")
    def wrong(call):
        raise ZeroDivisionError("in the hook")

    g = guest(hooks=[wrong], on_hook_error="fail:EIO")
    assert g.call(g.arena.load_code(assemble(call_of(GETPPID)))) == -Errno.EIO
    assert "in the hook" in capsys.readouterr().err


def test_a_hook_calls_the_guest_again(guest, assemble):
    depth = [0]

    @on("getppid")
    def again(call):
        depth[0] += 1
        if depth[0] < 5:
            return call.reply(call.guest.call(code) + 1)
        return call.reply(100)

    g = guest(hooks=[again])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    assert g.call(code) == 104


def test_hooks_lock_allocate_and_import(guest, assemble):
    lock = threading.Lock()

    @on("getppid")
    def busy(call):
        import decimal

        with lock:
            return call.reply(len(bytes(10**6)) + int(decimal.Decimal(2)))

    g = guest(hooks=[busy])
    assert g.call(g.arena.load_code(assemble(call_of(GETPPID)))) == 10**6 + 2


def test_a_hook_kills_the_guest(guest, assemble):
    @on("getppid")
    def end(call):
        return call.kill(15)

    g = guest(hooks=[end])
    with pytest.raises(GuestKilled) as caught:
        g.call(g.arena.load_code(assemble(call_of(GETPPID))))
    assert caught.value.signal == 15


def test_a_hook_sees_a_call_once_that_is_made_again(guest, assemble):
    """The hook's thread is kicked while it decides, so that the call ends before it is made."""
    seen = []

    @on("write", changes_args=True)
    def look(call):
        seen.append(call.name)
        call.write_arg("buf", b"HELLO")
        call.thread.kick()

    reader, writer = os.pipe()
    g = guest(hooks=[look])
    data = g.arena.map(4096)
    code = g.arena.load_code(assemble(call_of(WRITE)))
    for _ in range(20):
        assert g.call(code, writer, data, 5) == 5
        assert os.read(reader, 10) == b"HELLO"
    assert seen == ["write"] * 20
    os.close(reader)
    os.close(writer)


def test_a_hook_reads_and_writes_the_guests_memory(guest, assemble):
    @on("getcwd")
    def tell(call):
        text = b"/nowhere\0"
        call.write(call.args.buf, text)
        return call.reply(len(text))

    @on("chdir")
    def look(call):
        return call.reply(len(call.read_str(call.args.filename)) + len(call.read(call.raw[0], 4)))

    g = guest(hooks=[tell, look])
    buffer = g.arena.map(4096)
    assert g.call(g.arena.load_code(assemble(call_of(79))), buffer, 4096) == 9
    assert g.arena.read(buffer, 9) == b"/nowhere\0"
    assert g.call(g.arena.load_code(assemble(call_of(80))), buffer) == 8 + 4


def test_descriptors_have_paths(guest, assemble, tmp_path):
    seen = []

    @on("write", "fsync")
    def look(call):
        seen.append((call.name, call.args.fd, call.fd_path(call.args.fd)))
        return call.reply(5)

    g = guest(hooks=[look])
    with open(tmp_path / "file", "wb") as file:
        assert g.call(g.arena.load_code(assemble(call_of(WRITE))), file.fileno(), 8, 5) == 5
        assert g.call(g.arena.load_code(assemble(call_of(74))), file.fileno()) == 5
        path = str(tmp_path / "file")
        assert seen == [("write", file.fileno(), path), ("fsync", file.fileno(), path)]


def test_conditions_leave_calls_alone_that_do_not_meet_them(guest, assemble):
    @on("getppid", when=arg(0) == 5)
    def look(call):
        return call.reply(call.raw[0])

    g = guest(hooks=[look])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    for _ in range(20):
        assert g.call(code, 5) == 5
        assert g.call(code, 6) == os.getppid()
    assert g.calls == {"getppid": 20}


def test_hooks_of_one_call_are_asked_in_turn(guest, assemble):
    asked = []

    @on("getppid")
    def first(call):
        asked.append(1)

    @on("getppid")
    async def second(call):
        asked.append(2)
        await asyncio.sleep(0)
        return call.reply(22)

    @on("getppid")
    def third(call):
        asked.append(3)

    g = guest(hooks=[first, second, third])
    assert g.call(g.arena.load_code(assemble(call_of(GETPPID)))) == 22
    assert asked == [1, 2]


def test_results_are_seen_by_async_hooks(guest, assemble):
    @on_return("getpid")
    async def look(call):
        await asyncio.sleep(0.001)
        return call.reply(-call.result if call.error is None else 0)

    g = guest(hooks=[look])
    code = g.arena.load_code(assemble(call_of(GETPID)))
    assert [g.call(code) for _ in range(20)] == [-os.getpid()] * 20


def test_errors_are_results_too(guest, assemble):
    seen = []

    @on_return("close")
    def look(call):
        seen.append((call.result, call.error))
        return call.fail(Errno.EIO)

    g = guest(hooks=[look])
    assert g.call(g.arena.load_code(assemble(call_of(3))), -1) == -Errno.EIO
    assert seen == [(-Errno.EBADF, Errno.EBADF)]


def test_an_async_hook_that_raises_ends_the_call(guest, assemble):
    @on("getppid")
    async def wrong(call):
        await asyncio.sleep(0)
        raise ZeroDivisionError("in the hook")

    g = guest(hooks=[wrong])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="in the hook"):
            g.call(code)
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid()


def test_an_async_hook_kills_the_guest(guest, assemble):
    @on("getppid")
    async def end(call):
        await asyncio.sleep(0)
        return call.kill(6)

    g = guest(hooks=[end])
    with pytest.raises(GuestKilled) as caught:
        g.call(g.arena.load_code(assemble(call_of(GETPPID))))
    assert caught.value.signal == 6


def test_the_kernel_performs_what_a_hook_fails_to_decide(guest, assemble, capsys):
    @on("getppid")
    def wrong(call):
        raise ZeroDivisionError("in the hook")

    g = guest(hooks=[wrong], on_hook_error="continue")
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    for _ in range(20):
        assert g.call(code) == os.getppid()
    assert "in the hook" in capsys.readouterr().err


def test_numbers_in_arguments_are_changed(guest, assemble):
    @on("getpriority", changes_args=True)
    def change(call):
        call.write_arg("which", 0)

    g = guest(hooks=[change])
    code = g.arena.load_code(assemble(call_of(140)))
    assert [g.call(code, 99, 0) for _ in range(20)] == [20 - os.getpriority(os.PRIO_PROCESS, 0)] * 20


def serve(call):
    return call.reply_fd(b"from python")


async def serve_later(call):
    await asyncio.sleep(0)
    return call.reply_fd(b"from python")


def opened(g, assemble):
    page = g.arena.map(4096)
    g.arena.memory(page, 6)[:] = b"/nope\0"
    fd = g.call(g.arena.load_code(assemble(call_of(2))), page, 0)
    assert fd >= 0
    assert g.call(g.arena.load_code(assemble(call_of(0))), fd, page + 100, 99) == 11
    assert g.arena.read(page + 100, 11) == b"from python"
    assert g.call(g.arena.load_code(assemble(call_of(3))), fd) == 0


@pytest.mark.parametrize(("hook", "own_files"), [(serve, False), (serve, True), (serve_later, False)])
def test_descriptors_are_put_where_the_guest_has_its_own(guest, assemble, hook, own_files):
    opened(guest(hooks=[on("open")(hook)], personality=Linux(own_files=own_files)), assemble)


def test_descriptors_of_an_async_hook_cannot_be_put_into_a_table_of_the_guests_own(guest, assemble):
    g = guest(hooks=[on("open")(serve_later)], personality=Linux(own_files=True))
    page = g.arena.map(4096)
    assert g.call(g.arena.load_code(assemble(call_of(2))), page, 0) == -Errno.EOPNOTSUPP


def test_registers_are_what_the_engine_tells(guest, assemble):
    seen = []

    @on("getppid")
    def look(call):
        registers = call.thread.registers
        seen.append((registers.rdi, registers.rip))
        if "notify" in call.guest.engine:
            with pytest.raises(UnsupportedByEngineError, match="does not tell rbx"):
                _ = registers.rbx
            with pytest.raises(UnsupportedByEngineError, match="cannot set"):
                registers.rdi = 1
        else:
            assert registers.rbx == 5
            registers.rbx = 6
        return call.reply(0)

    g = guest(hooks=[look])
    code = g.arena.load_code(
        assemble(f"push rbx\nmov ebx, 5\n{call_of(GETPPID)[:-3]}mov rax, rbx\npop rbx\nret")
    )
    assert g.call(code, 4) == (5 if "notify" in g.engine else 6)
    assert seen[0][0] == 4


def test_signals_wait_until_a_call_that_a_hook_decides_later_is_over(guest, assemble):
    """The guest has a signal sent to itself while its call waits; its handler runs behind it, with the result there."""
    begun, sent = threading.Event(), threading.Event()

    @on("getppid")
    async def slow(call):
        begun.set()
        while not sent.is_set():
            await asyncio.sleep(0.001)
        return call.reply(77)

    g = guest(hooks=[slow])
    mark = g.arena.map(4096)
    handler = g.arena.load_code(assemble(f"mov rax, {mark}\nadd dword ptr [rax], 1\nret"))
    restorer = g.arena.load_code(assemble("mov eax, 15\nsyscall"))
    g.arena.memory(mark + 64, 32)[:] = struct.pack("<4Q", handler.address, 0x04000000, restorer.address, 0)
    install = g.arena.load_code(assemble("mov r10d, 8\nxor edx, edx\nmov edi, 10\nmov eax, 13\nsyscall\nret"))
    assert g.call(install, 0, mark + 64) == 0

    def send():
        begun.wait()
        g.personality.post(None, 10, bytes(128))
        sent.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert g.call(g.arena.load_code(assemble(call_of(GETPPID)))) == 77
    finally:
        sent.set()
        begun.set()
        thread.join()
    assert g.arena.read(mark, 1) == b"\1"
