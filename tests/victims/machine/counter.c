// A program that has forbidden itself to read the time stamp counter, and so everything in its process:
// threads and children inherit that. (So do programs, but the dynamic linker does not survive it.)

#include <pthread.h>
#include <sys/prctl.h>

#include "exact.h"

static volatile int faults;

static void skip(int number __attribute__((unused)), siginfo_t *info, void *context)
{
    ucontext_t *at = context;

    same(info->si_code, SI_KERNEL);
    at->uc_mcontext.gregs[REG_RIP] += 2;
    faults++;
}

static void *calls(void *expected)
{
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), expected);
    __builtin_ia32_rdtsc();
    return NULL;
}

int main(void)
{
    pthread_t thread;

    handle(SIGSEGV, skip, 0);
    same(prctl(PR_SET_TSC, PR_TSC_SIGSEGV), 0);
    calls((void *)(long)getppid());
    same(faults, 1);
    pthread_create(&thread, NULL, calls, (void *)(long)getppid());
    pthread_join(thread, NULL);
    same(faults, 2);
    pid_t child = fork();
    if (child == 0) {
        calls((void *)(long)getppid());
        same(faults, 3);
        _exit(failures != 0);
    }
    same(ended(child), 0);
    same(prctl(PR_SET_TSC, PR_TSC_ENABLE), 0);
    calls((void *)(long)getppid());
    same(faults, 2);
    return finish();
}
