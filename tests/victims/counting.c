// counting FILE THREADS: so many threads call getppid for ever, and each counts the calls that have returned
// in eight bytes of FILE.
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *count(void *counter)
{
    volatile uint64_t *calls = counter;

    for (;;) {
        syscall(SYS_getppid);
        ++*calls;
    }
}

int main(int argc, char **argv)
{
    long threads = argc > 2 ? atol(argv[2]) : 1;
    size_t size = (size_t)threads * sizeof(uint64_t);
    int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
    pthread_t id;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        abort();
    uint64_t *counters = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counters == MAP_FAILED)
        abort();
    for (long i = 0; i < threads; i++)
        if (pthread_create(&id, NULL, count, &counters[i]))
            abort();
    pause();
    return 0;
}
