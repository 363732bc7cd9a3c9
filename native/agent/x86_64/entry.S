// Ways into the agent and out of it. Three kinds of code, told apart by address when a signal arrives:
//
//   tl_entry_*    the program's registers are still in place (all but rsp, rcx, r11): the call has not begun
//   body          anything between: a signal is deferred until the call is over
//   tl_leave_*    the program's registers are all in struct tl_thread: the call is over
#include "offsets.h"

    .text

// From a block. r11: the thread's record, rcx: free, THREAD_BLOCK is set. All else is the program's.
    .globl tl_entry_start, tl_entry_end, tl_body
    .hidden tl_entry_start, tl_entry_end, tl_body
tl_entry_start:
    movq %rsp, THREAD_RSP(%r11)
    leaq STACK_TOP(%r11), %rsp
    pushfq
    popq THREAD_EFLAGS(%r11)
    movq %r8, THREAD_R8(%r11)
    movq %r9, THREAD_R9(%r11)
    movq %r10, THREAD_R10(%r11)
    movq %r12, THREAD_R12(%r11)
    movq %r13, THREAD_R13(%r11)
    movq %r14, THREAD_R14(%r11)
    movq %r15, THREAD_R15(%r11)
    movq %rdi, THREAD_RDI(%r11)
    movq %rsi, THREAD_RSI(%r11)
    movq %rbp, THREAD_RBP(%r11)
    movq %rbx, THREAD_RBX(%r11)
    movq %rdx, THREAD_RDX(%r11)
    movq %rax, THREAD_RAX(%r11)
tl_entry_end:
    testl $UNUSUAL_FLAGS, THREAD_EFLAGS(%r11)
    jz 1f
    pushq $PLAIN_FLAGS                      // no single step, no alignment check, no direction
    popfq
1:  movq %r11, %rbx
    movq %r11, %rdi
    call tl_direct_before
    testb %al, %al
    jz 2f
    movq THREAD_RDI(%rbx), %rdi
    movq THREAD_RSI(%rbx), %rsi
    movq THREAD_RDX(%rbx), %rdx
    movq THREAD_R10(%rbx), %r10
    movq THREAD_R8(%rbx), %r8
    movq THREAD_R9(%rbx), %r9
    movq THREAD_RAX(%rbx), %rax
    jmp tl_perform_window
2:  movq %rbx, %rdi
    call tl_from_block
    jmp tl_leave
tl_direct_done:
    movq %rbx, %rdi
    movq %rax, %rsi
    call tl_direct_after
    movq %rbx, %rdi
    jmp tl_leave_start

// From the signal handler, which has saved all. rdi: the thread's record; rsp: the top of the agent's stack.
tl_body:
    call tl_from_trap

// rbx is not needed: the record is found by the stack, which is aligned.
tl_leave:
    movq %rsp, %rdi
    andq $-THREAD_SIZE, %rdi
    .globl tl_leave_start, tl_leave_end
    .hidden tl_leave_start, tl_leave_end
tl_leave_start:
    cmpl $0, THREAD_PENDING(%rdi)
    jne tl_leave_pending
    movq %rdi, %r11
    leaq STACK_TOP(%r11), %rsp
    cmpl $0, THREAD_EXACT(%r11)
    jne tl_leave_exact
    movq THREAD_R8(%r11), %r8
    movq THREAD_R9(%r11), %r9
    movq THREAD_R10(%r11), %r10
    movq THREAD_R12(%r11), %r12
    movq THREAD_R13(%r11), %r13
    movq THREAD_R14(%r11), %r14
    movq THREAD_R15(%r11), %r15
    movq THREAD_RDI(%r11), %rdi
    movq THREAD_RSI(%r11), %rsi
    movq THREAD_RBP(%r11), %rbp
    movq THREAD_RBX(%r11), %rbx
    movq THREAD_RDX(%r11), %rdx
    movl THREAD_EFLAGS(%r11), %ecx
    testl $UNUSUAL_FLAGS, %ecx
    jnz 1f
    movl %ecx, %eax
    shrl $11, %eax
    andl $1, %eax
    addb $0x7f, %al                         // overflows if OF is to be set
    movb %cl, %ah
    sahf
    movq THREAD_RAX(%r11), %rax
    movq THREAD_LEAVE_TO(%r11), %rcx
    movq THREAD_RSP(%r11), %rsp
    movq THREAD_EFLAGS(%r11), %r11
    jmp *%rcx
1:  pushq %rcx
    popfq
    movq THREAD_RAX(%r11), %rax
    movq THREAD_LEAVE_TO(%r11), %rcx
    movq THREAD_RSP(%r11), %rsp
    movq THREAD_EFLAGS(%r11), %r11
    jmp *%rcx
