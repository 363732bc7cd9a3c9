"""Machine code that is called as a function, on every engine."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import threading

import pytest

from trapline import Errno, on, on_return
from trapline.errors import UsageError
from trapline.guest import Guest, GuestExit, GuestFault, GuestKilled

GETPPID, GETPID, WRITE, NANOSLEEP = 110, 39, 1, 35

# long calls(long n, long nr): makes a call n times from one site
CALLS = """
    push rbx
    push r12
    mov rbx, rdi
    mov r12, rsi
1:  mov rax, r12
    syscall
    nop
    nop
    nop
    dec rbx
    jnz 1b
    pop r12
    pop rbx
    ret
"""


def call_of(number):
    return f"mov r10, rcx\nmov eax, {number}\nsyscall\nret"


@on("getppid")
def orphan(call):
    return call.reply(77)


def test_code_is_called_with_arguments_and_gives_its_result(guest, assemble):
    g = guest()
    six = g.arena.load_code(
        assemble("lea rax, [rdi+rsi*2]\nadd rax, rdx\nadd rax, rcx\nadd rax, r8\nsub rax, r9\nret")
    )
    assert g.call(six, 1, 2, 3, 4, 5, 100) == 1 + 4 + 3 + 4 + 5 - 100


def test_a_hook_decides_a_call(guest, assemble):
    seen = []

    @on("getppid")
    def look(call):
        seen.append((call.name, call.arch, call.ip, call.thread.registers.rbp))
        return call.reply(1234)

    g = guest(hooks=[look])
    code = g.arena.load_code(assemble(call_of(GETPPID)))
    assert g.call(code) == 1234
    assert [each[:3] for each in seen] == [("getppid", "x86_64", code.address + 10)]


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


def test_exit_ends_the_guest_and_not_python(guest, assemble):
    g = guest()
    code = g.arena.load_code(assemble("mov edi, 7\nmov eax, 231\nsyscall"))
    with pytest.raises(GuestExit) as caught:
        g.call(code)
    assert caught.value.status == 7


def test_a_hook_kills_the_guest(guest, assemble):
    @on("getppid")
    def end(call):
        return call.kill(15)

    g = guest(hooks=[end])
    with pytest.raises(GuestKilled) as caught:
        g.call(g.arena.load_code(assemble(call_of(GETPPID))))
    assert caught.value.signal == 15


def test_a_bad_pointer_is_the_guests_own_error(guest, assemble):
    @on("write")
    def read(call):
        call.read(call.args.buf, call.args.count)

    g = guest(hooks=[read], on_hook_error="fail:EFAULT")
    assert g.call(g.arena.load_code(assemble(call_of(WRITE))), 1, 8, 5) == -Errno.EFAULT
    assert g.call(g.arena.load_code(assemble(call_of(13))), 10, 8, 8, 8) == -Errno.EFAULT


def test_the_hosts_own_calls_are_not_caught(guest, assemble, outside):
    """Neither libc's nor those of any other machine code that is not the guest's."""
    libc = ctypes.CDLL(None)
    assembly = ctypes.CFUNCTYPE(ctypes.c_long)(outside[0])

    @on("*")
    def look(call):
        assert call.ip in call.guest.arena
        seen.append(call.name)
        libc.getppid()
        os.getppid()
        os.stat("/")
        assert assembly() == os.getppid()
        ctypes.CDLL(None).syscall(110)

    seen: list[str] = []
    g = guest(hooks=[look])
    g.call(g.arena.load_code(assemble(call_of(GETPPID))))
    assert seen == ["getppid"]


REGISTERS = """
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rbx, 0x1111111111111111
    mov rbp, 0x2222222222222222
    mov r8, 0x3333333333333333
    mov r9, 0x4444444444444444
    mov r10, 0x5555555555555555
    mov r12, 0x6666666666666666
    mov r13, 0x7777777777777777
    mov r14, 0x8888888888888888
    mov r15, 0x9999999999999999
    mov rdx, 0xaaaaaaaaaaaaaaaa
    mov rsi, 0xbbbbbbbbbbbbbbbb
    mov [rsp-8], rbx
    mov [rsp-128], rbp
    movq xmm0, rbx
    movq xmm15, rbp
    mov ecx, 40
    mov [rsp-16], rcx
