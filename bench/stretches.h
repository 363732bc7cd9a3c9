// A clock, and medians over stretches of one loop, so that one stretch that lost its CPU does not count.
#pragma once
#include <stdlib.h>
#include <time.h>

enum { stretches = 20 };

static inline double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

// Returns nanoseconds for each of COUNT turns that REPEAT is asked for, after a stretch that does not count.
static inline double by_stretches(void (*repeat)(long), long count)
{
    double took[stretches];
    long each = count / stretches + 1;

    repeat(each);
    for (int i = 0; i < stretches; i++) {
        double start = now();
        repeat(each);
        took[i] = (now() - start) / (double)each;
    }
    qsort(took, stretches, sizeof *took, by_size);
    return (took[stretches / 2 - 1] + took[stretches / 2]) / 2;
}
