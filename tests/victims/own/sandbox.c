// Programs that lock themselves in: seccomp's strict mode, and a filter that allows next to nothing and
// kills, fails or traps for everything else. Whoever else lives in the process must get along with that.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "exact.h"

static volatile int handled, trapped;
static int fds[2];

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void on_sigsys(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    trapped++;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = -200;
}

// Code that has not run before, and code that is hot.
__attribute__((noinline)) static long fresh_getppid(void)
{
    return call(SYS_getppid);
}

static long hot_getppid(long number)
{
    return call(number);
}

static void lock_in(unsigned otherwise)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, otherwise),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(90);
}

static void confined(unsigned otherwise, long parent)
{
    char byte;

    lock_in(otherwise);
    for (int i = 0; i < 2 * HOT; i++) {
        same(hot_getppid(SYS_getppid), parent);
        same(fresh_getppid(), parent);
    }
    same(write(1, "", 0), 0);
    // The parent sends a signal while this waits.
    same(read(fds[0], &byte, 1), 1);
    same(handled, 1);
    if (otherwise == SECCOMP_RET_KILL_PROCESS) {
        if (failures)
            call(SYS_exit_group, 1);
        hot_getppid(SYS_getpgrp);
    } else if (otherwise == SECCOMP_RET_TRAP) {
        for (int i = 0; i < HOT; i++)
            same(hot_getppid(SYS_getpgrp), -200);
        same(trapped, HOT);
    } else {
        for (int i = 0; i < HOT; i++)
            same(hot_getppid(SYS_getpgrp), -33);
    }
    call(SYS_exit_group, failures ? 1 : 42);
}

static void strict(void)
{
    char byte;

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        call(SYS_exit, 90);
    for (int i = 0; i < 2 * HOT; i++)
        if (call(SYS_write, 1, "", 0) != 0)
            call(SYS_exit, 91);
    if (call(SYS_read, fds[0], &byte, 1) != 1 || handled != 1)
        call(SYS_exit, 92);
}

static int run(int kind)
{
    static const unsigned otherwise[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO | 33, SECCOMP_RET_TRAP};
    long parent = getpid();
    pid_t child;

    fflush(stdout);
    if (pipe(fds))
        return -1;
    handled = 0;
    child = fork();
    if (child == 0) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(SIGUSR1, &action, NULL);
        handle(SIGSYS, on_sigsys, 0);
        for (int i = 0; i < HOT; i++)
            hot_getppid(SYS_getppid);
        raise(SIGUSR1);
        handled = 0;
        kill(parent, SIGUSR2);
        if (kind < 3)
            confined(otherwise[kind], parent);
        strict();
        if (kind == 3)
            call(SYS_exit, 43);
        hot_getppid(SYS_getppid);
    }
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigwait(&set, &number);
    kill(child, SIGUSR1);
    for (int i = 0; i < 20; i++)
        sched_yield();
    same(write(fds[1], "x", 1), 1);
    close(fds[0]);
    close(fds[1]);
    return ended(child);
}

int main(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int kind = 0; kind < 5; kind++)
        printf("%d\n", run(kind));
    return finish();
}
