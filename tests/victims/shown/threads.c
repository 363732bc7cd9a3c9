// Four threads that work at the same time, each on a file of its own.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_barrier_t all_here;
static int files[4];

static void *work(void *argument)
{
    long number = (long)argument;
    char name[16], data[16];

    pthread_barrier_wait(&all_here);
    snprintf(name, sizeof name, "file-%ld", number);
    int fd = files[number];
    for (long i = 0; i < 100 + number; i++) {
        pwrite(fd, name, 6, 10 * i);
        pread(fd, data, sizeof data, 10 * i);
    }
    ftruncate(fd, number);
    fsync(fd);
    return NULL;
}

int main(void)
{
    pthread_t threads[4];

    pthread_barrier_init(&all_here, NULL, 4);
    for (int i = 0; i < 4; i++)
        files[i] = memfd_create("file", MFD_CLOEXEC);
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
