"""Machine code that makes system calls, as text for the assembler."""

from __future__ import annotations

from trapline import on

GETPPID, GETPID, WRITE = 110, 39, 1

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
