// N threads make one getppid each, all of them at once.
//
//   threads N         succeeds when every one got 1
//   threads N exit    ends the process while threads are still calling
//   threads N times   prints when the call of each thread began and ended, in nanoseconds

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t start;
static int forever;

struct worker {
    pthread_t thread;
    long result;
    long began, ended;
};

static long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void *work(void *argument)
{
    struct worker *self = argument;

    pthread_barrier_wait(&start);
    self->began = now();
    do
        self->result = syscall(SYS_getppid, 0);
    while (forever);
    self->ended = now();
    return NULL;
}

int main(int argc, char **argv)
{
    int count = atoi(argv[1]), failed = 0;
    struct worker *workers = calloc((size_t)count, sizeof *workers);

    forever = argc > 2 && strcmp(argv[2], "exit") == 0;
    pthread_barrier_init(&start, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            return 99;
    pthread_barrier_wait(&start);
    if (forever) {
        for (int i = 0; i < 5; i++)
            syscall(SYS_getppid, 0);
        _exit(0);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        failed |= workers[i].result != 1;
        if (argc > 2)
            printf("%ld %ld\n", workers[i].began, workers[i].ended);
    }
    return argc > 2 ? 0 : failed;
}
