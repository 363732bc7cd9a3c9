// A task that wants no tracer to be told of it: its calls, and what its registers are, are as natively.

#include "exact.h"

static char stack[0x10000] __attribute__((aligned(16)));

__attribute__((noinline)) static long clone_untraced(unsigned long flags, void *top, unsigned long *first)
{
    long result;

    // The child says what it found in rdi, and ends.
    __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n"
                     "mov %%rdi, (%%rbx)\n mov $110, %%eax\n syscall\n mov %%rax, 8(%%rbx)\n"
                     "mov $60, %%eax\n xor %%edi, %%edi\n syscall\n 1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(top), "d"(0), "b"(first)
                     : "rcx", "r11", "memory");
    return result;
}

int main(void)
{
    const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED | SIGCHLD;
    unsigned long seen[2] = {0};

    long child = clone_untraced(flags, stack + sizeof stack, seen);
    check(child > 0);
    same(ended((pid_t)child), 0);
    same(seen[0], flags);
    same(seen[1], getpid());
    return finish();
}
