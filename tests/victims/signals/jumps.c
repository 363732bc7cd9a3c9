// Leaving handlers and calls by jumps: siglongjmp out of a handler that interrupted a call, thousands of
// times, and contexts that are swapped, also from within handlers.

#include <setjmp.h>
#include <sys/time.h>

#include "exact.h"

static sigjmp_buf back;
static ucontext_t contexts[3], home;
static volatile long jumps, switches;
static volatile bool armed;

static void alarms(long microseconds)
{
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

static void on_alarm(int number)
{
    (void)number;
    if (!armed)
        return;
    armed = false;
    jumps++;
    siglongjmp(back, 1);
}

static void out_of_calls(int times)
{
    int fds[2];
    char byte;

    check(pipe(fds) == 0);
    alarms(300);
    for (volatile int i = 0; i < times; i++) {
        if (sigsetjmp(back, 1) == 0) {
            armed = true;
            switch (i % 4) {
            case 0:
                read(fds[0], &byte, 1);
                break;
            case 1:
                pause();
                break;
            case 2:
                for (;;)
                    call(SYS_getppid);
            default:
                wait(NULL); // no children
                usleep(1000000);
            }
            armed = false;
        }
        same(call(SYS_getppid), getppid());
    }
    alarms(0);
    close(fds[0]);
    close(fds[1]);
}

static void out_of_raised(int times)
{
    signal(SIGUSR1, on_alarm);
    for (volatile int i = 0; i < times; i++) {
        armed = true;
        if (sigsetjmp(back, 1) == 0)
            raise(SIGUSR1);
    }
}

static void coroutine(int which)
{
    for (;;) {
        switches++;
        same(call(SYS_getppid), getppid());
        swapcontext(&contexts[which], which == 2 ? &home : &contexts[which + 1]);
    }
}

static void on_usr2(int number)
{
    (void)number;
    swapcontext(&home, &contexts[0]);
}

int main(void)
{
    sigset_t usr1, seen;

    signal(SIGALRM, on_alarm);
    out_of_calls(400);
    check(jumps > 0);
    out_of_raised(5000);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigaddset(&usr1, SIGSYS);
    for (int i = 0; i < 3; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = malloc(65536);
        contexts[i].uc_stack.ss_size = 65536;
        contexts[i].uc_sigmask = i == 1 ? usr1 : (sigset_t){0};
        makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
    }
    for (int i = 0; i < 1000; i++)
        swapcontext(&home, &contexts[0]);
    same(switches, 3000);
    struct sigaction action = {.sa_handler = on_usr2, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR2, &action, NULL);
    for (int i = 0; i < 300; i++)
        raise(SIGUSR2);
    same(switches, 3900);
    sigprocmask(SIG_BLOCK, NULL, &seen);
    same(sigismember(&seen, SIGUSR1), 0);
    return finish();
}
