#include "listener.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "notif.h"

enum {
    tick_ns = 1000 * 1000,  // how long the sentinel lets the only receiver stay away
    solo_calls = 32,        // so many calls in a row of one thread: no other is calling
};

struct queued {
    struct queued *next;
    uint64_t due;  // CLOCK_MONOTONIC in nanoseconds, for a delayed call
    struct tl_call call;
};

struct tl_listener {
    int fd;
    atomic_uint fd_users;  // closed when it falls to 0
    int stop_signal;
    unsigned workers_max;
    bool (*start_worker)(void *);
    void *context;

    pthread_mutex_t lock;
    pthread_cond_t work;    // for idle workers: a call is queued, or somebody has to receive
    pthread_cond_t watch;   // for the sentinel
    pthread_cond_t change;  // for tl_listener_stop and tl_listener_wait_idle
    pthread_cond_t delay;   // for the clock thread
    pthread_t sentinel, clock;
    bool sentinel_runs, clock_runs;

    // Under the lock.
    bool receiving;
    pthread_t receiver;
    uint64_t vacancies;  // how often the receiver has left to decide a call
    bool parked;         // the sentinel waits without a tick
    bool wanted;         // the sentinel is asked to receive at once
    bool done, closed;
    unsigned idle, present, started;
    int32_t last_tid;
    unsigned last_tid_calls;
    struct queued *head, **tail;
    struct queued *delayed;  // by due time
    uint64_t grow_at;        // when to look whether workers are lacking, or 0
    unsigned waiting;
    struct tl_listener_counts counts;

    atomic_ullong replied, gone;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void wait_until(struct tl_listener *l, pthread_cond_t *condition, uint64_t due)
{
    struct timespec until = {(time_t)(due / 1000000000), (long)(due % 1000000000)};

    pthread_cond_timedwait(condition, &l->lock, &until);
}

static void ignore_signal(int number)
{
    (void)number;
}

// A receiver that waits in the kernel can only be interrupted by a signal: a real-time one that nobody here uses.
static int claim_stop_signal(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int claimed;

    pthread_mutex_lock(&lock);
    for (int number = SIGRTMAX - 1; !claimed && number >= SIGRTMIN; number--) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_DFL) {
            memset(&action, 0, sizeof action);
            action.sa_handler = ignore_signal;
            if (sigaction(number, &action, NULL) == 0)
                claimed = number;
        }
    }
    pthread_mutex_unlock(&lock);
    return claimed;
}

