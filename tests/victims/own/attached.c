// A child attaches to each thread of its busy parent, looks where it is, follows some of its calls and lets
// it go. The parent's calls all succeed meanwhile, and its handlers, stacks and masks are its own.

#include <dirent.h>
#include <linux/ptrace.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "exact.h"

long ptrace(int request, ...);

enum { THREADS = 4, STOPS = 20 };

static volatile int over, handled;
static volatile long wrong[THREADS];

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void *busy(void *argument)
{
    volatile long *bad = argument;
    int pipe_fds[2];
    char byte = 0;

    if (pipe(pipe_fds))
        return NULL;
    while (!over) {
        *bad += getppid() <= 0;
        *bad += write(pipe_fds[1], &byte, 1) != 1 || read(pipe_fds[0], &byte, 1) != 1;
    }
    return NULL;
}

static bool stands_at_a_call(pid_t tid)
{
    struct user_regs_struct regs;
    uint16_t code = 0;
    struct iovec local = {&code, sizeof code};

    if (ptrace(PTRACE_GETREGS, tid, NULL, &regs))
        return false;
    struct iovec remote = {(void *)(regs.rip - 2), sizeof code};
    return process_vm_readv(tid, &local, 1, &remote, 1, 0) == sizeof code && code == 0x050f;
}

static void trace(pid_t tid)
{
    int status = 0, stops = 0;

    check(ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD) == 0);
    check(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0);
    for (; stops < STOPS; stops++) {
        check(waitpid(tid, &status, __WALL) == tid);
        check(WIFSTOPPED(status) && WSTOPSIG(status) != SIGSYS);
        if (WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80))
            check(stands_at_a_call(tid));
        if (stops < STOPS - 1)
            check(ptrace(PTRACE_SYSCALL, tid, NULL, NULL) == 0);
    }
    check(ptrace(PTRACE_DETACH, tid, NULL, NULL) == 0);
}

static void trace_all(pid_t pid)
{
    char path[64];
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    while ((entry = readdir(tasks))) {
        pid_t tid = atoi(entry->d_name);
        if (tid && tid != pid)
            trace(tid);
    }
    closedir(tasks);
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal}, seen;
    stack_t stack;
    sigset_t mask;
    pthread_t threads[THREADS];
    int status;

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    sigaction(SIGTRAP, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, busy, (void *)&wrong[i]);
    pid_t child = fork();
    if (!child) {
        trace_all(getppid());
        _exit(failures != 0);
    }
    while (waitpid(child, &status, 0) < 0)
        check(errno == EINTR);
    same(status, 0);
    over = 1;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        same(wrong[i], 0);
    }
    sigaction(SIGSEGV, NULL, &seen);
    check(seen.sa_handler == SIG_DFL);
    sigaltstack(NULL, &stack);
    same(stack.ss_flags, SS_DISABLE);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    check(!sigismember(&mask, SIGSYS));
    raise(SIGTRAP);
    raise(SIGUSR1);
    same(handled, 2);
    puts("ok");
    return failures != 0;
}
