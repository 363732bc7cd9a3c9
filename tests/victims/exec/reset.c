// What an exec resets and what it keeps: handlers, ignored signals, mask, pending signals, timers, alternate
// stack, descriptors, name, limits, working directory, the process's own settings.

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "exact.h"

static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static unsigned long mask_now(void)
{
    unsigned long mask;

    call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    return mask;
}

static int after(void)
{
    struct sigaction action;
    struct itimerval timer;
    struct rlimit limit;
    unsigned long pending;
    stack_t stack;
    char name[17] = "";

    for (int number = 1; number <= 64; number++)
        if (number != 32 && number != 33 && sigaction(number, NULL, &action) == 0 &&
            action.sa_handler != SIG_DFL)
            printf("%d %s\n", number, action.sa_handler == SIG_IGN ? "ignored" : "handled");
    call(SYS_rt_sigpending, &pending, 8);
    sigaltstack(NULL, &stack);
    getitimer(ITIMER_REAL, &timer);
    getrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_GET_NAME, name);
    printf("mask %lx, pending %lx, stack %x, timer %d, name %s, files %ld, umask %o\n", mask_now(), pending,
           stack.ss_flags, timer.it_value.tv_sec > 900, name, (long)limit.rlim_cur, umask(0));
    for (int fd = 3; fd < 20; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("open: %d\n", fd);
    printf("dumpable %d, pdeathsig %d, no_new_privs %d, seccomp %d, subreaper %d\n", prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_PDEATHSIG, &(int){0}), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECCOMP),
           prctl(PR_GET_CHILD_SUBREAPER, &(int){0}));
    // The signals that wait come when they may.
    signal(SIGUSR1, on_signal);
    signal(SIGSYS, on_signal);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    printf("handled %d\n", handled);
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    return finish();
}

int main(int argc, char **argv __attribute__((unused)))
{
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    struct itimerval timer = {.it_value.tv_sec = 1000};
    sigset_t set;

    if (argc > 1)
        return after();
    for (int number = 1; number <= 64; number++)
        signal(number, number == SIGSYS || number == SIGUSR1 || number % 4 == 0 ? on_signal : SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigfillset(&set);
    sigdelset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL);
    raise(SIGUSR1);
    raise(SIGSYS);
    sigaltstack(&stack, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){100, 100});
    umask(027);
    prctl(PR_SET_NAME, "another");
    check(open("/dev/null", O_RDONLY) == 3);
    check(open("/dev/null", O_RDONLY | O_CLOEXEC) == 4);
    check(open("/dev/null", O_RDONLY) == 5);
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    execl("/proc/self/exe", "reset", "after", NULL);
    return 1;
}
