// One thread makes a hooked getppid, whose hook does not return; then another a hooked getpgrp. This program
// signals the second, with a handler that does not restart, until the kernel shows that the call survives it
// (its state is D: it was received, and only a fatal signal can end it now), and only then lets the first
// hook go on.
//
//   received GO HELD    descriptors: a byte to GO lets the hook go on, a byte from HELD says that it waits

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic(int) second_tid, handled;
static long first_result, second_result;

static void on_signal(int number)
{
    (void)number;
    handled = 1;
}

static void *first(void *unused)
{
    first_result = syscall(SYS_getppid);
    return unused;
}

static void *second(void *unused)
{
    second_tid = (int)syscall(SYS_gettid);
    while ((second_result = syscall(SYS_getpgrp)) == -1 && errno == EINTR)
        ;
    return unused;
}

static char state(int tid)
{
    char path[64], text[512];

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *file = fopen(path, "r");
    if (!file)
        return '?';
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = 0;
    char *end = strrchr(text, ')');
    return end ? end[2] : '?';
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t one, two;
    char byte;
    time_t limit = time(NULL) + 20;

    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&one, NULL, first, NULL);
    if (argc < 3 || read(atoi(argv[2]), &byte, 1) != 1)
        return 1;
    pthread_create(&two, NULL, second, NULL);
    while (!second_tid)
        sched_yield();
    while (state(second_tid) != 'D' && time(NULL) < limit) {
        syscall(SYS_tgkill, getpid(), second_tid, SIGUSR1);
        for (int i = 0; i < 20; i++)
            sched_yield();
    }
    puts(time(NULL) < limit ? "received" : "not received");
    if (write(atoi(argv[1]), "x", 1) != 1)
        return 1;
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    printf("%ld %ld %s\n", first_result, second_result, handled ? "handled" : "not handled");
    return 0;
}
