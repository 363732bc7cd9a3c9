// Calls that a signal interrupts: they fail with EINTR, or are made again where the handler says so.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int ends[2];

static void handle(int number)
{
    (void)number;
}

static void write_one(int number)
{
    int before = errno;

    (void)number;
    if (write(ends[1], "x", 1) != 1)
        _exit(1);
    errno = before;
}

// Again and again, as the first one may come before the call waits.
static void soon(void)
{
    struct itimerval often = {{0, 2000}, {0, 2000}};

    setitimer(ITIMER_REAL, &often, NULL);
}

static void quiet(void)
{
    struct itimerval off = {{0, 0}, {0, 0}};

    setitimer(ITIMER_REAL, &off, NULL);
}

static void set(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    sigaction(SIGALRM, &action, NULL);
}

int main(void)
{
    int reads = 0, again = 0, sleeps = 0, polls = 0, never = 0;
    struct pollfd readable;
    char byte;

    pipe(ends);
    readable = (struct pollfd){ends[0], POLLIN, 0};
    // Each often enough for its site to be rewritten on the way.
    for (int i = 0; i < 30; i++) {
        set(handle, 0);
        soon();
        reads += read(ends[0], &byte, 1) == -1 && errno == EINTR;
        set(write_one, SA_RESTART);
        again += read(ends[0], &byte, 1) == 1;
        quiet();
        while (poll(&readable, 1, 0) == 1)
            read(ends[0], &byte, 1);
        set(handle, SA_RESTART);
        soon();
        struct timespec wanted = {30, 0}, rest = {0, 0};
        sleeps += nanosleep(&wanted, &rest) == -1 && errno == EINTR && rest.tv_sec >= 29;
        quiet();
    }
    int waits = epoll_create1(0);
    for (int i = 0; i < 5; i++) {
        struct epoll_event event;
        soon();
        polls += epoll_wait(waits, &event, 1, 30000) == -1 && errno == EINTR;
        quiet();
    }
    printf("interrupted %d, made again %d, slept %d, polled %d\n", reads, again, sleeps, polls);

    // A call that does not wait is not interrupted, however many signals there are.
    set(handle, 0);
    struct itimerval often = {{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 20000; i++)
        never += syscall(SYS_getppid) < 0;
    quiet();
    printf("never interrupted %d\n", never);
    return 0;
}
