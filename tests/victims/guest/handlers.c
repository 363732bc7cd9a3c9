// Signals that a program sends to itself, its threads, and gets for its own faults.
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t got, value;
static sigjmp_buf back;
static double kept;

static void count(int number)
{
    got += number;
}

static void inform(int number, siginfo_t *info, void *context)
{
    (void)context;
    got = number;
    value = info->si_code == SI_TKILL && info->si_pid == getpid();
    kept = 2.5;
}

static void fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    value = info->si_addr == (void *)16;
    siglongjmp(back, 1);
}

static void *wait_for_it(void *argument)
{
    sigset_t set;
    int number = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigwait(&set, &number);
    *(int *)argument = number;
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = count};
    struct timespec second = {50, 0};
    sigset_t set, old;
    double before = 1.25;

    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("raised %d\n", (int)got);
    kill(getpid(), SIGUSR1);
    printf("killed %d\n", (int)got);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    printf("blocked %d, pending %d\n", (int)got, sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("let through %d\n", (int)got);

    action.sa_sigaction = inform;
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    sigaction(SIGUSR2, &action, NULL);
    before *= 3;
    raise(SIGUSR2);
    printf("informed %d %d %.3f %.1f\n", (int)got, (int)value, before, kept);

    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    action.sa_sigaction = fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < 3; i++)
        if (!sigsetjmp(back, 1)) {
            value = 0;
            *(volatile int *)16 = 1;
        }
    printf("faulted %d\n", (int)value);

    action.sa_flags = 0;
    action.sa_handler = count;
    got = 0;
    sigaction(SIGALRM, &action, NULL);
    // Again and again, as the first one may come before the sleep has begun.
    struct itimerval timer = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    int result = nanosleep(&second, NULL), error = errno;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("alarm %d %d %s\n", got > 0, result, strerror(error));

    int seen = 0;
    pthread_t thread;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pthread_create(&thread, NULL, wait_for_it, &seen);
    pthread_kill(thread, SIGUSR2);
    pthread_join(thread, NULL);
    printf("waited for %d\n", seen);
    fflush(stdout);
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
    return 1;
}
