// Threads that make numbered calls, under signals and between forks.
//
//   stress THREADS CALLS HERTZ FORKS restart|interrupt
//
// Each call is getpriority(thread, number), whose hook answers number + 1. Every FORKS calls (0: never) a
// child is forked that makes ten more. Signals go HERTZ times a second to a thread in turn. Prints how many
// calls were answered right, were interrupted (and made again), and were wrong, and how many signals were
// handled.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct shared {
    _Atomic(long) good, interrupted, wrong, signals;
} *shared;

static int calls, forks;
static _Atomic(int) running;
static int *tids;

static void on_signal(int number)
{
    (void)number;
    shared->signals++;
}

static void call(long thread, long number)
{
    long result;

    while ((result = syscall(SYS_getpriority, thread, number)) == -1 && errno == EINTR)
        shared->interrupted++;
    if (result == number + 1)
        shared->good++;
    else
        shared->wrong++;
}

static void *work(void *argument)
{
    long thread = (long)argument;

    tids[thread] = (int)syscall(SYS_gettid);
    for (long i = 0; i < calls; i++) {
        call(thread, thread * 100000 + i);
        if (forks && i % forks == forks - 1) {
            pid_t child = fork();
            if (child == 0) {
                for (long j = 0; j < 10; j++)
                    call(thread, j);
                _exit(0);
            }
            while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
                ;
        }
    }
    running--;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 99;
    int threads = atoi(argv[1]), hertz = atoi(argv[3]);
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = argv[5][0] == 'r' ? SA_RESTART : 0};

    calls = atoi(argv[2]);
    forks = atoi(argv[4]);
    tids = calloc((size_t)threads, sizeof *tids);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGUSR1, &action, NULL);
    running = threads;
    for (long i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)i))
            return 98;
    for (int turn = 0; hertz && running; turn++) {
        struct timespec pause = {0, 1000000000L / hertz};
        nanosleep(&pause, NULL);
        if (tids[turn % threads])
            syscall(SYS_tgkill, getpid(), tids[turn % threads], SIGUSR1);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("%ld %ld %ld %ld\n", shared->good, shared->interrupted, shared->wrong, shared->signals);
    return 0;
}