// With all registers, rcx and r11 too, to any code segment; and a single step is reported after the first
// instruction there, as it is when the kernel returns.
tl_leave_exact:
    pushq $PLAIN_FLAGS                      // a set NT would make iretq fault
    popfq
    movzwl THREAD_SEGMENTS+6(%r11), %eax
    pushq %rax
    pushq THREAD_RSP(%r11)
    pushq THREAD_EFLAGS(%r11)
    movzwl THREAD_SEGMENTS(%r11), %eax
    pushq %rax
    pushq THREAD_LEAVE_TO(%r11)
    movq THREAD_R8(%r11), %r8
    movq THREAD_R9(%r11), %r9
    movq THREAD_R10(%r11), %r10
    movq THREAD_R12(%r11), %r12
    movq THREAD_R13(%r11), %r13
    movq THREAD_R14(%r11), %r14
    movq THREAD_R15(%r11), %r15
    movq THREAD_RDI(%r11), %rdi
    movq THREAD_RSI(%r11), %rsi
    movq THREAD_RBP(%r11), %rbp
    movq THREAD_RBX(%r11), %rbx
    movq THREAD_RDX(%r11), %rdx
    movq THREAD_RAX(%r11), %rax
    movq THREAD_RCX(%r11), %rcx
    movq THREAD_R11(%r11), %r11
    iretq
tl_leave_end:
tl_leave_pending:
    call tl_deliver
    ud2

// A system call of the agent's own.
    .globl tl_raw
    .hidden tl_raw
    .type tl_raw, @function
tl_raw:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    movq %r8, %r10
    movq %r9, %r8
    movq 8(%rsp), %r9
    syscall
    .globl tl_raw_done
    .hidden tl_raw_done
tl_raw_done:
    ret

// The program's call. A signal that arrives before the instruction aborts it, so that nothing sleeps while a
// handler is due.
    .globl tl_perform_native, tl_perform_window, tl_perform_call, tl_perform_abort, tl_perform_done
    .hidden tl_perform_native, tl_perform_window, tl_perform_call, tl_perform_abort, tl_perform_done
    .type tl_perform_native, @function
tl_perform_native:
    pushq %rbx
    movq %rdi, %rbx
    movq THREAD_ARGS+8(%rbx), %rsi
    movq THREAD_ARGS+16(%rbx), %rdx
    movq THREAD_ARGS+24(%rbx), %r10
    movq THREAD_ARGS+32(%rbx), %r8
    movq THREAD_ARGS+40(%rbx), %r9
    movq THREAD_ARGS(%rbx), %rdi
    movq THREAD_NR(%rbx), %rax
tl_perform_window:
    cmpl $0, THREAD_PENDING(%rbx)
    jne tl_perform_abort
tl_perform_call:
    syscall
tl_perform_done:
    cmpl $0, THREAD_DIRECT(%rbx)
    jne tl_direct_done
    popq %rbx
    ret
tl_perform_abort:
    movl $1, THREAD_ABORTED(%rbx)
    jmp tl_perform_done

// The same by the 32-bit convention, for a program that has used int 0x80.
    .globl tl_perform_int80, tl_perform_int80_window, tl_perform_int80_call, tl_perform_int80_done
    .hidden tl_perform_int80, tl_perform_int80_window, tl_perform_int80_call, tl_perform_int80_done
    .type tl_perform_int80, @function
tl_perform_int80:
    pushq %rbx
    pushq %rbp
    pushq %r12
    movq %rdi, %r12
    movl THREAD_ARGS(%r12), %ebx
    movl THREAD_ARGS+8(%r12), %ecx
    movl THREAD_ARGS+16(%r12), %edx
    movl THREAD_ARGS+24(%r12), %esi
    movl THREAD_ARGS+32(%r12), %edi
    movl THREAD_ARGS+40(%r12), %ebp
    movl THREAD_NR(%r12), %eax
tl_perform_int80_window:
    cmpl $0, THREAD_PENDING(%r12)
    jne 1f
tl_perform_int80_call:
    int $0x80
tl_perform_int80_done:
    jmp 2f
1:  movl $1, THREAD_ABORTED(%r12)
2:  popq %r12
    popq %rbp
    popq %rbx
    ret

// clone, fork, vfork and clone3, with every signal blocked. The child, which may share this memory, goes on
// with a record and stacks of its own and touches nothing of its parent's.
    .globl tl_clone
    .hidden tl_clone
    .type tl_clone, @function
tl_clone:
    pushq %rbx
    movq %rsi, %rbx
    movq THREAD_ARGS+8(%rdi), %rsi
    movq THREAD_ARGS+16(%rdi), %rdx
    movq THREAD_ARGS+24(%rdi), %r10
    movq THREAD_ARGS+32(%rdi), %r8
    movq THREAD_NR(%rdi), %rax
    movq THREAD_ARGS(%rdi), %rdi
    syscall
    testq %rax, %rax
    jz 1f
    popq %rbx
    ret
1:  leaq STACK_TOP(%rbx), %rsp
    movq %rbx, %rdi
    call tl_child_start
    jmp tl_leave

// exit of one thread, whose record another one may use from the store on: no memory is touched after it.
    .globl tl_exit_thread
    .hidden tl_exit_thread
    .type tl_exit_thread, @function
