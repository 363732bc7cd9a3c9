// A signal that comes at any moment around the call that waits for it is taken by that call.

#include <time.h>

#include "exact.h"

static volatile int *turn;

static void on_signal(int number)
{
    (void)number;
}

static unsigned long ticks(void)
{
    unsigned low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (unsigned long)high << 32 | low;
}

static void idle(int times)
{
    for (volatile int i = 0; i < times; i++)
        continue;
}

static void take(int number, int rounds)
{
    unsigned long only = 1ul << (number - 1), usual = 0;
    struct timespec long_enough = {10, 0};
    pid_t self = getpid();
    int before = 0;

    *turn = 0;
    pid_t child = fork();
    if (child == 0) {
        for (int round = 1; round <= rounds; round++) {
            for (unsigned spins = 1; *turn != round; spins++) {
                if (*turn < 0)
                    _exit(0);
                if (spins % 1024 == 0) // where the two share a processor
                    sched_yield();
            }
            kill(self, number);
        }
        _exit(0);
    }
    for (int round = 1; round <= rounds && failures == 0; round++) {
        *turn = round;
        idle(before);
        unsigned long began = ticks();
        same(call(SYS_rt_sigtimedwait, &only, NULL, &long_enough, 8), number);
        unsigned long took = ticks() - began;
        // Goes where it comes neither long before the call nor long after it has begun to sleep.
        usual += (took >> 4) - (usual >> 4);
        before += took > usual ? 5 : before > 4 ? -5 : 0;
    }
    *turn = -1;
    same(ended(child), 0);
}

int main(int argc, char **argv)
{
    static const int numbers[] = {SIGILL, SIGTRAP, SIGSYS, SIGUSR1};
    int rounds = argc > 1 ? atoi(argv[1]) : 10000;
    sigset_t all;

    turn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 4; i++)
        signal(numbers[i], on_signal);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 0; i < 4; i++)
        take(numbers[i], rounds);
    return finish();
}
