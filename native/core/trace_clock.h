// From the time stamp counter, by which records tell the time, to the time of day.
#ifndef TL_CORE_TRACE_CLOCK_H
#define TL_CORE_TRACE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What both clocks said at one moment.
struct tl_trace_moment {
    uint64_t ticks;
    int64_t ns; // since the epoch
};

// From a moment on, and until the next piece begins.
struct tl_trace_piece {
    struct tl_trace_moment from;
    double rate; // nanoseconds each tick
};

struct tl_trace_clock {
    struct tl_trace_moment first, last; // that it was told
    unsigned moments;                   // 0, 1 or more
    struct tl_trace_piece *pieces;      // in order
    size_t count, room;
};

// Moments come in order; others count for nothing. False: there is no memory.
bool tl_trace_clock_tell(struct tl_trace_clock *clock, struct tl_trace_moment moment);
// Never less for more ticks, also when it was told more in between; unless somebody has set the clock back.
int64_t tl_trace_clock_time(const struct tl_trace_clock *clock, uint64_t ticks);
void tl_trace_clock_free(struct tl_trace_clock *clock);

#endif
