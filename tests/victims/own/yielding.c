// Tracers of threads that make one call after the other, so that they are hardly ever between two of them:
// what the tracer finds is the program's stack, and whoever it has traced goes on.

#include <sys/prctl.h>
#include <sys/user.h>

#include "exact.h"

long ptrace(int request, ...);

enum { PTRACE_GETREGS = 12, PTRACE_ATTACH = 16, PTRACE_DETACH = 17, ROUNDS = 8 };

static volatile int *over;

static int look_at(pid_t pid, uint64_t stack)
{
    struct user_regs_struct regs = {0};
    int status;

    same(ptrace(PTRACE_ATTACH, pid, NULL, NULL), 0);
    same(waitpid(pid, &status, __WALL), pid);
    check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    same(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
    check(stack - regs.rsp < 0x10000);
    same(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    *over = 1;
    return failures != 0;
}

static int look(void)
{
    pid_t pid = getpid();
    char here;

    *over = 0;
    pid_t tracer = fork();
    if (tracer == 0)
        _exit(look_at(pid, (uint64_t)&here));
    prctl(PR_SET_PTRACER, tracer);
    while (!*over)
        same(call(SYS_sched_yield), 0);
    same(ended(tracer), 0);
    return failures != 0;
}

int main(void)
{
    over = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(look());
        same(ended(child), 0);
    }
    return finish();
}
