#include "trace_clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    most_pieces = 65536,       // ten minutes and more
    step_ns = 50 * 1000 * 1000 // what cannot be the drift of a clock
};

// How fast the time is corrected that was told wrong: within this.
static const double horizon_ns = 500e6;

static int64_t along(const struct tl_trace_piece *piece, uint64_t ticks)
{
    // What a program has written over its ring may be any number.
    return (int64_t)((uint64_t)piece->from.ns +
                     (uint64_t)llrint((double)(int64_t)(ticks - piece->from.ticks) * piece->rate));
}

static bool add(struct tl_trace_clock *c, struct tl_trace_piece piece)
{
    if (c->count == most_pieces) {
        c->count /= 2;
        memmove(c->pieces, c->pieces + c->count, c->count * sizeof *c->pieces);
    }
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        struct tl_trace_piece *pieces = realloc(c->pieces, room * sizeof *pieces);
        if (!pieces)
            return false;
        c->pieces = pieces;
        c->room = room;
    }
    c->pieces[c->count++] = piece;
    return true;
}

static double rate_between(struct tl_trace_moment a, struct tl_trace_moment b)
{
    return (double)(int64_t)((uint64_t)b.ns - (uint64_t)a.ns) / (double)(b.ticks - a.ticks);
}

bool tl_trace_clock_tell(struct tl_trace_clock *c, struct tl_trace_moment moment)
{
    if (!c->moments) {
        c->first = c->last = moment;
        c->moments = 1;
        return true;
    }
    if (moment.ticks <= c->last.ticks)
        return true;
    c->last = moment;
    c->moments = 2;
    double rate = rate_between(c->first, moment);
    if (!c->count)
        return add(c, (struct tl_trace_piece){c->first, rate});
    // What has been said of this moment stays true; the rate makes up for it.
    double usual = c->pieces[c->count - 1].rate;
    int64_t said = along(&c->pieces[c->count - 1], moment.ticks);
    double wrong = (double)(int64_t)((uint64_t)moment.ns - (uint64_t)said);
    if (fabs(wrong) > step_ns) {
        c->first = moment; // somebody has set the clock
        return add(c, (struct tl_trace_piece){moment, usual});
    }
    rate *= 1 + wrong / horizon_ns;
    return add(c, (struct tl_trace_piece){{moment.ticks, said}, rate > 0 ? rate : usual});
}

int64_t tl_trace_clock_time(const struct tl_trace_clock *c, uint64_t ticks)
{
    size_t low = 0, high = c->count;

    if (!c->count)
        return c->first.ns;
    // The last one that begins before it; most often that is among the newest.
    if (high > 4 && c->pieces[high - 4].from.ticks <= ticks)
        low = high - 4;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (c->pieces[middle].from.ticks <= ticks)
            low = middle;
        else
            high = middle;
    }
    return along(&c->pieces[low], ticks);
}

void tl_trace_clock_free(struct tl_trace_clock *c)
{
    free(c->pieces);
    *c = (struct tl_trace_clock){0};
}
