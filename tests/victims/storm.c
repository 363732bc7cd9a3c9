// storm THREADS CALLS [PROCESSES [hang]]: each process starts so many threads one after the other, 64 at a
// time, and each of these calls getppid so often. With hang, the first process then waits for ever.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long calls;

static void *thread(void *unused)
{
    for (long i = 0; i < calls; i++)
        syscall(SYS_getppid);
    return unused;
}

static void storm(long threads)
{
    pthread_t some[64];

    while (threads > 0) {
        long count = threads < 64 ? threads : 64;
        for (long i = 0; i < count; i++)
            if (pthread_create(&some[i], NULL, thread, NULL))
                abort();
        for (long i = 0; i < count; i++)
            pthread_join(some[i], NULL);
        threads -= count;
    }
}

int main(int argc, char **argv)
{
    long threads = atol(argv[1]), processes = argc > 3 ? atol(argv[3]) : 1;

    calls = atol(argv[2]);
    for (long i = 1; i < processes; i++) {
        if (fork() == 0) {
            storm(threads);
            _exit(0);
        }
    }
    storm(threads);
    while (wait(NULL) > 0)
        ;
    if (argc > 4 && strcmp(argv[4], "hang") == 0) {
        if (write(1, "hangs\n", 6) != 6)
            abort();
        pause();
    }
    return 0;
}