1:  mov rdi, 0xcccccccccccccccc
    mov eax, 110
    std
    syscall
    mov r11, 0xcccccccccccccccc
    cmp rdi, r11
    jne 9f
    pushfq
    pop r11
    cld
    test r11d, 0x400
    jz 9f
    mov r11, 0x1111111111111111
    cmp rbx, r11
    jne 9f
    movq rcx, xmm0
    cmp rcx, r11
    jne 9f
    mov r11, 0x2222222222222222
    cmp rbp, r11
    jne 9f
    cmp [rsp-128], r11
    jne 9f
    movq rcx, xmm15
    cmp rcx, r11
    jne 9f
    mov r11, 0x3333333333333333
    cmp r8, r11
    jne 9f
    mov r11, 0x4444444444444444
    cmp r9, r11
    jne 9f
    mov r11, 0x5555555555555555
    cmp r10, r11
    jne 9f
    mov r11, 0x6666666666666666
    cmp r12, r11
    jne 9f
    mov r11, 0x9999999999999999
    cmp r15, r11
    jne 9f
    mov r11, 0xaaaaaaaaaaaaaaaa
    cmp rdx, r11
    jne 9f
    mov r11, 0xbbbbbbbbbbbbbbbb
    cmp rsi, r11
    jne 9f
    mov rcx, [rsp-16]
    dec rcx
    mov [rsp-16], rcx
    jnz 1b
    xor eax, eax
    jmp 8f
9:  mov eax, 1
8:  cld
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"""


def test_registers_flags_vectors_and_the_red_zone_survive(guest, assemble):
    @on("getppid")
    def busy(call):
        sum(number * 1.5 for number in range(20))
        return call.reply(1)

    g = guest(hooks=[busy])
    text = REGISTERS.replace(
        "pushfq\n    pop r11", "lea rsp, [rsp-256]\n    pushfq\n    pop r11\n    lea rsp, [rsp+256]"
    )
    assert g.call(g.arena.load_code(assemble(text))) == 0


def test_calls_through_int_0x80_have_the_other_numbers(guest, assemble):
    seen = []

    @on("getppid")
    def look(call):
        seen.append((call.arch, call.nr))
        return call.reply(9)

    g = guest(hooks=[look])
    assert g.call(g.arena.load_code(assemble("mov eax, 64\nint 0x80\nret"))) == 9
    assert seen == [("i386", 64)]
    assert g.call(g.arena.load_code(assemble("mov eax, 20\nint 0x80\nret"))) == os.getpid()


def test_calls_with_every_signal_blocked(guest, assemble):
    g = guest(hooks=[orphan])
    mask = g.arena.map(4096)
    g.arena.memory(mask, 8)[:] = b"\xff" * 8
    text = f"mov rsi, rdi\nmov edi, 2\nxor edx, edx\nmov r10d, 8\nmov eax, 14\nsyscall\n{call_of(GETPPID)}"
    assert g.call(g.arena.load_code(assemble(text)), mask) == 77


def test_calls_from_pages_that_the_guest_has_made(guest, assemble):
    """Maps a page, writes a call into it, makes it executable, and goes there."""
    g = guest(hooks=[orphan])
    made = assemble(call_of(GETPPID))
    text = f"""
        push rbx
        push rdi
        xor edi, edi
        mov esi, 4096
        mov edx, 3
        mov r10d, 0x22
        mov r8, -1
        xor r9d, r9d
        mov eax, 9
        syscall
        mov rbx, rax
        pop rsi
        mov rdi, rax
        mov ecx, {len(made)}
        rep movsb
        mov rdi, rbx
        mov esi, 4096
        mov edx, 5
        mov eax, 10
        syscall
        call rbx
        pop rbx
        ret
    """
    source = g.arena.map(4096)
    g.arena.memory(source, len(made))[:] = made
    code = g.arena.load_code(assemble(text))
    assert [g.call(code, source) for _ in range(20)] == [77] * 20


def test_a_fault_is_an_exception_with_registers_and_code(guest, assemble):
    g = guest()
    code = g.arena.load_code(assemble("mov eax, 5\nmov rbx, [rdi+8]\nret"))
    with pytest.raises(GuestFault) as caught:
        g.call(code, 0x10)
    fault = caught.value
    assert fault.signal.name == "SIGSEGV"
    assert (fault.address, fault.registers["rax"], fault.registers["rip"]) == (0x18, 5, code.address + 5)
    assert fault.disassembly[0] == (code.address + 5, "mov rbx,[rdi+8]")
    assert any(area.start == code.address for area in fault.areas)
    assert "rdi" in fault.report()


@pytest.mark.parametrize(
    ("text", "signal"),
    [("ud2", "SIGILL"), ("xor ecx, ecx\ndiv ecx", "SIGFPE"), ("int3", "SIGTRAP"), ("hlt", "SIGSEGV"),
     ("mov rax, 0x8000000000000000\njmp rax", "SIGSEGV")],
)  # fmt: skip
def test_each_kind_of_fault_is_told(guest, assemble, text, signal):
    g = guest()
    with pytest.raises(GuestFault) as caught:
        g.call(g.arena.load_code(assemble(text)))
    assert caught.value.signal.name == signal
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid()


def test_an_endless_loop_ends_when_its_time_is_over(guest, assemble):
    g = guest()
    with pytest.raises(TimeoutError):
        g.call(g.arena.load_code(assemble("1: jmp 1b")), timeout=0.05)
    with pytest.raises(TimeoutError):
        g.call(g.arena.load_code(assemble(f"1: mov eax, {GETPID}\nsyscall\njmp 1b")), timeout=0.05)
    assert g.call(g.arena.load_code(assemble(call_of(GETPID)))) == os.getpid()


def test_a_call_that_blocks_ends_when_its_time_is_over(guest, assemble):
    g = guest()
    reader, writer = os.pipe()
    with pytest.raises(TimeoutError):
        g.call(g.arena.load_code(assemble(call_of(0))), reader, g.arena.map(4096), 5, timeout=0.05)
    os.close(reader)
    os.close(writer)


def test_two_guests_do_not_know_of_each_other(guest_engine, assemble):
    @on("getppid")
    def other(call):
        return call.reply(first.call(code) + 1)

    options = {"engine": guest_engine}
    with Guest(hooks=[orphan], **options) as first, Guest(hooks=[other], **options) as second:
        code = first.arena.load_code(assemble(call_of(GETPPID)))
        nested = second.arena.load_code(assemble(call_of(GETPPID)))
        assert [second.call(nested) for _ in range(30)] == [78] * 30


def test_four_guests_at_once(guest_engine, assemble):
    failures = []

    def work(number):
        @on("getppid")
        def mine(call):
            return call.reply(number)

        try:
            with Guest(engine=guest_engine, hooks=[mine]) as g:
                code = g.arena.load_code(assemble(CALLS))
                for _ in range(10):
                    assert g.call(code, 50, GETPPID) == number
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.fixture
def outside(assemble):
    """Code that makes getppid, outside of any arena: its address, and the one behind it."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code = assemble(call_of(GETPPID))
    memory[: len(code)] = code
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    yield address, address + 4096
    del view
    memory.close()


