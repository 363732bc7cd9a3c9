// Sixteen threads with variables of their own that make calls and take turns at a lock; then some that end
// alone.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum { threads = 16, rounds = 500 };

static __thread long mine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t together;
static long total;

static void *work(void *argument)
{
    mine = (long)argument;
    pthread_barrier_wait(&together);
    for (int i = 0; i < rounds; i++) {
        getppid();
        if (mine != (long)argument)
            _exit(9);
        pthread_mutex_lock(&lock);
        total += mine;
        pthread_mutex_unlock(&lock);
    }
    return (void *)(mine * 2);
}

static void *quick(void *argument)
{
    return argument;
}

int main(void)
{
    pthread_t thread[threads];
    long sum = 0;
    void *result;

    pthread_barrier_init(&together, NULL, threads);
    for (long i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], &result);
        sum += (long)result;
    }
    for (long i = 0; i < 50; i++) {
        pthread_create(&thread[0], NULL, quick, (void *)i);
        pthread_join(thread[0], &result);
        sum += (long)result;
    }
    printf("%ld %ld\n", total, sum);
    return 0;
}
