// Makes calls in the main thread, in another one and in a forked child, and prints what each has returned,
// what is in the memory that they are about, which signals came, and which calls took longer than a quarter
// of a second.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char text[1 << 16];
static size_t length;
static volatile int signals[65];

static void on_signal(int number)
{
    signals[number]++;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// The result; a process id that is the right one is 'ok'.
static long make(const char *name, long right, long nr, long a, long b, long c, long d)
{
    double before = now();
    long result = syscall(nr, a, b, c, d);
    int error = errno;
    const char *slow = now() - before > 0.25 ? " slow" : "";

    if (result == -1)
        length += (size_t)sprintf(text + length, "%s: error %d%s\n", name, error, slow);
    else if (result == right)
        length += (size_t)sprintf(text + length, "%s: ok%s\n", name, slow);
    else
        length += (size_t)sprintf(text + length, "%s: %ld%s\n", name, result, slow);
    return result;
}

// The parent's number, as /proc has it.
static long parent_of_this(void)
{
    char line[512] = "";
    int fd = open("/proc/self/stat", O_RDONLY);
    long parent = 0;
    char *end;

    if (fd >= 0 && pread(fd, line, sizeof line - 1, 0) > 0 && (end = strrchr(line, ')')))
        sscanf(end + 2, "%*c %ld", &parent);
    close(fd);
    return parent;
}

static void call_often(const char *name)
{
    long parent = parent_of_this();

    for (int i = 0; i < 7; i++)
        make(name, parent, SYS_getppid, 0, 0, 0, 0);
}

static void *thread(void *unused)
{
    call_often("thread getppid");
    return unused;
}

static void print(void)
{
    for (int i = 1; i <= 64; i++)
        if (signals[i])
            length += (size_t)sprintf(text + length, "signal %d: %d\n", i, signals[i]);
    struct iovec all = {text, length};
    if (writev(1, &all, 1) < 0)
        _exit(9);
    length = 0;
}

int main(void)
{
    const int handled[] = {SIGUSR1, SIGSEGV, SIGALRM, SIGTRAP, SIGSYS, 40};
    char memory[9] = "abcdefgh";
    struct stat status;
    struct timespec moment = {0, 1000 * 1000};
    struct pollfd nothing = {.fd = -1};

    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        sigaction(handled[i], &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL);
    call_often("getppid");
    for (int i = 0; i < 3; i++) {
        make("getuid", 0, SYS_getuid, 0, 0, 0, 0);
        make("getpgid", getpgrp(), SYS_getpgid, 0, 0, 0, 0);
    }
    long zero = make("openat", -2, SYS_openat, AT_FDCWD, (long)"/dev/zero", O_RDWR, 0);
    make("openat missing", -2, SYS_openat, AT_FDCWD, (long)"/nowhere/at/all", O_RDONLY, 0);
    if (zero < 0)
        zero = open("/dev/full", O_RDWR);
    make("read", 4, SYS_read, zero, (long)(memory + 2), 4, 0);
    length += (size_t)sprintf(text + length, "memory");
    for (int i = 0; i < 8; i++)
        length += (size_t)sprintf(text + length, " %02x", (unsigned char)memory[i]);
    length += (size_t)sprintf(text + length, "\n");
    make("write", 8, SYS_write, zero, (long)memory, 8, 0);
    length += (size_t)sprintf(text + length, "memory %02x %02x\n", (unsigned char)memory[0],
                              (unsigned char)memory[7]);
    make("fstat", 0, SYS_fstat, zero, (long)&status, 0, 0);
    make("nanosleep", 0, SYS_nanosleep, (long)&moment, 0, 0, 0);
    make("poll", 0, SYS_poll, (long)&nothing, 1, 1, 0);
    make("close", 0, SYS_close, zero, 0, 0, 0);
    print();
    pthread_t other;
    if (pthread_create(&other, NULL, thread, NULL) == 0)
        pthread_join(other, NULL);
    print();
    pid_t child = fork();
    if (child == 0) {
        call_often("child getppid");
        print();
        _exit(3);
    }
    int how = 0;
    waitpid(child, &how, 0);
    length += (size_t)sprintf(text + length, "child: %d %d\n", WIFEXITED(how) ? WEXITSTATUS(how) : -1,
                              WIFSIGNALED(how) ? WTERMSIG(how) : 0);
    print();
    return 5;
}
