// The program traces a child's calls with ptrace: each entry and exit once, with the registers that the child
// has; numbers and results that it changes; what PTRACE_GET_SYSCALL_INFO says.

#include <linux/audit.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "exact.h"

enum { CALLS = 60 };
long caller(long number, long a, long b);
extern unsigned char caller_at[], caller_behind[];
__asm__(".text\ncaller:\n mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov $3, %edx\n mov $4, %r10d\n"
        "caller_at: syscall\ncaller_behind: nop\n nop\n nop\n ret\n");

static const long numbers[] = {SYS_getppid, SYS_getpgrp, SYS_close, 700, SYS_rt_sigprocmask, SYS_getuid};

static void traced(bool hot)
{
    long parent = getppid();

    for (int i = 0; hot && i < HOT; i++)
        caller(SYS_getppid, 0, 0);
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (int i = 0; i < CALLS; i++) {
        long got = caller(numbers[i % 6], -1, i);
        if (numbers[i % 6] == SYS_getppid)
            same(got, parent);
        if (numbers[i % 6] == SYS_getpgrp)
            same(got, 7777); // the tracer's
        if (numbers[i % 6] == SYS_close)
            same(got, i % 12 == 2 ? -ENOSYS : -EBADF);
        if (numbers[i % 6] == SYS_getuid)
            same(got, parent); // the tracer makes it a getppid
    }
    call(SYS_exit_group, failures ? 1 : 50);
}

static void wait_stop(pid_t child, int signal)
{
    int status = 0;

    same(waitpid(child, &status, 0), child);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != signal) {
        fprintf(stderr, "stopped with %x, not %x\n", status, signal);
        kill(child, SIGKILL);
        exit(1);
    }
}

static void entry(pid_t child, int i)
{
    struct user_regs_struct regs;
    struct __ptrace_syscall_info info;
    long number = numbers[i % 6];

    wait_stop(child, SIGTRAP | 0x80);
    ptrace(PTRACE_GETREGS, child, 0, &regs);
    same(regs.orig_rax, number);
    same(regs.rax, -ENOSYS);
    same(regs.rip, caller_behind);
    same(regs.rcx, caller_behind);
    same(regs.rdi, -1);
    same(regs.rsi, i);
    same(regs.rdx, 3);
    same(regs.r10, 4);
    check(ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0);
    same(info.op, PTRACE_SYSCALL_INFO_ENTRY);
    same(info.arch, AUDIT_ARCH_X86_64);
    same(info.instruction_pointer, caller_behind);
    same(info.entry.nr, number);
    same(info.entry.args[1], i);
    same(info.stack_pointer, regs.rsp);
    if (number == SYS_close && i % 12 == 2)
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, regs.orig_rax), -1);
    if (number == SYS_getuid)
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, regs.orig_rax), SYS_getppid);
}

static void leave(pid_t child, int i)
{
    struct user_regs_struct regs;
    struct __ptrace_syscall_info info;
    long number = numbers[i % 6];

    wait_stop(child, SIGTRAP | 0x80);
    ptrace(PTRACE_GETREGS, child, 0, &regs);
    same(regs.rip, caller_behind);
    check(ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0);
    same(info.op, PTRACE_SYSCALL_INFO_EXIT);
    same(info.exit.rval, regs.rax);
    if (number == 700)
        same(regs.rax, -ENOSYS);
    if (number == SYS_getppid)
        same(regs.rax, getpid());
    if (number == SYS_getpgrp)
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, regs.rax), 7777);
}

static void run(bool hot)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        traced(hot);
    wait_stop(child, SIGSTOP);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    // What raise() itself still does is no concern of ours.
    for (;;) {
        struct user_regs_struct regs;
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        wait_stop(child, SIGTRAP | 0x80);
        ptrace(PTRACE_GETREGS, child, 0, &regs);
        if (regs.rip == (unsigned long)caller_behind)
            break;
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        wait_stop(child, SIGTRAP | 0x80);
    }
    for (int i = 0; i < CALLS; i++) {
        if (i) {
            ptrace(PTRACE_SYSCALL, child, 0, 0);
            entry(child, i);
        }
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        leave(child, i);
    }
    ptrace(PTRACE_CONT, child, 0, 0);
    same(ended(child), 50);
}

int main(void)
{
    run(false);
    run(true);
    return finish();
}
