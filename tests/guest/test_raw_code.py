"""Machine code that is called as a function, on every engine."""

from __future__ import annotations

import os
import threading

import pytest
from machine_calls import CALLS, GETPID, GETPPID, WRITE, call_of, orphan

from trapline import Errno, on
from trapline.guest import Guest, GuestExit, GuestFault


def test_code_is_called_with_arguments_and_gives_its_result(guest, assemble):
    g = guest()
    six = g.arena.load_code(
        assemble("lea rax, [rdi+rsi*2]\nadd rax, rdx\nadd rax, rcx\nadd rax, r8\nsub rax, r9\nret")
    )
    assert g.call(six, 1, 2, 3, 4, 5, 100) == 1 + 4 + 3 + 4 + 5 - 100


def test_exit_ends_the_guest_and_not_python(guest, assemble):
    g = guest()
    code = g.arena.load_code(assemble("mov edi, 7\nmov eax, 231\nsyscall"))
    with pytest.raises(GuestExit) as caught:
        g.call(code)
    assert caught.value.status == 7


def test_a_bad_pointer_is_the_guests_own_error(guest, assemble):
    @on("write")
    def read(call):
        call.read(call.args.buf, call.args.count)

    g = guest(hooks=[read], on_hook_error="fail:EFAULT")
    assert g.call(g.arena.load_code(assemble(call_of(WRITE))), 1, 8, 5) == -Errno.EFAULT
    assert g.call(g.arena.load_code(assemble(call_of(13))), 10, 8, 8, 8) == -Errno.EFAULT


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
    program = assemble(CALLS)

    def work(number):
        @on("getppid")
        def mine(call):
            return call.reply(number)

        try:
            with Guest(engine=guest_engine, hooks=[mine]) as g:
                code = g.arena.load_code(program)
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


def test_a_stack_that_overflows_is_a_fault_and_spoils_nothing(guest, assemble):
    g = guest()
    below = g.arena.map(4096)
    code = g.arena.load_code(assemble("1: push rax\njmp 1b"))
    with pytest.raises(GuestFault) as caught:
        g.call(code)
    assert caught.value.signal.name == "SIGSEGV"
    other = g.arena.map(4096)
    for page in (below, other):
        assert g.arena.read(page, 4096) == bytes(4096)
    guard = g.arena.find(caught.value.address)
    assert (guard.name, guard.protection) == ("guard", 0)
