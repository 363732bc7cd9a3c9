// Prints the time of day as every call there is tells it.
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

int main(void)
{
    struct timespec now, coarse, before, after;
    struct timeval tv;

    clock_gettime(CLOCK_MONOTONIC, &before);
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_REALTIME_COARSE, &coarse);
    gettimeofday(&tv, NULL);
    printf("%lld.%09ld %lld %lld.%06ld %lld\n", (long long)now.tv_sec, now.tv_nsec, (long long)coarse.tv_sec,
           (long long)tv.tv_sec, (long)tv.tv_usec, (long long)time(NULL));
    nanosleep(&(struct timespec){0, 1000000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    int runs = after.tv_sec > before.tv_sec || after.tv_nsec > before.tv_nsec;
    printf("monotonic clock %s\n", runs ? "runs" : "stands");
    return 0;
}
