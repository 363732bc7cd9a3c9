// build: -static -nostdlib -ffreestanding -fno-stack-protector -O2
// What a program finds when it starts: registers, flags, vector state, stack, auxiliary vector, signal state.
// Without the C library, so that nothing else has run.

#include <elf.h>
#include <stddef.h>

__asm__(".globl _start\n_start:\n push %rax\n pushfq\n push %r15\n push %r14\n push %r13\n push %r12\n push "
        "%r11\n"
        "push %r10\n push %r9\n push %r8\n push %rbp\n push %rdi\n push %rsi\n push %rdx\n push %rcx\n push "
        "%rbx\n"
        "push %rax\n mov %rsp, %rdi\n and $-64, %rsp\n call begin\n");

static long call(long nr, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static void say(const char *name, unsigned long value)
{
    char text[64];
    int at = 0;

    while (*name)
        text[at++] = *name++;
    text[at++] = ' ';
    for (int shift = 60; shift >= 0; shift -= 4)
        text[at++] = "0123456789abcdef"[value >> shift & 15];
    text[at++] = '\n';
    call(1, 1, (long)text, at, 0);
}

__attribute__((used)) void begin(unsigned long *saved)
{
    static const char *const names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8",
                                        "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "flags"};
    static unsigned char legacy[512] __attribute__((aligned(16)));
    unsigned long *stack = saved + 17, nonzero = 0, state[4];
    int argc = (int)stack[0];
    unsigned long *vector = stack + argc + 2;

    // rax was pushed twice: the first slot keeps the stack as it was for what follows.
    __asm__ volatile("fxsave64 %0" : "=m"(legacy));
    for (int i = 0; i < 16; i++)
        say(names[i], saved[i]);
    say("stack alignment", (unsigned long)stack & 15);
    say("fcw", legacy[0] | legacy[1] << 8);
    say("mxcsr", *(unsigned *)(legacy + 24));
    for (int i = 32; i < 416; i++)
        nonzero += legacy[i] != 0;
    say("vectors", nonzero);
    say("argc", stack[0]);
    while (*vector++)
        ;
    for (; vector[0] != AT_NULL; vector += 2) {
        say("auxv", vector[0]);
        if (vector[0] == AT_ENTRY || vector[0] == AT_PHDR || vector[0] == AT_PHNUM || vector[0] == AT_BASE ||
            vector[0] == AT_SECURE || vector[0] == AT_FLAGS || vector[0] == AT_HWCAP2 || vector[0] == 51)
            say("  is", vector[1]);
    }
    for (long number = 1; number < 65; number++) {
        state[0] = 1;
        if (number != 9 && number != 19 && call(13, number, 0, (long)state, 8) == 0 && state[0])
            say("handler", (unsigned long)number);
    }
    call(14, 0, 0, (long)state, 8);
    say("mask", state[0]);
    call(127, (long)state, 8, 0, 0);
    say("pending", state[0]);
    call(131, 0, (long)state, 0, 0);
    say("alternate stack", state[1] & 0xffffffff);
    say("seccomp", (unsigned long)call(157, 21, 0, 0, 0));
    say("no_new_privs", (unsigned long)call(157, 39, 0, 0, 0));
    say("dumpable", (unsigned long)call(157, 3, 0, 0, 0));
    say("membarrier", (unsigned long)call(324, 8, 0, 0, 0));
    say("membarrier sync", (unsigned long)call(324, 32, 0, 0, 0));
    say("personality", (unsigned long)call(135, 0xffffffff, 0, 0, 0));
    call(158, 0x1003, (long)state, 0, 0);
    say("fs", state[0]);
    call(158, 0x1004, (long)state, 0, 0);
    say("gs", state[0]);
    __asm__ volatile("mov %%ds, %0\n mov %%es, %1\n mov %%fs, %2\n mov %%gs, %3"
                     : "=r"(state[0]), "=r"(state[1]), "=r"(state[2]), "=r"(state[3]));
    say("selectors", state[0] | state[1] << 16 | state[2] << 32 | state[3] << 48);
    // Below the stack pointer there is only the unwritten rest of the stack.
    nonzero = 0;
    for (unsigned char *at = (unsigned char *)saved - 65536; at < (unsigned char *)saved - 4096; at++)
        nonzero += *at != 0;
    say("stack below", nonzero);
    say("lowest descriptor", (unsigned long)call(32, 1, 0, 0, 0));
    call(231, 0, 0, 0, 0);
    __builtin_unreachable();
}
