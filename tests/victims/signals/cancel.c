// Threads that are cancelled: while they wait in a call, between calls, in a loop without calls, with cleanup
// handlers; and what a call has done before is not lost.

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <time.h>

#include "exact.h"

static int fds[2], listener;
static volatile long cleaned, written, counted;
static sem_t started, never;

static void clean(void *unused)
{
    (void)unused;
    cleaned++;
}

static void *waits(void *kind)
{
    char byte;
    struct pollfd readable = {fds[0], POLLIN, 0};
    struct timespec minute = {60, 0};
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

    pthread_cleanup_push(clean, NULL);
    for (int i = 0; i < 20; i++)
        call(SYS_getppid);
    sem_post(&started);
    switch ((long)kind) {
    case 0:
        check(read(fds[0], &byte, 1) == 0);
        break;
    case 1:
        nanosleep(&minute, NULL);
        break;
    case 2:
        poll(&readable, 1, -1);
        break;
    case 3:
        sem_wait(&never);
        break;
    case 4:
        accept(listener, NULL, NULL);
        break;
    case 5:
        pthread_mutex_lock(&mutex);
        pthread_cond_wait(&condition, &mutex);
        break;
    case 6: // asynchronously, in a loop of nothing
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        for (;;)
            __asm__ volatile("");
    case 7: // asynchronously, in a loop of calls
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        for (;;)
            call(SYS_getppid);
    case 8: // at any of many cancellation points
        for (;;)
            close(open("/dev/null", O_RDONLY));
    case 9:
        for (;;)
            pthread_testcancel();
    case 10: { // not before it is allowed
        int old;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
        for (int i = 0; i < 1000; i++)
            call(SYS_getppid);
        counted++;
        pthread_setcancelstate(old, NULL);
        pause();
        break;
    }
    default:
        pause();
    }
    pthread_cleanup_pop(0);
    return NULL;
}

// What a write has written it also says: one byte per count.
static void *writes(void *fd)
{
    sem_post(&started);
    for (;;)
        if (write((int)(long)fd, "x", 1) == 1)
            written++;
    return NULL;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 10;
    struct sockaddr address = {AF_UNIX, ""};

    sem_init(&started, 0, 0);
    sem_init(&never, 0, 0);
    if (pipe(fds))
        return 1;
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, &address, sizeof(sa_family_t));
    listen(listener, 1);
    for (int round = 0; round < rounds; round++) {
        for (long kind = 0; kind < 12; kind++) {
            pthread_t id;
            void *result = NULL;

            cleaned = 0;
            same(pthread_create(&id, NULL, waits, (void *)kind), 0);
            while (sem_wait(&started))
                ;
            same(pthread_cancel(id), 0);
            same(pthread_join(id, &result), 0);
            check(result == PTHREAD_CANCELED);
            same(cleaned, 1);
        }
        same(counted, round + 1);
        // glibc and musl say by the program counter whether the call has happened: it has, or it has not.
        int pair[2];
        pthread_t id;
        char bytes[65536];
        long got = 0, now;

        check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        written = 0;
        pthread_create(&id, NULL, writes, (void *)(long)pair[1]);
        while (sem_wait(&started))
            ;
        for (int i = 0; i < round; i++)
            got += read(pair[0], bytes, 1);
        pthread_cancel(id);
        pthread_join(id, NULL);
        close(pair[1]);
        while ((now = read(pair[0], bytes, sizeof bytes)) > 0)
            got += now;
        close(pair[0]);
        // Deferred cancellation may act between the call and the count.
        check(got == written || got == written + 1);
    }
    return finish();
}