tl_exit_thread:
    movl $STATE_ENDING, (%rsi)
    movl $60, %eax
    syscall
    ud2

// rdi: a signal frame without its return address, in the record of the thread.
    .globl tl_sigreturn, tl_sigreturn_start
    .hidden tl_sigreturn, tl_sigreturn_start
    .type tl_sigreturn, @function
tl_sigreturn:
tl_sigreturn_start:
    movq %rdi, %rsp
    andq $-THREAD_SIZE, %rdi
    movl $0, THREAD_PENDING(%rdi)
    .globl tl_restorer
    .hidden tl_restorer
    .type tl_restorer, @function
tl_restorer:
    movl $15, %eax
    syscall
    .globl tl_restorer_done
    .hidden tl_restorer_done
tl_restorer_done:
    ud2

// int tl_copy(to, from, size): a bad address ends at tl_copy_failed, by the signal handler. Most are small,
// for which `rep movsb` takes too long to begin.
    .globl tl_copy, tl_copy_string, tl_copy_start, tl_copy_end, tl_copy_failed
    .hidden tl_copy, tl_copy_string, tl_copy_start, tl_copy_end, tl_copy_failed
    .type tl_copy, @function
tl_copy:
    movq %rdx, %rcx
tl_copy_start:
    cmpq $8, %rdx
    jb 3f
    cmpq $128, %rdx
    ja 2f
1:  movq (%rsi), %rax
    movq %rax, (%rdi)
    addq $8, %rsi
    addq $8, %rdi
    subq $8, %rcx
    cmpq $8, %rcx
    jae 1b
    movq -8(%rsi,%rcx), %rax                // the last bytes, some of them once more
    movq %rax, -8(%rdi,%rcx)
    xorl %eax, %eax
    ret
2:  rep movsb
    xorl %eax, %eax
    ret
3:  testb $4, %dl
    jz 4f
    movl (%rsi), %eax
    movl -4(%rsi,%rdx), %ecx
    movl %eax, (%rdi)
    movl %ecx, -4(%rdi,%rdx)
    xorl %eax, %eax
    ret
4:  testb $2, %dl
    jz 5f
    movzwl (%rsi), %eax
    movw %ax, (%rdi)
5:  testb $1, %dl
    jz 6f
    movzbl -1(%rsi,%rdx), %eax
    movb %al, -1(%rdi,%rdx)
6:  xorl %eax, %eax
    ret

// long tl_copy_string(to, from, size): eight bytes at a time; one that is NUL makes its highest bit appear in
// (word - 01..01) & ~word & 80..80, and the lowest such bit is never wrong.
    .type tl_copy_string, @function
tl_copy_string:
    movabsq $0x0101010101010101, %r8
    movabsq $0x8080808080808080, %r9
    xorl %ecx, %ecx
1:  leaq 8(%rcx), %r11
    cmpq %rdx, %r11
    ja 2f
    movq (%rsi,%rcx), %rax
    movq %rax, (%rdi,%rcx)
    movq %rax, %r10
    notq %r10
    subq %r8, %rax
    andq %r10, %rax
    andq %r9, %rax
    jnz 4f
    movq %r11, %rcx
    jmp 1b
2:  cmpq %rdx, %rcx
    jae 3f
    movzbl (%rsi,%rcx), %eax
    movb %al, (%rdi,%rcx)
    incq %rcx
    testb %al, %al
    jnz 2b
3:  movq %rcx, %rax
    ret
4:  bsfq %rax, %rax
    shrl $3, %eax
    leaq 1(%rax,%rcx), %rax
    ret
tl_copy_end:
tl_copy_failed:
    movq $-14, %rax
    ret

// A new program: rdi is the record of its thread, rsp the top of its stack.
    .globl tl_start
    .hidden tl_start
tl_start:
    call tl_begin
    ud2

// Where the supervisor has a stopped thread of a running program go, which the agent shall enter or leave.
// The last call is made here: once it has returned, the supervisor sets the registers.
    .globl tl_enter_stopped, tl_leave_stopped, tl_visited
    .hidden tl_enter_stopped, tl_leave_stopped, tl_visited
tl_enter_stopped:
    andq $-16, %rsp
    call tl_enter_thread
    jmp 1f
tl_leave_stopped:
    andq $-16, %rsp
    call tl_leave_thread
1:  movl $PR_SET_SYSCALL_USER_DISPATCH, %edi
    movq (%rax), %rsi
    movq 8(%rax), %rdx
    movq 16(%rax), %r10
    movq 24(%rax), %r8
    xorl %r9d, %r9d
    movl $NR_PRCTL, %eax
    syscall
tl_visited:
    ud2

// Where the call returns to that was under way when its thread was entered.
    .globl tl_restarted
    .hidden tl_restarted
tl_restarted:
    leaq -STACK_TOP(%rsp), %rdi
    movq %rax, %rsi
    call tl_go_on
    jmp tl_leave

    .section .note.GNU-stack, "", @progbits
