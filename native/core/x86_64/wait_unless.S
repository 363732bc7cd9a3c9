// long tl_wait_unless(const int *flag, pid_t pid, int *status, int options): wait4, unless *FLAG is set before it has
// begun to wait. The signal that announces *FLAG is handled by tl_wait_skip: between begin and end it goes to
// skip, so that none can be lost between the test and the call.
#ifdef __CET__
#include <cet.h>
#else
#define _CET_ENDBR
#endif

    .text
    .globl tl_wait_unless, tl_wait_begin, tl_wait_end, tl_wait_skip_to
    .hidden tl_wait_unless, tl_wait_begin, tl_wait_end, tl_wait_skip_to
    .type tl_wait_unless, @function
tl_wait_unless:
    _CET_ENDBR
    mov %rdi, %r8
    movslq %esi, %rdi
    mov %rdx, %rsi
    movslq %ecx, %rdx
    xor %r10d, %r10d
tl_wait_begin:
    cmpl $0, (%r8)
    jne tl_wait_skip_to
    mov $61, %eax
    syscall
tl_wait_end:
    ret
tl_wait_skip_to:
    mov $-4, %rax
    ret
    .size tl_wait_unless, . - tl_wait_unless
    .section .note.GNU-stack, "", @progbits
