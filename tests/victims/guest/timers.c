// Timers of POSIX: once, again and again, with overruns, at a time of a clock, for one thread, by a thread.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile sig_atomic_t rings, code, value, overruns;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t called = PTHREAD_COND_INITIALIZER;
static int calls;

static void ring(int number, siginfo_t *info, void *context)
{
    (void)context;
    rings += number == SIGUSR1 || number == SIGALRM;
    code = info->si_code;
    value = info->si_value.sival_int;
    overruns += info->si_overrun;
}

static void call(union sigval given)
{
    pthread_mutex_lock(&lock);
    calls += given.sival_int;
    pthread_cond_signal(&called);
    pthread_mutex_unlock(&lock);
}

static void wait_for(int count)
{
    sigset_t set, old;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, &old);
    while (rings < count)
        sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void *other(void *argument)
{
    struct sigevent event = {.sigev_signo = SIGUSR2, .sigev_notify = SIGEV_THREAD_ID};
    struct itimerspec soon = {{0, 0}, {0, 1000000}};
    sigset_t set;
    siginfo_t info;
    timer_t timer;

    (void)argument;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    event.sigev_value.sival_int = 11;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &soon, NULL);
    int got = sigwaitinfo(&set, &info);
    printf("thread got %d, value %d, timer %d\n", got == SIGUSR2, info.si_value.sival_int,
           info.si_code == SI_TIMER);
    timer_delete(timer);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO};
    struct sigevent event = {.sigev_signo = SIGUSR1, .sigev_notify = SIGEV_SIGNAL};
    struct itimerspec once = {{0, 0}, {0, 1000000}}, often = {{0, 1000000}, {0, 1000000}},
                      off = {{0, 0}, {0, 0}}, now, late = {{0, 0}, {1000, 0}};
    timer_t timer, alarm_like;
    pthread_t thread;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    event.sigev_value.sival_int = 7;
    printf("create %d\n", timer_create(CLOCK_MONOTONIC, &event, &timer));
    timer_settime(timer, 0, &once, NULL);
    wait_for(1);
    printf("once: timer %d, value %d\n", code == SI_TIMER, (int)value);
    timer_gettime(timer, &now);
    printf("over: %ld %ld\n", (long)now.it_value.tv_sec, now.it_value.tv_nsec);

    rings = 0;
    timer_settime(timer, 0, &often, NULL);
    wait_for(5);
    timer_gettime(timer, &now);
    printf("again: %d, every %ld\n", now.it_value.tv_sec == 0, now.it_interval.tv_nsec);

    sigset_t block;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    struct timespec rest = {0, 30000000};
    nanosleep(&rest, NULL);
    overruns = 0;
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    printf("overrun: %d %d\n", overruns > 3 || timer_getoverrun(timer) > 3, rings >= 6);
    timer_settime(timer, 0, &off, NULL);

    timer_settime(timer, 0, &late, NULL);
    timer_settime(timer, 0, &off, &now);
    printf("left: %d\n", now.it_value.tv_sec >= 990);

    rings = 0;
    clock_gettime(CLOCK_REALTIME, &once.it_value);
    timer_create(CLOCK_REALTIME, NULL, &alarm_like);
    timer_settime(alarm_like, TIMER_ABSTIME, &once, NULL);
    wait_for(1);
    printf("at a time: %d\n", code == SI_TIMER);
    printf("delete %d", timer_delete(timer));
    printf(" %d", timer_delete(alarm_like));
    printf(" %ld\n", syscall(SYS_timer_delete, 77));

    pthread_create(&thread, NULL, other, NULL);
    pthread_join(thread, NULL);

    struct sigevent by_thread = {.sigev_notify = SIGEV_THREAD};
    by_thread.sigev_notify_function = call;
    by_thread.sigev_value.sival_int = 3;
    struct itimerspec soon = {{0, 0}, {0, 1000000}};
    timer_create(CLOCK_MONOTONIC, &by_thread, &timer);
    timer_settime(timer, 0, &soon, NULL);
    pthread_mutex_lock(&lock);
    while (!calls)
        pthread_cond_wait(&called, &lock);
    pthread_mutex_unlock(&lock);
    printf("by a thread: %d\n", calls);
    timer_delete(timer);

    rings = 0;
    struct itimerval interval = {{0, 1000}, {0, 1000}}, before;
    setitimer(ITIMER_REAL, &interval, NULL);
    wait_for(3);
    memset(&interval, 0, sizeof interval);
    setitimer(ITIMER_REAL, &interval, &before);
    printf("interval: %ld\n", (long)before.it_interval.tv_usec);

    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    unsigned long long times = 0;
    timerfd_settime(fd, 0, &soon, NULL);
    ssize_t size = read(fd, &times, sizeof times);
    printf("descriptor: %zd %llu\n", size, times);
    return 0;
}
