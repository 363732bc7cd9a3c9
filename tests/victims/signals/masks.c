// The signal mask as the program sees it: SIGSYS and every other signal blocked while calls go on, what
// handlers find blocked, what children and threads inherit, what waits meanwhile.

#include <pthread.h>

#include "exact.h"

static volatile int handled;
static sigset_t frame_mask, handler_mask;

static unsigned long mask_now(void)
{
    unsigned long mask;

    same(call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8), 0);
    return mask;
}

static unsigned long bits(const sigset_t *set)
{
    return *(const unsigned long *)set;
}

enum { SYS_BIT = SIGSYS - 1 };
static const unsigned long all = ~0ul & ~(1ul << (SIGKILL - 1)) & ~(1ul << (SIGSTOP - 1));

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    handled++;
    frame_mask = ((ucontext_t *)context)->uc_sigmask;
    *(unsigned long *)&handler_mask = mask_now();
    for (int i = 0; i < 10; i++)
        same(call(SYS_getppid), getppid());
}

static void set(unsigned long mask)
{
    unsigned long old = mask_now(), seen;

    same(call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &seen, 8), 0);
    same(seen, old);
    same(mask_now(), mask & all);
}

static void *thread(void *inherited)
{
    // The C library keeps its own signal for cancellation open.
    same(mask_now() | 1ul << 31, (unsigned long)inherited | 1ul << 31);
    set(1ul << SYS_BIT | 4);
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    return NULL;
}

static void blocked(unsigned long mask)
{
    pthread_t id;

    set(mask);
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    same(mask_now(), mask & all);
    if (!(mask >> SYS_BIT & 1))
        return;
    // A SIGSYS of the program's own waits until it is unblocked, and is not lost by the calls meanwhile.
    handled = 0;
    raise(SIGSYS);
    unsigned long pending;
    same(call(SYS_rt_sigpending, &pending, 8), 0);
    same(pending & ~(1ul << (SIGCHLD - 1)), 1ul << SYS_BIT);
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    same(handled, 0);
    pid_t child = fork();
    if (child == 0) {
        same(mask_now(), mask & all);
        same(call(SYS_rt_sigpending, &pending, 8), 0);
        same(pending, 0);
        set(0);
        same(handled, 0);
        call(SYS_exit_group, failures != 0);
    }
    set(mask & ~(1ul << SYS_BIT));
    same(handled, 1);
    same(bits(&frame_mask), mask & all & ~(1ul << SYS_BIT));
    same(bits(&handler_mask), (mask & all) | 1ul << SYS_BIT);
    set(mask);
    pthread_create(&id, NULL, thread, (void *)(mask & all));
    pthread_join(id, NULL);
    same(mask_now(), mask & all);
    same(ended(child), 0);
}

int main(int argc, char **argv __attribute__((unused)))
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

    if (argc > 1) { // executed again: the mask was inherited
        printf("after exec: %lx\n", mask_now());
        return 0;
    }
    sigaction(SIGSYS, &action, NULL);
    for (int round = 0; round < 5; round++) {
        blocked(0);
        blocked(1ul << SYS_BIT);
        blocked(~0ul);
        blocked(0x7fffffff);
        blocked(0);
        // Errors change nothing.
        set(5);
        same(call(SYS_rt_sigprocmask, 77, &(long){-1}, NULL, 8), -EINVAL);
        same(call(SYS_rt_sigprocmask, SIG_SETMASK, &(long){-1}, NULL, 4), -EINVAL);
        same(call(SYS_rt_sigprocmask, SIG_SETMASK, 8, NULL, 8), -EFAULT);
        same(mask_now(), 5);
        // The new mask is set although the old one cannot be told.
        same(call(SYS_rt_sigprocmask, SIG_SETMASK, &(long){1ul << SYS_BIT}, 8, 8), -EFAULT);
        same(mask_now(), 1ul << SYS_BIT);
        unsigned long both = 3;
        same(call(SYS_rt_sigprocmask, SIG_BLOCK, &both, &both, 8), 0);
        same(both, 1ul << SYS_BIT);
        same(mask_now(), 1ul << SYS_BIT | 3);
        same(call(SYS_rt_sigprocmask, SIG_UNBLOCK, &(long){1ul << SYS_BIT | 1}, NULL, 8), 0);
        same(mask_now(), 2);
        // What a handler's own mask adds.
        sigaddset(&action.sa_mask, SIGSYS);
        sigaddset(&action.sa_mask, 50);
        sigaction(SIGUSR1, &action, NULL);
        set(2);
        raise(SIGUSR1);
        same(bits(&frame_mask), 2);
        same(bits(&handler_mask), 2 | 1ul << SYS_BIT | 1ul << 49 | 1ul << (SIGUSR1 - 1));
        same(mask_now(), 2);
        set(0);
    }
    set(1ul << SYS_BIT | 1ul << 40);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        execl("/proc/self/exe", "masks", "again", NULL);
    same(ended(child), 0);
    return finish();
}
