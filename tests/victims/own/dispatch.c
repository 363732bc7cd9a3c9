// The program's own Syscall User Dispatch: the selector in its own memory, what its handler is told, an
// allowed range, children, and switching it off.

#include <sys/prctl.h>

#include "exact.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

long caller(long number, long a, long b);
extern unsigned char caller_behind[], allowed_begin[], allowed_end[];
__asm__(".text\ncaller:\n mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n syscall\ncaller_behind: ret\n"
        "allowed_begin:\n mov %rdi, %rax\n syscall\n ret\n"
        "own_restorer: mov $15, %eax\n syscall\nallowed_end:\n");

static volatile unsigned char selector;
static siginfo_t info_seen;
static volatile int handled;
static volatile long rip_seen, rax_seen;

static void on_sigsys(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)number;
    selector = 0;
    handled++;
    info_seen = *info;
    rip_seen = regs[REG_RIP];
    rax_seen = regs[REG_RAX];
    same(call(SYS_getppid), getppid());
    regs[REG_RAX] = 5000 + regs[REG_RDI];
    // It returns by an allowed restorer, and the selector stays as it is.
}

static long allowed(long number)
{
    return ((long (*)(long))(void *)allowed_begin)(number);
}

static void expect(long number)
{
    handled = 0;
    selector = 1;
    long got = caller(number, 7, 8);
    selector = 0;
    same(got, 5007);
    same(handled, 1);
    same(info_seen.si_signo, SIGSYS);
    same(info_seen.si_code, 2 /* SYS_USER_DISPATCH */);
    same(info_seen.si_errno, 0);
    same(info_seen.si_call_addr, caller_behind);
    same(info_seen.si_syscall, number);
    same(rip_seen, caller_behind);
    same(rax_seen, number);
    selector = 1;
    got = allowed(SYS_getppid);
    selector = 0;
    same(got, getppid());
    same(handled, 1);
    same(caller(SYS_getppid, 0, 0), getppid());
}

int main(void)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {on_sigsys, SA_SIGINFO | 0x04000000, allowed_end - 7, 0};

    for (int i = 0; i < HOT; i++)
        same(caller(SYS_getppid, 0, 0), getppid());
    same(call(SYS_rt_sigaction, SIGSYS, &action, NULL, 8), 0);
    same(prctl(PR_SET_SYSCALL_USER_DISPATCH, 7L, 0L, 0L, 0L), -1);
    same(errno, EINVAL);
    same(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0L, 1L, 0L, 0L), -1);
    same(errno, EINVAL);
    same(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, -1L, -1L, &selector), -1);
    same(errno, EINVAL);
    same(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0L, 0L, -1L), -1);
    same(errno, EFAULT);
    for (int round = 0; round < 10; round++) {
        same(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, allowed_begin, allowed_end - allowed_begin, &selector),
             0);
        for (int i = 0; i < 20; i++) {
            expect(SYS_getppid);
            expect(1234);
            expect(SYS_mmap);
        }
        selector = 0;
        pid_t child = fork();
        if (child == 0) { // it is not inherited
            selector = 1;
            same(call(SYS_getppid), getppid());
            call(SYS_exit_group, failures != 0);
        }
        same(ended(child), 0);
        // Switched off, the selector means nothing.
        same(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0L, 0L, 0L, 0L), 0);
        selector = 1;
        same(call(SYS_getppid), getppid());
        same(caller(SYS_getppid, 7, 8), getppid());
        selector = 0;
    }
    // A selector of neither value, and one that is not there, are deadly.
    for (int kind = 0; kind < 2; kind++) {
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            page[0] = 0;
            prctl(PR_SET_SYSCALL_USER_DISPATCH, 1L, 0L, 0L, page);
            if (kind == 0)
                page[0] = 5;
            else
                munmap(page, PAGE);
            call(SYS_getppid);
            _exit(2);
        }
        printf("%d\n", ended(child));
    }
    return finish();
}
