// What may stand around a `syscall`: branches, calls, returns, other calls of the kernel, operands relative
// to the instruction pointer, comparisons of what came back.

#include "exact.h"

long word = 41, target_ran;
void target(void);
__asm__(".text\ntarget:\n incq target_ran(%rip)\n ret\n");

#define SHAPE(name, body)                                                                                    \
    __asm__(".text\n" #name ":\n" body "\n ret\n");                                                          \
    long name(long number, long *where)

SHAPE(returns, "mov %edi, %eax\n syscall");
SHAPE(jumps, "mov %edi, %eax\n syscall\n jmp 1f\n .fill 200, 1, 0xcc\n1:");
SHAPE(jumps_near, "mov %edi, %eax\n syscall\n jmp 1f\n .fill 20, 1, 0xcc\n1:");
SHAPE(compares, "mov %edi, %eax\n syscall\n cmp $-4096, %rax\n ja 1f\n ret\n1: neg %eax\n or $-1, %rax");
SHAPE(tests, "mov %edi, %eax\n syscall\n test %eax, %eax\n js 1f\n inc %rax\n1:");
SHAPE(carries, "stc\n mov %edi, %eax\n syscall\n sbb %rdx, %rdx\n sub %rdx, %rax");
SHAPE(relative_behind, "mov %edi, %eax\n syscall\n mov word(%rip), %rdx\n add %rdx, %rax");
SHAPE(relative_lea, "mov %edi, %eax\n syscall\n lea word(%rip), %rdx\n add (%rdx), %rax");
SHAPE(relative_front, "mov word(%rip), %rdx\n mov %edi, %eax\n mov %rdx, word(%rip)\n syscall");
SHAPE(relative_immediate, "mov %edi, %eax\n syscall\n addl $1, word(%rip)\n subl $1, word(%rip)");
SHAPE(calls, "mov %edi, %eax\n syscall\n call target\n nop");
SHAPE(calls_front, "mov %edi, %ebx\n call target\n mov %ebx, %eax\n syscall");
SHAPE(pushes, "mov %edi, %eax\n syscall\n push %rax\n push $7\n pop %rdx\n pop %rax");
SHAPE(twice, "mov $39, %eax\n syscall\n mov %edi, %eax\n syscall");
SHAPE(adjacent, "mov %edi, %eax\n mov %edi, %edx\n syscall\n syscall\n syscall\n mov %edi, %eax\n syscall");
SHAPE(loops, "mov $5, %esi\n1: mov %edi, %eax\n syscall\n dec %esi\n jnz 1b");
SHAPE(counts_down, "mov $5, %esi\n1: mov %edi, %eax\n syscall\n mov %esi, %ecx\n dec %esi\n loop 1b");
SHAPE(tail, "mov %edi, %eax\n lea 3f(%rip), %rdx\n syscall\n jmp *%rdx\n .fill 3, 1, 0xcc\n3:");
SHAPE(long_nop, "mov %edi, %eax\n syscall\n nopw 0x0(%rax,%rax,1)\n endbr64");
SHAPE(trap_byte, "mov %edi, %eax\n syscall\n jmp 1f\n int3\n1:");
SHAPE(looks_like, "mov $0x050f050f, %ecx\n mov %edi, %eax\n syscall\n mov $0x050f050f, %ecx");
SHAPE(locked, "mov %edi, %eax\n syscall\n lock incl word(%rip)\n lock decl word(%rip)");
SHAPE(vector, "movq %rdi, %xmm3\n movq %xmm3, %rax\n syscall\n movq %rax, %xmm2\n movq %xmm2, %rax");
SHAPE(string, "mov %edi, %eax\n lea word(%rip), %rsi\n syscall\n mov %rax, %rdx\n lodsq\n sub $41, %rax\n"
              " add %rdx, %rax");
SHAPE(conditional, "xor %edx, %edx\n 1: mov %edi, %eax\n syscall\n inc %edx\n cmp $4, %edx\n jb 1b");
SHAPE(sets,
      "mov %edi, %eax\n cmp %eax, %eax\n syscall\n sete %dl\n movzbl %dl, %edx\n lea -1(%rax,%rdx), %rax");
SHAPE(reads_flags,
      "mov %edi, %eax\n syscall\n pushf\n pop %rdx\n mov %r11, %rcx\n xor %edx, %ecx\n add %rcx, %rax");
SHAPE(reads_rcx, "mov %edi, %eax\n syscall\n1: lea 1b(%rip), %rdx\n sub %rdx, %rcx\n add %rcx, %rax");

#define RUN(name, expected)                                                                                  \
    for (int i = 0; i < HOT; i++) {                                                                          \
        long got_;                                                                                           \
        __asm__ volatile("call " #name                                                                       \
                         : "=a"(got_)                                                                        \
                         : "D"(i % 10 == 9 ? 888L : (long)SYS_getppid)                                       \
                         : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm2", "xmm3", "memory",   \
                           "cc");                                                                            \
        long value = i % 10 == 9 ? -ENOSYS : getppid();                                                      \
        if (got_ != (expected))                                                                              \
            failed(__LINE__, #name, " returned %ld, not %ld", got_, (long)(expected));                       \
    }

int main(void)
{
    RUN(returns, value);
    RUN(jumps, value);
    RUN(jumps_near, value);
    RUN(compares, value < 0 ? -1 : value);
    RUN(tests, value < 0 ? value : value + 1);
    RUN(carries, value + 1);
    RUN(relative_behind, value + 41);
    RUN(relative_lea, value + 41);
    RUN(relative_front, value);
    RUN(relative_immediate, value);
    RUN(calls, value);
    RUN(calls_front, value);
    same(target_ran, 2 * HOT);
    RUN(pushes, value);
    RUN(twice, value);
    RUN(adjacent, value);
    RUN(loops, value);
    RUN(counts_down, value);
    RUN(tail, value);
    RUN(long_nop, value);
    RUN(trap_byte, value);
    RUN(looks_like, value);
    RUN(locked, value);
    RUN(vector, value);
    RUN(string, value);
    RUN(conditional, value);
    RUN(sets, value);
    RUN(reads_flags, value);
    RUN(reads_rcx, value);
    same(word, 41);
    return finish();
}
