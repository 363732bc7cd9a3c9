// What receiver.c and listener.c share.
#ifndef TL_LISTENER_STATE_H
#define TL_LISTENER_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "listener.h"

enum {
    tick_ns = 1000 * 1000,   // how long the sentinel lets the only receiver stay away
    slow_ns = 50 * 1000,     // calls of a kind that take longer to decide: another thread receives meanwhile
    longest_ns = 400 * 1000, // what is learnt from one call at most
    patience = 5,            // ticks without a call begun until a worker that runs counts as blocked
    call_kinds = 256,        // numbers are told apart modulo this
};

struct queued {
    struct queued *next;
    uint64_t
        due; // CLOCK_MONOTONIC in nanoseconds: when a delayed call is due, since when another one is queued
    struct tl_call call;
};

struct worker {
    struct worker *next;
    pid_t tid;
    bool deciding;
    uint64_t since; // when it began to decide, or 0 where that is not measured
    unsigned kind;  // of that call
};

struct tl_listener {
    struct tl_listener *next; // of all that are open, for fork
    bool forked;              // this is a copy in a forked process: its threads and its listener are not here
    struct tl_transport *transport;
    int stop_signal;
    unsigned workers_max;
    bool (*start_worker)(void *);
    void *context;

    pthread_mutex_t lock;
    pthread_cond_t work;   // for idle workers: a call is queued, or somebody has to receive
    pthread_cond_t watch;  // for the sentinel
    pthread_cond_t change; // for tl_listener_stop and tl_listener_wait_idle
    pthread_cond_t delay;  // for the clock thread
    pthread_t sentinel, clock;
    bool sentinel_runs, clock_runs;

    // Under the lock.
    bool receiving;
    pthread_t receiver;
    bool receiver_works; // it is a worker, not the sentinel
    uint64_t vacancies;  // how often the receiver has left to decide a call
    bool parked;         // the sentinel waits without a tick
    bool wanted;         // the sentinel is asked to receive at once
    bool done, closed;
    unsigned idle, present, started;
    struct worker *workers;
    int64_t durations[call_kinds]; // how long it takes to decide, in nanoseconds
    struct queued *head, **tail;
    struct queued *delayed; // by due time
    uint64_t hurry_at;      // when to look whether calls are still queued, or 0
    uint64_t hurry_seen;    // vacancies then
    unsigned stalled;       // how many times in a row nothing had been begun in between
    unsigned waiting;
    struct tl_listener_counts counts;

    atomic_ullong replied, gone;
};

static inline uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline void wait_until(struct tl_listener *l, pthread_cond_t *condition, uint64_t due)
{
    struct timespec until = {(time_t)(due / 1000000000), (long)(due % 1000000000)};

    pthread_cond_timedwait(condition, &l->lock, &until);
}

// With the lock held.
void tl_listener_finish(struct tl_listener *l);
void tl_listener_start_workers(struct tl_listener *l, unsigned count);

// Once nobody uses a closed listener's transport any more.
void tl_listener_give_back(struct tl_listener *l);

void *tl_listener_sentinel(void *listener);

#endif
