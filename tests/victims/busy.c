// A program to attach to: THREADS threads that count what they get of calls of many kinds, until its standard
// input ends.
//
//   busy THREADS       prints "ready", and at the end how many calls were wrong, and some of its own state

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_int ends, signals;
static atomic_long wrong, calls;

static void handler(int number)
{
    (void)number;
    signals++;
}

static void check(int right)
{
    calls++;
    wrong += !right;
}

static void *work(void *argument)
{
    struct timespec shortly = {0, 300000};
    int pair[2];
    char byte;

    check(pipe(pair) == 0);
    for (long i = 0; !ends; i++) {
        check(syscall(SYS_getppid) == getppid());
        check(write(pair[1], "x", 1) == 1 && read(pair[0], &byte, 1) == 1 && byte == 'x');
        struct pollfd nothing = {pair[0], POLLIN, 0};
        int got = poll(&nothing, 1, 1);
        check(got == 0 || (got < 0 && errno == EINTR));
        struct timespec left = shortly;
        while (nanosleep(&left, &left) && errno == EINTR)
            ;
        check(syscall(-1L) == -1 && errno == ENOSYS);
        if (i % 8 == 0 && argument) {
            pid_t child = fork();
            if (child == 0)
                _exit(getppid() == syscall(SYS_getppid) ? 7 : 8);
            int status = 0;
            pid_t ended;
            while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR)
                ;
            check(ended == child && WEXITSTATUS(status) == 7);
        }
    }
    return argument;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = handler};
    struct itimerval every = {{0, 3000}, {0, 3000}};
    int count = argc > 1 ? atoi(argv[1]) : 4;
    pthread_t threads[32];
    char byte, line[256];

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    for (long i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    puts("ready");
    fflush(stdout);
    ssize_t got;
    while ((got = read(0, &byte, 1)) > 0 || (got < 0 && errno == EINTR))
        ;
    ends = 1;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("%ld wrong\n", (long)wrong);
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "TracerPid", 9) == 0 || strncmp(line, "Seccomp:", 8) == 0 ||
            strncmp(line, "SigBlk", 6) == 0 || strncmp(line, "NoNewPrivs", 10) == 0)
            fputs(line, stdout);
    fprintf(stderr, "%ld calls, %d signals\n", (long)calls, signals);
    return 0;
}
