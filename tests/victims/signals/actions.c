// sigaction as the program sees it: what it set comes back, for every signal, SIGSYS among them; flags that
// the kernel does not know; its own restorer; SA_RESETHAND, SA_SIGINFO or not, errors.

#include "exact.h"

struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

static volatile int handled, told;
static void *returns_to;
void own_restorer(void);
__asm__(".text\nown_restorer: mov $15, %eax\n syscall\n");

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    handled++;
    same(info->si_signo, number);
    returns_to = *(void **)((char *)__builtin_frame_address(0) + 8);
    same(call(SYS_getppid), getppid());
}

static long set(int number, const struct kernel_action *new, struct kernel_action *old)
{
    return call(SYS_rt_sigaction, number, new, old, 8);
}

static void all(void)
{
    for (int number = 1; number <= 64; number++) {
        struct kernel_action new = {on_signal, 0xffffffff & ~(unsigned)SA_ONSTACK, own_restorer, ~0ul}, old,
                             again;
        bool fixed = number == SIGKILL || number == SIGSTOP;

        same(set(number, NULL, &old), 0);
        same(set(number, &new, NULL), fixed ? -EINVAL : 0);
        if (fixed)
            continue;
        same(set(number, NULL, &again), 0);
        same(again.handler, on_signal);
        same(again.restorer, own_restorer);
        same(again.mask, ~0ul & ~(1ul << (SIGKILL - 1)) & ~(1ul << (SIGSTOP - 1)));
        if (!told++)
            printf("known flags: %#lx\n", again.flags);
        if (number >= 32 || number == SIGSYS || number == SIGUSR1) {
            // SA_RESETHAND is among the flags.
            handled = 0;
            same(call(SYS_tgkill, getpid(), call(SYS_gettid), number), 0);
            same(handled, 1);
            same(returns_to, own_restorer);
            same(set(number, NULL, &again), 0);
            same(again.handler, SIG_DFL);
        }
        same(set(number, &old, &again), 0);
        same(set(number, NULL, &again), 0);
        same(again.handler, old.handler);
        same(again.flags, old.flags);
    }
}

static void errors(void)
{
    struct kernel_action action = {on_signal, SA_SIGINFO | 0x04000000, own_restorer, 0}, old;
    void *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    same(set(0, NULL, &old), -EINVAL);
    same(set(65, NULL, &old), -EINVAL);
    same(set(-1, NULL, &old), -EINVAL);
    same(set(SIGKILL, NULL, &old), 0);
    same(call(SYS_rt_sigaction, SIGUSR1, &action, NULL, 16), -EINVAL);
    same(set(SIGUSR1, none, NULL), -EFAULT);
    same(set(SIGUSR2, &action, NULL), 0);
    // The action is set although the old one cannot be told.
    same(set(SIGUSR1, &action, none), -EFAULT);
    same(set(SIGUSR1, NULL, &old), 0);
    same(old.handler, on_signal);
    same(set(SIGUSR1, &action, (void *)-8), -EFAULT);
    // New and old in the same place.
    old = action;
    old.handler = SIG_IGN;
    same(set(SIGUSR1, &old, &old), 0);
    same(old.handler, on_signal);
    same(raise(SIGUSR1), 0);
    same(set(SIGUSR1, &action, &old), 0);
    same(old.handler, SIG_IGN);
    handled = 0;
    raise(SIGUSR1);
    same(handled, 1);
    munmap(none, PAGE);
}

int main(void)
{
    for (int round = 0; round < 8; round++) {
        all();
        errors();
    }
    return finish();
}
