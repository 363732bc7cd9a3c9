// The middle of every block: what stands in for a `syscall` instruction. It is copied, so it is position
// independent but for the fields that the agent fills in (gate.h lists them). The program's registers and flags
// are in place; only rcx and r11 are free, as the kernel overwrites them too, and the stack is not ours.
//
//   class of the number   0: the kernel performs it right here
//                         1: the result is a constant
//                         2: the agent decides; the thread's record is found by the limit of a segment that
//                            each thread has of its own, since the program may use fs and gs as it likes
#include "offsets.h"

    .section .rodata
    .globl tl_gate
    .hidden tl_gate
tl_gate:
    movzwl %ax, %ecx
    .byte 0x49, 0xbb                        // movabsq $tl_session.classes, %r11
tl_gate_classes:
    .quad 0
    movzbl (%r11,%rcx), %ecx
    jrcxz tl_gate_pass
    leal -1(%rcx), %ecx
    jrcxz tl_gate_constant
    movq %rax, %rcx
    lahf
tl_gate_flags_saved:                        // from here rax is in rcx, and ZF in ah
    .byte 0x44, 0x0f, 0x03, 0x1d            // lsl tl_process.segment(%rip), %r11d
tl_gate_segment:
    .long 0
    sahf
    movq %rcx, %rax
tl_gate_flags_back:
    .byte 0x48, 0x8d, 0x0d                  // leaq tl_process.threads(%rip), %rcx
tl_gate_threads:
    .long 0
    movq (%rcx,%r11,8), %r11
    leaq tl_gate(%rip), %rcx
    movq %rcx, THREAD_BLOCK(%r11)
    .byte 0xe9                              // jmp tl_entry_start
tl_gate_entry:
    .long 0
tl_gate_patch:
    .long 0                                 // which patch this block belongs to
tl_gate_constant:
    .byte 0x4c, 0x8d, 0x1d                  // leaq tl_session.constants(%rip), %r11
tl_gate_constants:
    .long 0
    movzwl %ax, %ecx
    movq (%r11,%rcx,8), %r11
tl_gate_decided:                            // from here the result is in r11
    lahf
    seto %al
    movzbl %ah, %ecx
    movzbl %al, %eax
    leal (,%rax,8), %eax
    leal (,%rax,8), %eax
    leal (,%rax,8), %eax
    leal 0x200(%rcx,%rax,4), %ecx
    movq %r11, %rax
tl_gate_rax_back:
    movl %ecx, %r11d
    jmp tl_gate_after
tl_gate_pass:
    syscall
tl_gate_after:                              // rax and r11 are the program's again
    .byte 0x48, 0xb9                        // movabsq $address after the patched syscall, %rcx
tl_gate_return:
    .quad 0
tl_gate_end:

    .globl tl_gate_flags_saved, tl_gate_flags_back, tl_gate_patch, tl_gate_decided, tl_gate_pass, tl_gate_after
    .hidden tl_gate_flags_saved, tl_gate_flags_back, tl_gate_patch, tl_gate_decided, tl_gate_pass, tl_gate_after
    .globl tl_gate_rax_back, tl_gate_return
    .hidden tl_gate_rax_back, tl_gate_return

// struct tl_plan_fixup each: where, what, and what is added.
    .macro FIXUP at, kind, addend
    .short \at - tl_gate
    .byte \kind, 0
    .long \addend
    .endm
    .globl tl_gate_info
    .hidden tl_gate_info
    .balign 8
tl_gate_info:                               // struct tl_gate_info
    .long tl_gate_end - tl_gate, tl_gate_pass - tl_gate, (tl_gate_fixups_end - tl_gate_fixups) / 8, 0
tl_gate_fixups:
    FIXUP tl_gate_classes, ABS64_AGENT, SESSION_CLASSES
    FIXUP tl_gate_segment, REL32_AGENT, (PROCESS_SEGMENT - 4)
    FIXUP tl_gate_threads, REL32_AGENT, (PROCESS_THREADS - 4)
    FIXUP tl_gate_entry, ENTRY, 0           // REL32_AGENT of tl_entry_start, whose distance the header has
    FIXUP tl_gate_patch, PATCH_NUMBER, 0
    FIXUP tl_gate_constants, REL32_AGENT, (SESSION_CONSTANTS - 4)
    FIXUP tl_gate_return, ABS64_SITE, 2
tl_gate_fixups_end:

    .section .note.GNU-stack, "", @progbits
