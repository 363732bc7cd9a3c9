// Code in memory that is also mapped elsewhere, or is a file's: what is executed may change through the other
// mapping, and nobody but the program may change the file.

#include <fcntl.h>

#include "exact.h"

static const unsigned char code[] = {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3};

static void run(unsigned char *at, int nr)
{
    long (*function)(void) = (void *)at;
    long expected = nr == SYS_getppid ? getppid() : nr == SYS_getpid ? getpid() : -ENOSYS;

    for (int i = 0; i < HOT; i++)
        same(function(), expected);
}

int main(void)
{
    static const int numbers[] = {SYS_getppid, 777, SYS_getpid};
    int fd = memfd_create("code", 0);
    unsigned char *writable, *first, *second, *private, seen[sizeof code];

    if (ftruncate(fd, 2 * PAGE))
        return 1;
    writable = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    first = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    second = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    for (int round = 0; round < 12; round++) {
        memcpy(writable, code, sizeof code);
        memcpy(writable + 1, &numbers[round % 3], 4);
        run(first, numbers[round % 3]);
        run(second, numbers[round % 3]);
        same(memcmp(writable + 5, code + 5, 3), 0);
        same(*(int *)(writable + 1), numbers[round % 3]);
        same(pread(fd, seen, sizeof seen, 0), sizeof seen);
        same(memcmp(seen + 5, code + 5, 3), 0);
        pid_t child = fork();
        if (child == 0) {
            run(first, numbers[round % 3]);
            memcpy(writable + 1, &numbers[(round + 1) % 3], 4);
            run(second, numbers[(round + 1) % 3]);
            _exit(failures != 0);
        }
        same(ended(child), 0);
        run(first, numbers[(round + 1) % 3]);
    }
    // A private mapping of the same file, whose text is written through the file until it is copied.
    memcpy(writable + PAGE, code, sizeof code);
    private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    run(private + PAGE, SYS_getppid);
    same(memcmp(writable + PAGE, code, sizeof code), 0);
    // Its copy, if any, goes away again.
    madvise(private, 2 * PAGE, MADV_DONTNEED);
    memcpy(writable + PAGE + 1, &numbers[1], 4);
    run(private + PAGE, numbers[1]);
    return finish();
}
