// Threads by the thousand: one after another, and hundreds at once, whose memory is given back; threads that
// end by a plain exit; a first thread that ends before the others; processes that end while others call.
//
//   many AFTER_ANOTHER AT_ONCE

#include <pthread.h>
#include <sys/resource.h>

#include "exact.h"

static _Atomic long made, wrong;
static pthread_barrier_t together;
static volatile bool go_on = true;

static void *short_lived(void *raw)
{
    wrong += call(SYS_getppid) != getppid();
    made++;
    if (raw)
        call(SYS_exit, 0); // not even by the C library
    return NULL;
}

static void *at_once(void *unused)
{
    pthread_barrier_wait(&together);
    for (int i = 0; i < 20; i++)
        wrong += call(SYS_getppid) != getppid();
    made++;
    pthread_barrier_wait(&together);
    return unused;
}

static void *calls_for_ever(void *unused)
{
    while (go_on)
        call(SYS_getppid);
    return unused;
}

static void *outlives(void *main_thread)
{
    pthread_join(*(pthread_t *)main_thread, NULL);
    for (int i = 0; i < HOT; i++)
        if (call(SYS_getppid) != getppid())
            call(SYS_exit_group, 1);
    call(SYS_exit_group, 60);
    return NULL;
}

static int child_of(int kind)
{
    static pthread_t self;
    pthread_t id;

    fflush(stdout);
    pid_t child = fork();
    if (child)
        return ended(child);
    self = pthread_self();
    if (kind == 0) {
        pthread_create(&id, NULL, outlives, &self);
        pthread_exit(NULL);
    }
    for (int i = 0; i < 8; i++)
        pthread_create(&id, NULL, calls_for_ever, NULL);
    for (int i = 0; i < HOT; i++)
        call(SYS_getppid);
    if (kind == 1)
        call(SYS_exit_group, 61);
    if (kind == 2)
        kill(getpid(), SIGKILL);
    if (kind == 3)
        *(volatile int *)8 = 1;
    execl("/proc/self/exe", "many", "exit", NULL);
    return 62;
}

static long size(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (fscanf(file, "%ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * 4;
}

int main(int argc, char **argv)
{
    int after = argc > 2 ? atoi(argv[1]) : 2000, once = argc > 2 ? atoi(argv[2]) : 200;
    pthread_t *ids = calloc((size_t)once, sizeof *ids);
    pthread_attr_t small;

    if (argc == 2)
        return 63;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int i = 0; i < 50; i++) {
        pthread_create(&ids[0], &small, short_lived, NULL);
        pthread_join(ids[0], NULL);
    }
    long before = size();
    for (int i = 50; i < after; i++) {
        if (pthread_create(&ids[0], &small, short_lived, i % 16 == 0 ? &made : NULL))
            return 2;
        pthread_join(ids[0], NULL);
    }
    same(made, after);
    // The memory of two thousand is no more than that of a few.
    check(size() - before < 16384);
    pthread_barrier_init(&together, NULL, (unsigned)once);
    for (int i = 0; i < once; i++)
        if (pthread_create(&ids[i], &small, at_once, NULL))
            return 3;
    for (int i = 0; i < once; i++)
        pthread_join(ids[i], NULL);
    same(made, after + once);
    same(wrong, 0);
    for (int kind = 0; kind < 5; kind++)
        printf("%d\n", child_of(kind));
    return finish();
}
