// Makes one system call COUNT times and prints the nanoseconds that each took.
// usage: loop getppid|openat|getpgrp COUNT
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void once(char kind)
{
    switch (kind) {
    case 'o': {
        long fd = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY);
        syscall(SYS_close, fd);
        break;
    }
    case 'p':
        syscall(SYS_getpgrp);
        break;
    default:
        syscall(SYS_getppid);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || atol(argv[2]) <= 0) {
        fprintf(stderr, "usage: %s getppid|openat|getpgrp COUNT\n", argv[0]);
        return 2;
    }
    char kind = argv[1][0] == 'o' ? 'o' : argv[1][3] == 'p' && argv[1][4] == 'g' ? 'p' : 'g';
    long count = atol(argv[2]);
    for (long i = 0; i < count / 10 + 1; i++)
        once(kind);
    double start = now();
    for (long i = 0; i < count; i++)
        once(kind);
    printf("%.1f\n", (now() - start) / (double)count);
    return 0;
}
