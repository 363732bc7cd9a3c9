// long tl_wait_unless(const int *flag, pid_t pid, int *status, int options): wait4, unless *FLAG is set before it has
// begun to wait. The signal that announces *FLAG is handled by tl_wait_skip: between begin and end it goes to
// skip, so that none can be lost between the test and the call.
    .text
    .globl tl_wait_unless, tl_wait_begin, tl_wait_end, tl_wait_skip_to
    .hidden tl_wait_unless, tl_wait_begin, tl_wait_end, tl_wait_skip_to
    .type tl_wait_unless, %function
tl_wait_unless:
    hint #34
    mov x4, x0
    sxtw x0, w1
    mov x1, x2
    sxtw x2, w3
    mov x3, #0
tl_wait_begin:
    ldr w5, [x4]
    cbnz w5, tl_wait_skip_to
    mov x8, #260
    svc #0
tl_wait_end:
    ret
tl_wait_skip_to:
    mov x0, #-4
    ret
    .size tl_wait_unless, . - tl_wait_unless
    .section .note.GNU-stack, "", %progbits
