// A leaf function that keeps data below its stack pointer over calls: the red zone, and nothing else of the
// stack either, may be written.

#include "exact.h"

enum { BELOW = 8192 };

// Fills BELOW bytes under rsp with rdi, makes call rsi, and returns how many of these bytes are others now.
long leaf(unsigned long pattern, long number);
long leaf_immediate(unsigned long pattern, long number);
#define LEAF(name, load, behind)                                                                             \
    __asm__(".text\n" #name ":\n mov $-1024, %rcx\n mov %rsi, %r8\n"                                         \
            "1: mov %rdi, (%rsp,%rcx,8)\n inc %rcx\n jnz 1b\n"                                               \
            "mov %rdi, %r9\n xor %edi, %edi\n xor %esi, %esi\n xor %edx, %edx\n xor %r10d, %r10d\n" load     \
            "\n syscall\n" behind "\n"                                                                       \
            "mov $-1024, %rcx\n xor %eax, %eax\n"                                                            \
            "2: cmp %r9, (%rsp,%rcx,8)\n je 3f\n inc %rax\n"                                                 \
            "3: inc %rcx\n jnz 2b\n ret\n")

LEAF(leaf, "mov %r8, %rax", "nop\n nop\n nop");
LEAF(leaf_immediate, "mov $110, %eax", "");

int main(void)
{
    static const long numbers[] = {
        SYS_getppid,     SYS_sched_yield, 600,      -1,         SYS_rt_sigprocmask, SYS_rt_sigaction,
        SYS_sigaltstack, SYS_close_range, SYS_read, SYS_execve, SYS_clone3,         SYS_brk};

    for (unsigned long round = 0; round < HOT; round++) {
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            if (numbers[i] != SYS_close_range)
                same(leaf(0x0123456789abcdef * (round + 1), numbers[i]), 0);
        same(leaf_immediate(~round, 0), 0);
    }
    return finish();
}
