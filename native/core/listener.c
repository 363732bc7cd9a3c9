#include "listener.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "listener_state.h"

static void ignore_signal(int number)
{
    (void)number;
}

// A receiver that waits in the kernel can only be interrupted by a signal: a real-time one that nobody here
// uses.
static int claim_stop_signal(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int claimed;

    pthread_mutex_lock(&lock);
    for (int number = SIGRTMAX - 1; !claimed && number >= SIGRTMIN; number--) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
            action.sa_handler == SIG_DFL) {
            memset(&action, 0, sizeof action);
            action.sa_handler = ignore_signal;
            if (sigaction(number, &action, NULL) == 0)
                claimed = number;
        }
    }
    pthread_mutex_unlock(&lock);
    return claimed;
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
    int error = pthread_create(&l->sentinel, NULL, tl_listener_sentinel, l);

    if (error)
        return tl_error_new(error, "cannot start a thread");
    pthread_mutex_lock(&l->lock);
    l->sentinel_runs = true;
    tl_listener_start_workers(l, 1);
    bool started = l->started;
    pthread_mutex_unlock(&l->lock);
    return started ? NULL : tl_error_new(EAGAIN, "cannot start a worker thread");
}

void tl_listener_enter(struct tl_listener *l)
{
    tl_listener_block_signals(l);
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
    tl_listener_finish(l);
    // The signal may come a moment before the receiver enters the kernel, so it is sent until it has had its
    // effect.
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
