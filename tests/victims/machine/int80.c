// `int $0x80` from 64-bit code: other numbers, 32-bit arguments, every register but rax kept; signals, masks
// and children made that way.

#include <asm/ldt.h>

#include "exact.h"

// i386 numbers.
enum { GETPID = 20, GETPPID = 64, CLOSE = 6, FORK = 2, EXIT = 1, SIGPROCMASK = 126, RT_SIGPROCMASK = 175 };
enum { SIGALTSTACK = 186, KILL = 37, DUP2 = 63, WRITE = 4, RT_SIGACTION = 174, MUNMAP = 91, MMAP2 = 192 };

struct state {
    unsigned long rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, flags;
} in, out;

void run(void);
__asm__(".text\nrun:\n push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "pushq in+120(%rip)\n popfq\n"
        "mov in(%rip), %rax\n mov in+8(%rip), %rbx\n mov in+16(%rip), %rcx\n mov in+24(%rip), %rdx\n"
        "mov in+32(%rip), %rsi\n mov in+40(%rip), %rdi\n mov in+48(%rip), %rbp\n mov in+56(%rip), %r8\n"
        "mov in+64(%rip), %r9\n mov in+72(%rip), %r10\n mov in+80(%rip), %r11\n mov in+88(%rip), %r12\n"
        "mov in+96(%rip), %r13\n mov in+104(%rip), %r14\n mov in+112(%rip), %r15\n int $0x80\n"
        "mov %rax, out(%rip)\n mov %rbx, out+8(%rip)\n mov %rcx, out+16(%rip)\n mov %rdx, out+24(%rip)\n"
        "mov %rsi, out+32(%rip)\n mov %rdi, out+40(%rip)\n mov %rbp, out+48(%rip)\n mov %r8, out+56(%rip)\n"
        "mov %r9, out+64(%rip)\n mov %r10, out+72(%rip)\n mov %r11, out+80(%rip)\n mov %r12, out+88(%rip)\n"
        "mov %r13, out+96(%rip)\n mov %r14, out+104(%rip)\n mov %r15, out+112(%rip)\n"
        "pushfq\n popq out+120(%rip)\n push $0x202\n popfq\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static long old(long number, long a, long b, long c, long d)
{
    unsigned long *words = (unsigned long *)&in;

    for (size_t i = 0; i < 15; i++)
        words[i] = 0x9e3779b97f4a7c15 * (i + (unsigned long)number + 1);
    in.rax = (unsigned long)number, in.rbx = (unsigned long)a, in.rcx = (unsigned long)b;
    in.rdx = (unsigned long)c, in.rsi = (unsigned long)d, in.flags = 0x603;
    run();
    for (size_t i = 1; i < 16; i++)
        if (words[i] != ((unsigned long *)&out)[i])
            failed(__LINE__, "register", " %zu of call %ld is %#lx", i, number, ((unsigned long *)&out)[i]);
    return (long)out.rax;
}

static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

int main(void)
{
    // Memory that a 32-bit pointer can name.
    unsigned *low = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    signal(SIGUSR1, on_signal);
    for (int round = 0; round < HOT; round++) {
        same(old(GETPID, 1, 2, 3, 4), getpid());
        same(old(GETPPID, 1, 2, 3, 4), getppid());
        same(old(CLOSE, 0xdead0000ffffffff, 0, 0, 0), -EBADF);
        same(old(9999, 1, 2, 3, 4), -ENOSYS);
        same(old(-1, 1, 2, 3, 4), -ENOSYS);
        same(old(0xdeadbeef00000000 | GETPPID, 0, 0, 0, 0), getppid());
        same(old(DUP2, 0x7fffff, 5, 0, 0), -EBADF);
        // All signals blocked, SIGSYS among them, and reported.
        low[0] = low[1] = 0xffffffff;
        same(old(RT_SIGPROCMASK, SIG_SETMASK, (long)low, (long)(low + 2), 8), 0);
        same(low[2] | low[3], 0);
        same(old(RT_SIGPROCMASK, SIG_BLOCK, 0, (long)(low + 2), 8), 0);
        same(low[2], 0xffffffff & ~(1u << (SIGKILL - 1)) & ~(1u << (SIGSTOP - 1)));
        same(low[3], 0xffffffff);
        handled = 0;
        same(old(KILL, getpid(), SIGUSR1, 0, 0), 0);
        same(handled, 0);
        low[0] = low[1] = 0;
        same(old(RT_SIGPROCMASK, SIG_SETMASK, (long)low, 0, 8), 0);
        same(handled, 1);
        same(old(SIGALTSTACK, 0, (long)low, 0, 0), 0);
        same(low[1], SS_DISABLE);
        same(old(MUNMAP, 1, 1, 0, 0), -EINVAL);
        if (round % 20 == 0) {
            long child = old(FORK, 0, 0, 0, 0);
            if (child == 0) {
                same(old(GETPID, 0, 0, 0, 0), getpid());
                old(EXIT, failures ? 1 : 33, 0, 0, 0);
            }
            same(ended((pid_t)child), 33);
        }
    }
    return finish();
}
