// Handlers in handlers: with calls in each, with SA_NODEFER, with masks that come back level by level, from
// an alternate stack to others, and a handler that interrupts the call of another handler.

#include <sys/ioctl.h>

#include "exact.h"

static volatile int depth, deepest, order[64], events, more;
static int pipes[2];

static void add(int event)
{
    if (events < 64)
        order[events++] = event;
}

static bool blocked(int number)
{
    sigset_t set;

    call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &set, 8);
    return sigismember(&set, number);
}

static void on_first(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    add(number);
    check(blocked(SIGUSR1) && !blocked(SIGUSR2));
    if (more-- > 0)
        raise(SIGUSR1); // waits
    raise(SIGUSR2);     // now
    same(call(SYS_getppid), getppid());
    check(blocked(SIGUSR1) && !blocked(SIGUSR2));
    add(-number);
}

static void on_second(int number, siginfo_t *info, void *context)
{
    (void)info;
    add(number);
    check(blocked(SIGUSR1) && blocked(SIGUSR2) && blocked(SIGSYS) && blocked(SIGHUP));
    check(sigismember(&((ucontext_t *)context)->uc_sigmask, SIGUSR1));
    check(!sigismember(&((ucontext_t *)context)->uc_sigmask, SIGHUP));
    raise(SIGHUP);
    same(call(SYS_getppid), getppid());
    add(-number);
}

static void on_third(int number)
{
    add(number);
}

static void recursive(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    check(!blocked(number));
    if (++depth > deepest)
        deepest = depth;
    if (depth < 40)
        raise(number);
    same(call(SYS_getppid), getppid());
    depth--;
}

static void writes(int number)
{
    (void)number;
    same(write(pipes[1], "x", 1), 1);
}

static void reads(int number)
{
    char byte;

    (void)number;
    // SIGALRM interrupts this, lets it start again, and gives it what it waits for.
    ualarm(1000, 3000);
    same(read(pipes[0], &byte, 1), 1);
    ualarm(0, 0);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_second, .sa_flags = SA_SIGINFO | SA_RESTART};
    char byte;
    int left;

    if (pipe2(pipes, 0))
        return 1;
    handle(SIGUSR1, on_first, 0);
    signal(SIGHUP, on_third);
    sigaddset(&action.sa_mask, SIGHUP);
    sigaddset(&action.sa_mask, SIGSYS);
    sigaction(SIGUSR2, &action, NULL);
    for (int round = 0; round < 30; round++) {
        events = 0;
        more = 2;
        raise(SIGUSR1);
        check(!blocked(SIGUSR1) && !blocked(SIGUSR2));
        same(events, 15);
    }
    for (int i = 0; i < events; i++)
        printf("%d ", order[i]);
    puts("");
    handle(SIGURG, recursive, SA_NODEFER);
    for (int round = 0; round < 30; round++) {
        depth = deepest = 0;
        raise(SIGURG);
        same(deepest, 40);
        same(depth, 0);
    }
    action = (struct sigaction){.sa_handler = writes, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    signal(SIGWINCH, reads);
    for (int round = 0; round < 20; round++) {
        raise(SIGWINCH);
        for (ioctl(pipes[0], FIONREAD, &left); left > 0; left--)
            same(read(pipes[0], &byte, 1), 1);
    }
    return finish();
}
