// A timer storm over a mix of calls: every call has its own result, exactly, whatever interrupts it.
//
//   storm ROUNDS   prints how many calls of each kind did what they should

#include <pthread.h>
#include <sys/time.h>
#include <time.h>

#include "exact.h"

static volatile long handled;
static long good[8];

static void on_alarm(int number)
{
    (void)number;
    handled++;
    if (call(SYS_getppid) != getppid())
        failed(__LINE__, "getppid", " in a handler");
}

static void alarms(long microseconds)
{
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

// What a call takes, in microseconds: where Python is asked about each, a faster timer would leave no time
// for any.
static long microseconds_of_a_call(void)
{
    struct timespec began, ended;

    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int i = 0; i < HOT; i++)
        call(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return ((ended.tv_sec - began.tv_sec) * 1000000 + (ended.tv_nsec - began.tv_nsec) / 1000) / HOT + 1;
}

static void *thread(void *argument)
{
    for (int i = 0; i < 20; i++)
        same(call(SYS_getppid), getppid());
    return argument;
}

static void plain(int rounds)
{
    int fds[2];
    char bytes[8];

    check(pipe(fds) == 0);
    for (int i = 0; i < rounds; i++) {
        good[0] += call(SYS_getppid) == getppid();
        good[1] += write(fds[1], &i, sizeof i) == sizeof i && read(fds[0], bytes, sizeof i) == sizeof i &&
                   memcmp(bytes, &i, sizeof i) == 0;
        char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *at = 1;
        good[2] += munmap(at, PAGE) == 0;
        good[3] += call(700) == -ENOSYS;
        struct timespec shortly = {0, 20000};
        while (nanosleep(&shortly, &shortly) && errno == EINTR)
            ;
        good[4]++;
    }
    close(fds[0]);
    close(fds[1]);
}

static void children(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        pthread_t id;
        pid_t child = fork();

        if (child == 0)
            _exit(call(SYS_getppid) == getppid() ? 44 : 45);
        good[5] += ended(child) == 44;
        if ((child = vfork()) == 0)
            _exit(46);
        good[6] += ended(child) == 46;
        void *result = NULL;
        if (pthread_create(&id, NULL, thread, (void *)&good) == 0)
            pthread_join(id, &result);
        good[7] += result == (void *)&good;
    }
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};

    long each = microseconds_of_a_call();
    sigaction(SIGALRM, &action, NULL);
    alarms(100 + 10 * each);
    plain(rounds);
    // A fork that takes longer than the timer's period would start again for ever.
    alarms(10000 + 200 * each);
    children(rounds / 20);
    alarms(0);
    for (int i = 0; i < 8; i++)
        printf("%ld ", good[i]);
    puts("");
    check(handled > 0);
    return finish();
}
