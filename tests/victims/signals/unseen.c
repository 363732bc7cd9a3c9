// What a program blocks or ignores ends none of its calls, whoever sends it and however long the call waits.

#include <fcntl.h>
#include <poll.h>
#include <time.h>

#include "exact.h"

static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

// A `syscall` of its own with its number in front of it, as the C library's have.
#define CALL(name, a, b, c, d)                                                                               \
    ({                                                                                                       \
        register long r10 __asm__("r10") = (long)(d);                                                        \
        long result;                                                                                         \
        __asm__ volatile("movl %1, %%eax\n\tsyscall"                                                         \
                         : "=&a"(result)                                                                     \
                         : "i"(SYS_##name), "D"(a), "S"(b), "d"(c), "r"(r10)                                 \
                         : "rcx", "r11", "memory");                                                          \
        result;                                                                                              \
    })

static void until_it_sleeps(pid_t pid)
{
    char path[64], text[512] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    do {
        int fd = open(path, O_RDONLY);
        ssize_t got = read(fd, text, sizeof text - 1);
        close(fd);
        text[got > 0 ? got : 0] = 0;
    } while (!strstr(text, ") S"));
}

// A child that sends the signal while its parent waits, and does what it waits for once it waits again.
static pid_t sender(int number, int fd)
{
    pid_t parent = getpid(), child = fork();

    if (child)
        return child;
    until_it_sleeps(parent);
    kill(parent, number);
    until_it_sleeps(parent);
    if (write(fd, "x", 1) != 1)
        _exit(1);
    _exit(0);
}

static void ends_no_call(int number)
{
    struct timespec moment = {0, 5000000};
    char byte;
    int ends[2];

    if (pipe(ends))
        abort();
    struct pollfd readable = {ends[0], POLLIN, 0};
    for (int round = 0; round < 4; round++) {
        pid_t child = sender(number, ends[1]);
        same(CALL(wait4, child, NULL, __WALL, NULL), child);
        same(CALL(read, ends[0], &byte, 1, 0), 1);
        child = sender(number, ends[1]);
        same(CALL(read, ends[0], &byte, 1, 0), 1);
        same(ended(child), 0);
        child = sender(number, ends[1]);
        same(CALL(poll, &readable, 1, -1, 0), 1);
        same(CALL(read, ends[0], &byte, 1, 0), 1);
        same(ended(child), 0);
        child = sender(number, ends[1]);
        same(CALL(nanosleep, &moment, NULL, 0, 0), 0);
        same(CALL(read, ends[0], &byte, 1, 0), 1);
        same(ended(child), 0);
    }
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    static const int numbers[] = {SIGILL, SIGTRAP, SIGSYS, SIGSEGV, SIGBUS, SIGUSR1};
    struct sigaction handles = {.sa_handler = on_signal}, ignores = {.sa_handler = SIG_IGN};
    sigset_t set;

    for (int i = 0; i < 6; i++) {
        sigaction(numbers[i], &ignores, NULL);
        ends_no_call(numbers[i]);
        sigaction(numbers[i], &handles, NULL);
        sigemptyset(&set);
        sigaddset(&set, numbers[i]);
        sigprocmask(SIG_BLOCK, &set, NULL);
        ends_no_call(numbers[i]);
        same(handled, 0);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        same(handled, 1);
        handled = 0;
    }
    return finish();
}
