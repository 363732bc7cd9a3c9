// Dispatches its own calls, and goes on with that whatever comes and goes: for each line of input a call
// traps, and the handler decides its result.

#include <linux/prctl.h>
#include <sys/prctl.h>

#include "exact.h"

static volatile char selector;
static volatile int trapped;

static void on_trap(int number, siginfo_t *info, void *context)
{
    ucontext_t *at = context;

    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    trapped++;
    same(number, SIGSYS);
    same(info->si_code, 2); // SYS_USER_DISPATCH
    same(info->si_syscall, SYS_getppid);
    at->uc_mcontext.gregs[REG_RAX] = 1000 + trapped;
}

int main(void)
{
    char byte;

    handle(SIGSYS, on_trap, 0);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector))
        return 2;
    puts("ready");
    fflush(stdout);
    while (read(0, &byte, 1) == 1) {
        selector = SYSCALL_DISPATCH_FILTER_BLOCK;
        long result = call(SYS_getppid);
        printf("%ld %d\n", result, failures);
        fflush(stdout);
    }
    return finish();
}
