// One system call instruction whose address is known.
    .text
    .globl tl_probe_stub
    .hidden tl_probe_stub
    .type tl_probe_stub, %function
    .globl tl_probe_stub_end
    .hidden tl_probe_stub_end
tl_probe_stub:
    hint #34
    mov x8, x0
    svc #0
    ret
tl_probe_stub_end:
    .size tl_probe_stub, . - tl_probe_stub
    .section .note.GNU-stack, "", %progbits
