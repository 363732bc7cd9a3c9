// Alternate signal stacks: which stack handlers run on, what sigaltstack says there, SS_AUTODISARM, frames of
// the size and in the place that they have natively, children, threads, and leaving by a jump.

#include <pthread.h>
#include <setjmp.h>
#include <sys/auxv.h>

#include "exact.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

enum { SIZE = 65536 };
static unsigned char *stack, *other;
static stack_t within, in_frame;
static unsigned char *volatile local;
static volatile long changed, distance, disabled;
static sigjmp_buf back;
static int told;
static bool jump;

static void on_signal(int number, siginfo_t *info, void *context)
{
    unsigned char here;
    stack_t wanted = {.ss_sp = other, .ss_size = SIZE}, none = {.ss_flags = SS_DISABLE};

    (void)number, (void)info;
    local = &here;
    in_frame = ((ucontext_t *)context)->uc_stack;
    call(SYS_sigaltstack, NULL, &within);
    distance = stack + SIZE - (unsigned char *)context;
    changed = call(SYS_sigaltstack, &wanted, NULL);
    if (changed)
        disabled = call(SYS_sigaltstack, &none, NULL);
    for (int i = 0; i < 5; i++)
        same(call(SYS_getppid), getppid());
    if (jump)
        siglongjmp(back, 1);
}

static bool on(const unsigned char *area)
{
    return local >= area && local < area + SIZE;
}

static void set(unsigned char *at, unsigned flags)
{
    stack_t new = {.ss_sp = at, .ss_size = SIZE, .ss_flags = (int)flags};

    same(call(SYS_sigaltstack, &new, NULL), 0);
}

static stack_t now(void)
{
    stack_t old;

    same(call(SYS_sigaltstack, NULL, &old), 0);
    return old;
}

static void *thread(void *unused)
{
    same(now().ss_flags, SS_DISABLE);
    raise(SIGUSR1); // on the thread's own stack
    check(!on(stack) && !on(other));
    return unused;
}

static void rounds(bool automatic)
{
    set(stack, automatic ? SS_AUTODISARM : 0);
    same(now().ss_flags, (int)(automatic ? SS_AUTODISARM : 0));
    same(now().ss_sp, stack);
    raise(SIGUSR1);
    check(on(stack));
    if (!automatic && !told++)
        printf("frame: %ld below the top\n", distance);
    same(in_frame.ss_sp, stack);
    same(in_frame.ss_size, SIZE);
    same(in_frame.ss_flags, (int)(automatic ? SS_AUTODISARM : 0));
    same(within.ss_flags, automatic ? SS_DISABLE : SS_ONSTACK);
    same(changed, automatic ? 0 : -EPERM);
    if (!automatic)
        same(disabled, -EPERM);
    // Coming back brings back what the frame has.
    same(now().ss_sp, stack);
    raise(SIGUSR2); // not SA_ONSTACK
    check(!on(stack) && !on(other));
}

int main(void)
{
    struct sigaction plain = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    stack_t small = {.ss_size = 1024}, odd = {.ss_size = SIZE, .ss_flags = 77}, own;
    pthread_t id;

    stack = mmap(NULL, 3 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    other = stack + 2 * SIZE;
    handle(SIGUSR1, on_signal, SA_ONSTACK);
    sigaction(SIGUSR2, &plain, NULL);
    same(now().ss_flags, SS_DISABLE);
    small.ss_sp = odd.ss_sp = stack;
    same(call(SYS_sigaltstack, &small, NULL), -ENOMEM);
    same(call(SYS_sigaltstack, &odd, NULL), -EINVAL);
    same(call(SYS_sigaltstack, (stack_t *)8, NULL), -EFAULT);
    for (int round = 0; round < 20; round++) {
        rounds(false);
        rounds(true);
        pid_t child = fork();
        if (child == 0) {
            same(now().ss_sp, stack);
            raise(SIGUSR1);
            check(on(stack));
            _exit(failures != 0);
        }
        same(ended(child), 0);
        if ((child = vfork()) == 0) {
            // It shares the memory: the parent's stack is not for it.
            call(SYS_sigaltstack, NULL, &own);
            _exit(0);
        }
        same(ended(child), 0);
        if (round == 0)
            printf("after vfork: %d\n", own.ss_flags);
        pthread_create(&id, NULL, thread, NULL);
        pthread_join(id, NULL);
        set(stack, 0);
        jump = true;
        if (!sigsetjmp(back, 1))
            raise(SIGUSR1);
        jump = false;
        // It was left without a return: it is free again.
        same(now().ss_flags, 0);
        set(other, 0);
        raise(SIGUSR1);
        check(on(other));
        stack_t none = {.ss_flags = SS_DISABLE};
        same(call(SYS_sigaltstack, &none, &own), 0);
        same(own.ss_sp, other);
        raise(SIGUSR1);
        check(!on(stack) && !on(other));
    }
    return finish();
}