def test_code_outside_the_arena_is_the_guests_by_a_range(guest, outside):
    g = guest(hooks=[orphan], ranges=[outside])
    assert g.call(outside[0]) == 77
    g.remove_range(*outside)
    assert g.call(outside[0]) == os.getppid()


def test_ranges_come_and_go_while_the_guest_runs(guest, assemble, outside):
    """The guest calls code outside, and hooks of its own call before and after that change what is the guest's."""

    @on("getuid")
    def change(call):
        if call.args.arg0 == 1:
            call.guest.add_range(*outside)
        else:
            call.guest.remove_range(*outside)

    g = guest(hooks=[orphan, change])
    text = """
        push rbx
        push r12
        mov rbx, rdi
        xor r12d, r12d
        {call}
        mov edi, 1
        mov eax, 102
        syscall
        {call}
        mov edi, 0
        mov eax, 102
        syscall
        {call}
        mov rax, r12
        pop r12
        pop rbx
        ret
    """.format(call="call rbx\ncmp eax, 77\nsete al\nmovzx eax, al\nlea r12, [rax+r12*2]")
    code = g.arena.load_code(assemble(text))
    for _ in range(3):
        assert g.call(code, outside[0]) == 0b010


def test_a_range_that_was_not_added_cannot_be_removed(guest):
    with pytest.raises(UsageError, match="no range"):
        guest().remove_range(0x1000, 0x2000)


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
