// Threads send each other queued signals while all make calls: each signal arrives once, with its value.
//
//   queue_storm THREADS SIGNALS

#include <pthread.h>

#include "exact.h"

enum { MOST = 32 };
static int threads, signals;
static volatile int tids[MOST];
static _Atomic long received, sum, wrong;
static _Atomic int running;
static pthread_barrier_t start;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    received++;
    sum += info->si_value.sival_int;
    wrong += call(SYS_getppid) != getppid() || info->si_code != SI_QUEUE;
}

static void *work(void *argument)
{
    long self = (long)argument;

    tids[self] = (int)call(SYS_gettid);
    pthread_barrier_wait(&start);
    for (int i = 0; i < signals; i++) {
        siginfo_t info = {.si_code = SI_QUEUE, .si_value.sival_int = i};
        int target = tids[(self + 1 + i) % threads];

        while (call(SYS_rt_tgsigqueueinfo, getpid(), target, 36 + i % 4, &info) == -EAGAIN)
            sched_yield();
        wrong += call(SYS_getppid) != getppid();
    }
    running--;
    while (running) // stays to receive what is still sent
        wrong += call(SYS_sched_yield) != 0;
    call(SYS_sched_yield); // the last of them is handled by now
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t ids[MOST];

    threads = argc > 1 ? atoi(argv[1]) : 8;
    signals = argc > 2 ? atoi(argv[2]) : 1000;
    running = threads;
    for (int number = 36; number < 40; number++)
        handle(number, on_signal, SA_RESTART);
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (long i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)i))
            return 2;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("%ld signals, sum %ld\n", (long)received, (long)sum);
    same(received, (long)threads * signals);
    same(sum, (long)threads * signals * (signals - 1) / 2);
    same(wrong, 0);
    return finish();
}
