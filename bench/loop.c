// Makes one system call COUNT times in each of THREADS threads and prints nanoseconds per call.
// usage: loop getppid|openat COUNT [THREADS]
//
// One thread: the median over 20 stretches, so that one stretch that lost its CPU does not count.
// Several: the time from the first call to the last, over all calls, which is throughput.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stretches.h"

enum { most_threads = 64 };

static int opens;
static long count;

static void repeat(long times)
{
    for (long i = 0; i < times; i++) {
        if (opens)
            syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY));
        else
            syscall(SYS_getppid);
    }
}

static void *thread_main(void *barrier)
{
    pthread_barrier_wait(barrier);
    repeat(count);
    return NULL;
}

static double several(int threads)
{
    pthread_t thread[most_threads];
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, thread_main, &barrier);
    pthread_barrier_wait(&barrier);
    double start = now();
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    return (now() - start) / (double)count / threads;
}

int main(int argc, char **argv)
{
    int threads = argc > 3 ? atoi(argv[3]) : 1;

    if (argc < 3 || (strcmp(argv[1], "getppid") && strcmp(argv[1], "openat")) || threads < 1 ||
        threads > most_threads || (count = atol(argv[2])) < 1) {
        fprintf(stderr, "usage: %s getppid|openat COUNT [THREADS]\n", argv[0]);
        return 2;
    }
    opens = !strcmp(argv[1], "openat");
    printf("%.2f\n", threads > 1 ? several(threads) : by_stretches(repeat, count));
    return 0;
}
