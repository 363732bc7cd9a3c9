// Threads open /virtual/THREAD/NUMBER, whose content has to be that name, again and again.
//
//   opener THREADS TIMES [HERTZ]      with HERTZ, under signals with restarting handlers

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static int times;
static _Atomic(int) right;

static void on_signal(int number)
{
    (void)number;
}

static void *work(void *argument)
{
    long thread = (long)argument;

    for (int i = 0; i < times; i++) {
        char name[64], text[64] = "";
        snprintf(name, sizeof name, "/virtual/%ld/%d", thread, i);
        int fd = open(name, O_RDONLY);
        ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd > 2 && got == (ssize_t)strlen(name) && strcmp(name, text) == 0)
            right++;
        else
            fprintf(stderr, "%s: descriptor %d, %zd bytes: %s\n", name, fd, got, text);
        if (fd > 2)
            close(fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    int threads = atoi(argv[1]);
    pthread_t ids[64];

    times = atoi(argv[2]);
    if (argc > 3) {
        int pause = 1000000 / atoi(argv[3]);
        struct itimerval timer = {{0, pause}, {0, pause}};
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &timer, NULL);
    }
    for (long i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, work, (void *)i);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("%d right\n", right);
    return 0;
}
