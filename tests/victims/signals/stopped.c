// Calls that are stopped and continued: they start again by themselves, with the time that is left, and
// nobody sees an EINTR. A child waits in each; its parent stops and continues it.

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include "exact.h"

static int fds[2], ready[2];

static long nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static long one(int which)
{
    struct timespec time = {0, 60000000}, left = {0, 0};
    struct pollfd readable = {fds[0], POLLIN, 0};
    int word = 0;
    char byte;
    long result, began = nanoseconds();

    switch (which) {
    case 0:
        result = call(SYS_nanosleep, &time, &left);
        break;
    case 1:
        result = call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL);
        break;
    case 2:
        result = call(SYS_poll, &readable, 1, 60);
        break;
    case 3:
        result = call(SYS_futex, &word, 0, 0, &time) == -ETIMEDOUT ? 0 : -1;
        break;
    case 4:
        result = call(SYS_ppoll, &readable, 1, &time, NULL, 8);
        break;
    default:
        return call(SYS_read, fds[0], &byte, 1) - 1;
    }
    if (nanoseconds() - began < 59000000)
        return -2;
    return result;
}

// Of a traced process a small t.
static bool has_stopped(pid_t pid)
{
    char path[64], text[512];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "r");
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = 0;
    return strchr("TtZ", strrchr(text, ')')[2]);
}

int main(void)
{
    char byte;

    if (pipe(fds) || pipe(ready))
        return 1;
    for (int which = 0; which < 6; which++) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < HOT; i++)
                call(SYS_getppid);
            same(write(ready[1], "r", 1), 1);
            long result = one(which);
            if (result)
                failed(__LINE__, "call", " %d ended with %ld", which, result);
            _exit(failures != 0);
        }
        same(read(ready[0], &byte, 1), 1);
        for (int i = 0; i < 5; i++) {
            kill(child, SIGSTOP);
            while (!has_stopped(child))
                sched_yield();
            kill(child, SIGCONT);
        }
        if (which == 5)
            same(write(fds[1], "x", 1), 1);
        same(ended(child), 0);
    }
    // Nobody but the kernel starts a call again.
    for (int i = 0; i < HOT; i++)
        same(call(SYS_restart_syscall), -EINTR);
    return finish();
}
