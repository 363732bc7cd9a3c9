// Signals that an engine may need for itself, sent by others at any moment, spoil nothing: no call, no vector
// register, no mask, and none of them is lost at the end.

#include <sys/time.h>

#include "exact.h"

static const int numbers[] = {SIGSYS, SIGSEGV, SIGILL, SIGBUS, SIGTRAP, SIGUSR1};
enum { COUNT = sizeof numbers / sizeof *numbers, SENDERS = 2 };
static volatile int handled[65], ppid;

static void on_signal(int number)
{
    handled[number]++;
    if (number % 2)
        same(call(SYS_getppid), ppid);
}

static bool have_all_come(void)
{
    for (int i = 0; i < COUNT; i++)
        if (!handled[numbers[i]])
            return false;
    return true;
}

static pid_t sender(pid_t to, unsigned seed, const volatile int *over)
{
    pid_t child = fork();

    if (child)
        return child;
    for (unsigned i = seed; !*over; i++) {
        kill(to, numbers[i % COUNT]);
        for (volatile unsigned idle = i * 37 % 500; idle; idle--)
            continue;
        if (i % 64 == 0)
            sched_yield();
    }
    _exit(0);
}

static void make_call(double value)
{
    double before = value, after;
    long result;

    __asm__ volatile("movsd %2, %%xmm7\n\tsyscall\n\tmovsd %%xmm7, %1"
                     : "=a"(result), "=m"(after)
                     : "m"(before), "a"(SYS_getppid)
                     : "rcx", "r11", "xmm7", "memory");
    same(result, ppid);
    check(before == after);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 50000;
    volatile int *over = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    unsigned long all = ~0ul, none = 0, pending;
    pid_t children[SENDERS];

    ppid = getppid();
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < COUNT; i++)
        sigaction(numbers[i], &action, NULL);
    for (unsigned i = 0; i < SENDERS; i++)
        children[i] = sender(getpid(), i * 11, over);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int round = 0; round < rounds || !have_all_come(); round++) {
        make_call(round * 1.5);
        if (round % 10)
            continue;
        call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
        make_call(round * 2.5);
        call(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    *over = 1;
    for (int i = 0; i < SENDERS; i++)
        same(ended(children[i]), 0);
    call(SYS_rt_sigpending, &pending, 8);
    same(pending, 0);
    return finish();
}
