// Into a guest and out of it. A kick that arrives on the way in, between the labels, finds nothing changed; on
// the way out of a block it is too late, and the host finds `kicked`.
#include "guest_offsets.h"

    .text

// int tl_guest_switch(struct tl_guest_thread *): the event.
    .globl tl_guest_switch, tl_guest_window, tl_guest_window_end
    .hidden tl_guest_switch, tl_guest_window, tl_guest_window_end
    .type tl_guest_switch, @function
tl_guest_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, GUEST_HOST_RSP(%rdi)
    movq $0, GUEST_BLOCK(%rdi)
    movl $1, GUEST_IN(%rdi)
tl_guest_window:
    cmpl $0, GUEST_KICKED(%rdi)
    jne tl_guest_kicked
    movq GUEST_FS(%rdi), %rax
    wrfsbase %rax
    movb $1, GUEST_SELECTOR(%rdi)
    cmpl $0, GUEST_EXACT(%rdi)
    jne 1f
    pushq GUEST_EFLAGS(%rdi)
    movq GUEST_R8(%rdi), %r8
    movq GUEST_R9(%rdi), %r9
    movq GUEST_R10(%rdi), %r10
    movq GUEST_R12(%rdi), %r12
    movq GUEST_R13(%rdi), %r13
    movq GUEST_R14(%rdi), %r14
    movq GUEST_R15(%rdi), %r15
    movq GUEST_RSI(%rdi), %rsi
    movq GUEST_RBP(%rdi), %rbp
    movq GUEST_RBX(%rdi), %rbx
    movq GUEST_RDX(%rdi), %rdx
    movq GUEST_RAX(%rdi), %rax
    movq GUEST_LEAVE_TO(%rdi), %rcx
    movq GUEST_EFLAGS(%rdi), %r11
    popfq
    movq GUEST_RSP(%rdi), %rsp
    movq GUEST_RDI(%rdi), %rdi
    jmp *%rcx
1:  movl %ss, %eax
    pushq %rax
    pushq GUEST_RSP(%rdi)
    pushq GUEST_EFLAGS(%rdi)
    movl %cs, %eax
    pushq %rax
    pushq GUEST_RIP(%rdi)
    movq GUEST_R8(%rdi), %r8
    movq GUEST_R9(%rdi), %r9
    movq GUEST_R10(%rdi), %r10
    movq GUEST_R11(%rdi), %r11
    movq GUEST_R12(%rdi), %r12
    movq GUEST_R13(%rdi), %r13
    movq GUEST_R14(%rdi), %r14
    movq GUEST_R15(%rdi), %r15
    movq GUEST_RSI(%rdi), %rsi
    movq GUEST_RBP(%rdi), %rbp
    movq GUEST_RBX(%rdi), %rbx
    movq GUEST_RDX(%rdi), %rdx
    movq GUEST_RAX(%rdi), %rax
    movq GUEST_RCX(%rdi), %rcx
    movq GUEST_RDI(%rdi), %rdi
    iretq
tl_guest_window_end:
tl_guest_kicked:
    movl $4, GUEST_EVENT(%rdi)
    movl $0, GUEST_IN(%rdi)
// From a signal handler, which has saved the guest's registers and has the host's fs in place. rdi: the thread.
    .globl tl_guest_left
    .hidden tl_guest_left
tl_guest_left:
    movq GUEST_HOST_RSP(%rdi), %rsp
    movl GUEST_EVENT(%rdi), %eax
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

// From a block. r11: the thread, rcx: free, GUEST_BLOCK is set. All else is the guest's.
    .globl tl_guest_from_block, tl_guest_from_block_end
    .hidden tl_guest_from_block, tl_guest_from_block_end
tl_guest_from_block:
    movq %rsp, GUEST_RSP(%r11)
    movq GUEST_HOST_RSP(%r11), %rsp
    pushfq
    popq GUEST_EFLAGS(%r11)
    pushq $0x202
    popfq
    movq %r8, GUEST_R8(%r11)
    movq %r9, GUEST_R9(%r11)
    movq %r10, GUEST_R10(%r11)
    movq %r12, GUEST_R12(%r11)
    movq %r13, GUEST_R13(%r11)
    movq %r14, GUEST_R14(%r11)
    movq %r15, GUEST_R15(%r11)
    movq %rdi, GUEST_RDI(%r11)
    movq %rsi, GUEST_RSI(%r11)
    movq %rbp, GUEST_RBP(%r11)
    movq %rbx, GUEST_RBX(%r11)
    movq %rdx, GUEST_RDX(%r11)
    movq %rax, GUEST_RAX(%r11)
    rdfsbase %rax
    movq %rax, GUEST_FS(%r11)
    movq GUEST_HOST_FS(%r11), %rax
    wrfsbase %rax
    movb $0, GUEST_SELECTOR(%r11)
    movl $GUEST_EVENT_CALL, GUEST_EVENT(%r11)
    movl $0, GUEST_IN(%r11)
tl_guest_from_block_end:
    movq %r11, %rdi
    jmp tl_guest_left

// long tl_guest_syscall(const uint64_t args[6], long nr, const uint32_t *kicked): 1 << 62 when it was kicked
// before the call, and one more when the kernel has begun it and would make it again, which rcx tells.
    .globl tl_guest_syscall, tl_guest_syscall_window, tl_guest_syscall_done, tl_guest_syscall_abort
    .hidden tl_guest_syscall, tl_guest_syscall_window, tl_guest_syscall_done, tl_guest_syscall_abort
    .type tl_guest_syscall, @function
tl_guest_syscall:
    pushq %rbx
    movq %rdx, %rbx
    movq %rsi, %rax
    movq 8(%rdi), %rsi
    movq 16(%rdi), %rdx
    movq 24(%rdi), %r10
    movq 32(%rdi), %r8
    movq 40(%rdi), %r9
    movq (%rdi), %rdi
    xorl %ecx, %ecx
tl_guest_syscall_window:
    cmpl $0, (%rbx)
    jne tl_guest_syscall_abort
    syscall
tl_guest_syscall_done:
    popq %rbx
    ret
tl_guest_syscall_abort:
    movabsq $0x4000000000000000, %rax
    cmpq $1, %rcx
    sbbq $-1, %rax
    popq %rbx
    ret

// The same by the 32-bit convention, where nothing tells whether it was begun: it is said to be.
    .globl tl_guest_int80, tl_guest_int80_window, tl_guest_int80_done
    .hidden tl_guest_int80, tl_guest_int80_window, tl_guest_int80_done
    .type tl_guest_int80, @function
tl_guest_int80:
    pushq %rbx
    pushq %rbp
    pushq %r12
    movq %rdx, %r12
    movl %esi, %eax
    movl (%rdi), %ebx
    movl 8(%rdi), %ecx
    movl 16(%rdi), %edx
    movl 24(%rdi), %esi
    movl 40(%rdi), %ebp
    movl 32(%rdi), %edi
tl_guest_int80_window:
    cmpl $0, (%r12)
    jne 1f
    int $0x80
tl_guest_int80_done:
    cltq
    jmp 2f
    .globl tl_guest_int80_abort
    .hidden tl_guest_int80_abort
tl_guest_int80_abort:
1:  movabsq $0x4000000000000001, %rax
2:  popq %r12
    popq %rbp
    popq %rbx
    ret

    .section .note.GNU-stack, "", @progbits