// Only the stop signal may interrupt a thread that works here: any other would tear an answer apart.
static void block_signals(const struct tl_listener *l)
{
    sigset_t set;

    sigfillset(&set);
    if (l->stop_signal)
        sigdelset(&set, l->stop_signal);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

// Somebody else has to receive from now on. An idle worker, else the sentinel, which queues what it gets.
static void hand_over(struct tl_listener *l)
{
    if (l->idle) {
        pthread_cond_signal(&l->work);
    } else {
        l->wanted = true;
        pthread_cond_signal(&l->watch);
    }
}

static void note_caller(struct tl_listener *l, const struct tl_call *call)
{
    if (call->tid == l->last_tid) {
        l->last_tid_calls++;
    } else {
        l->last_tid = call->tid;
        l->last_tid_calls = 0;
    }
}

// A worker is about to decide a call.
static void leave_to_decide(struct tl_listener *l)
{
    l->vacancies++;
    if (!l->receiving) {
        if (l->last_tid_calls < solo_calls)
            hand_over(l);
        else if (l->parked)
            pthread_cond_signal(&l->watch);
    }
    if (l->head && l->idle)
        pthread_cond_signal(&l->work);
}

static void finish(struct tl_listener *l)
{
    l->done = true;
    pthread_cond_broadcast(&l->work);
    pthread_cond_broadcast(&l->watch);
    pthread_cond_broadcast(&l->change);
    pthread_cond_broadcast(&l->delay);
}

// Takes the receiver's role for one call. The lock is held before and after, not in between.
static int receive_as(struct tl_listener *l, struct tl_call *call)
{
    l->receiving = true;
    l->receiver = pthread_self();
    pthread_mutex_unlock(&l->lock);
    int error = tl_notif_receive(l->fd, call);
    pthread_mutex_lock(&l->lock);
    l->receiving = false;
    if (!error) {
        l->counts.received++;
        note_caller(l, call);
    } else if (error != ENOENT && error != EINTR) {
        l->counts.failure = error == ENOTCONN ? 0 : error;
        finish(l);
    }
    if (l->done)
        pthread_cond_broadcast(&l->change);
    return error;
}

// Called with the lock held and returns with it held.
static void start_workers(struct tl_listener *l, unsigned count)
{
    while (count-- && l->started < l->workers_max && !l->done) {
        l->started++;
        l->present++;
        pthread_mutex_unlock(&l->lock);
        bool started = l->start_worker(l->context);
        pthread_mutex_lock(&l->lock);
        if (!started) {
            l->started--;
            l->present--;
            break;
        }
    }
}

static void dequeue(struct tl_listener *l, struct tl_call *call)
{
    struct queued *first = l->head;

    *call = first->call;
    l->head = first->next;
    if (!l->head)
        l->tail = &l->head;
    l->waiting--;
    free(first);
}

bool tl_listener_next(struct tl_listener *l, struct tl_call *call)
{
    bool got = false;

    pthread_mutex_lock(&l->lock);
    while (!got && !(l->done && !l->head)) {
        if (l->head) {
            dequeue(l, call);
            got = true;
        } else if (!l->receiving) {
            got = receive_as(l, call) == 0;
        } else {
            l->idle++;
            pthread_cond_wait(&l->work, &l->lock);
            l->idle--;
        }
    }
    if (got)
        leave_to_decide(l);
    pthread_mutex_unlock(&l->lock);
    return got;
}

// When calls still wait for a worker after a tick, there are too few.
static void grow(struct tl_listener *l)
{
    unsigned lacking = l->waiting > l->idle ? l->waiting - l->idle : 0;

    start_workers(l, lacking);
    l->grow_at = l->head && l->started < l->workers_max ? now_ns() + tick_ns : 0;
}

static void append(struct tl_listener *l, struct queued *entry);

static void *clock_main(void *argument)
{
    struct tl_listener *l = argument;

    block_signals(l);
    pthread_mutex_lock(&l->lock);
    while (!l->done) {
        struct queued *first = l->delayed;
        uint64_t due = first ? first->due : 0;
        if (l->grow_at && (!due || l->grow_at < due))
            due = l->grow_at;
        if (!due) {
            pthread_cond_wait(&l->delay, &l->lock);
        } else if (due > now_ns()) {
            wait_until(l, &l->delay, due);
        } else if (due == l->grow_at) {
            grow(l);
        } else {
            l->delayed = first->next;
            append(l, first);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int start_clock(struct tl_listener *l)
{
    int error = l->clock_runs || l->done ? 0 : pthread_create(&l->clock, NULL, clock_main, l);

    l->clock_runs = l->clock_runs || (!l->done && !error);
    return error;
}

static void append(struct tl_listener *l, struct queued *entry)
{
    entry->next = NULL;
    *l->tail = entry;
    l->tail = &entry->next;
    if (++l->waiting > l->counts.most_waiting)
        l->counts.most_waiting = l->waiting;
    if (l->idle) {
        pthread_cond_signal(&l->work);
    } else if (!l->grow_at && l->started < l->workers_max && start_clock(l) == 0) {
        // A worker that is about to come back is cheaper than a new one.
        l->grow_at = now_ns() + tick_ns;
        pthread_cond_signal(&l->delay);
    }
}

static void enqueue(struct tl_listener *l, const struct tl_call *call)
{
    struct queued *entry = malloc(sizeof *entry);

    if (!entry) {
        // Refuse rather than lose: the caller sees a temporary failure.
        tl_listener_reply(l, call->id, 0, ENOMEM);
        return;
    }
    entry->call = *call;
    append(l, entry);
}

int tl_listener_delay(struct tl_listener *l, const struct tl_call *call, uint64_t nanoseconds)
{
    struct queued *entry = malloc(sizeof *entry);
    int error = entry ? 0 : ENOMEM;

    if (error)
        return error;
    entry->call = *call;
    entry->due = now_ns() + nanoseconds;
    pthread_mutex_lock(&l->lock);
    error = start_clock(l);
    if (!error) {
        struct queued **at = &l->delayed;
        while (*at && (*at)->due <= entry->due)
            at = &(*at)->next;
        entry->next = *at;
        *at = entry;
        pthread_cond_signal(&l->delay);
    }
    pthread_mutex_unlock(&l->lock);
    if (error)
        free(entry);
    return error;
}

static void *sentinel_main(void *argument)
{
    struct tl_listener *l = argument;
    uint64_t seen = 0;

    block_signals(l);
    pthread_mutex_lock(&l->lock);
    while (!l->done) {
        bool away = !l->receiving && l->vacancies == seen && seen;
        if (!l->receiving && (l->wanted || away)) {
            struct tl_call call;
            l->wanted = false;
            if (receive_as(l, &call) == 0) {
                l->wanted = l->last_tid_calls < solo_calls;
                enqueue(l, &call);
            }
            continue;
        }
        l->wanted = false;
        bool quiet = l->receiving && l->vacancies == seen;
        seen = l->vacancies;
        if (quiet) {
            l->parked = true;
            pthread_cond_wait(&l->watch, &l->lock);
            l->parked = false;
        } else {
            wait_until(l, &l->watch, now_ns() + tick_ns);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

struct tl_error *tl_listener_new(int fd, unsigned workers, bool (*start_worker)(void *), void *context,
                                 struct tl_listener **listener)
{
    struct tl_listener *l = calloc(1, sizeof *l);
    pthread_condattr_t monotonic;

    if (!l) {
        close(fd);
        return tl_error_new(ENOMEM, "cannot listen");
    }
    l->fd = fd;
    atomic_init(&l->fd_users, 1);
    l->stop_signal = claim_stop_signal();
    l->workers_max = workers ? workers : 1;
    l->start_worker = start_worker;
    l->context = context;
    l->tail = &l->head;
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->watch, &monotonic);
    pthread_cond_init(&l->change, &monotonic);
    pthread_cond_init(&l->delay, &monotonic);
    pthread_condattr_destroy(&monotonic);
    tl_notif_wake_on_same_cpu(fd);
    *listener = l;
    return NULL;
}

struct tl_error *tl_listener_start(struct tl_listener *l)
{
    int error = pthread_create(&l->sentinel, NULL, sentinel_main, l);

    if (error)
        return tl_error_new(error, "cannot start a thread");
    pthread_mutex_lock(&l->lock);
    l->sentinel_runs = true;
    start_workers(l, 1);
    bool started = l->started;
    pthread_mutex_unlock(&l->lock);
    return started ? NULL : tl_error_new(EAGAIN, "cannot start a worker thread");
}

void tl_listener_enter(struct tl_listener *l)
{
    block_signals(l);
}

bool tl_listener_leave(struct tl_listener *l)
{
    pthread_mutex_lock(&l->lock);
    bool last = --l->present == 0;
    pthread_cond_broadcast(&l->change);
    pthread_mutex_unlock(&l->lock);
    return last;
}

void tl_listener_stop(struct tl_listener *l)
{
    pthread_mutex_lock(&l->lock);
    finish(l);
    // The signal may come a moment before the receiver enters the kernel, so it is sent until it has had its effect.
    while (l->receiving && l->stop_signal) {
        pthread_kill(l->receiver, l->stop_signal);
        wait_until(l, &l->change, now_ns() + 2000000);
    }
    bool join_sentinel = l->sentinel_runs, join_clock = l->clock_runs;
    l->sentinel_runs = l->clock_runs = false;
    pthread_mutex_unlock(&l->lock);
    if (join_sentinel)
        pthread_join(l->sentinel, NULL);
    if (join_clock)
        pthread_join(l->clock, NULL);
}

static bool fd_acquire(struct tl_listener *l)
{
    unsigned users = atomic_load(&l->fd_users);

    while (users)
        if (atomic_compare_exchange_weak(&l->fd_users, &users, users + 1))
            return true;
    return false;
}

static void fd_release(struct tl_listener *l)
{
    if (atomic_fetch_sub(&l->fd_users, 1) == 1)
        close(l->fd);
}

void tl_listener_close(struct tl_listener *l)
{
    tl_listener_stop(l);
    pthread_mutex_lock(&l->lock);
    bool closed = l->closed;
    l->closed = true;
    pthread_mutex_unlock(&l->lock);
    if (!closed)
        fd_release(l);
}

bool tl_listener_wait_idle(struct tl_listener *l, unsigned milliseconds)
{
    uint64_t due = now_ns() + milliseconds * 1000000ULL;

    pthread_mutex_lock(&l->lock);
    while (l->present && now_ns() < due)
        wait_until(l, &l->change, due);
    bool idle = !l->present;
    pthread_mutex_unlock(&l->lock);
    return idle;
}

void tl_listener_free(struct tl_listener *l)
{
    if (!l)
        return;
    tl_listener_close(l);
    *l->tail = l->delayed;
    while (l->head) {
        struct queued *next = l->head->next;
        free(l->head);
        l->head = next;
    }
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->watch);
    pthread_cond_destroy(&l->change);
    pthread_cond_destroy(&l->delay);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void tl_listener_note_gone(struct tl_listener *l)
{
    atomic_fetch_add(&l->gone, 1);
}

int tl_listener_fd(const struct tl_listener *l)
{
    return l->fd;
}

struct tl_listener_counts tl_listener_counts(struct tl_listener *l)
{
    pthread_mutex_lock(&l->lock);
    struct tl_listener_counts counts = l->counts;
    counts.workers = l->started;
    pthread_mutex_unlock(&l->lock);
    counts.replied = atomic_load(&l->replied);
    counts.gone = atomic_load(&l->gone);
    return counts;
}

static int answered(struct tl_listener *l, int error)
{
    fd_release(l);
    atomic_fetch_add(error ? &l->gone : &l->replied, 1);
    return error;
}

int tl_listener_reply(struct tl_listener *l, uint64_t id, int64_t value, int error_number)
{
    return fd_acquire(l) ? answered(l, tl_notif_reply(l->fd, id, value, error_number)) : ESHUTDOWN;
}

int tl_listener_continue(struct tl_listener *l, uint64_t id)
{
    return fd_acquire(l) ? answered(l, tl_notif_continue(l->fd, id)) : ESHUTDOWN;
}

int tl_listener_reply_fd(struct tl_listener *l, uint64_t id, int fd, bool close_on_exec)
{
    return fd_acquire(l) ? answered(l, tl_notif_reply_fd(l->fd, id, fd, close_on_exec)) : ESHUTDOWN;
}

int tl_listener_add_fd(struct tl_listener *l, uint64_t id, int fd, bool close_on_exec, int *number)
{
    if (!fd_acquire(l))
        return ESHUTDOWN;
    int error = tl_notif_add_fd(l->fd, id, fd, close_on_exec, number);
    fd_release(l);
    return error;
}

bool tl_listener_is_waiting(struct tl_listener *l, uint64_t id)
{
    if (!fd_acquire(l))
        return false;
    bool waiting = tl_notif_is_waiting(l->fd, id);
    fd_release(l);
    return waiting;
}
