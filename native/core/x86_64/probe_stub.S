// One system call instruction whose address is known.
#ifdef __CET__
#include <cet.h>
#else
#define _CET_ENDBR
#endif

    .text
    .globl tl_probe_stub
    .hidden tl_probe_stub
    .type tl_probe_stub, @function
    .globl tl_probe_stub_end
    .hidden tl_probe_stub_end
tl_probe_stub:
    _CET_ENDBR
    mov %rdi, %rax
    syscall
    ret
tl_probe_stub_end:
    .size tl_probe_stub, . - tl_probe_stub
    .section .note.GNU-stack, "", @progbits
