#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "listener_state.h"
#include "stop_signal.h"

// A process that this one forks must not hold the listener open: after our death the program would wait for
// an answer for ever instead of getting ENOSYS.
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct tl_listener *open_listeners;

static void before_fork(void)
{
    pthread_mutex_lock(&open_lock);
}

static void after_fork_here(void)
{
    pthread_mutex_unlock(&open_lock);
}

static void after_fork_there(void)
{
    for (struct tl_listener *l = open_listeners; l; l = l->next) {
        l->forked = true;
        l->transport->ops->forked(l->transport);
    }
    open_listeners = NULL;
    pthread_mutex_unlock(&open_lock);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_here, after_fork_there);
}

static void add_open(struct tl_listener *l)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&open_lock);
    l->next = open_listeners;
    open_listeners = l;
    pthread_mutex_unlock(&open_lock);
}

static void remove_open(struct tl_listener *l)
{
    pthread_mutex_lock(&open_lock);
    struct tl_listener **at = &open_listeners;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    pthread_mutex_unlock(&open_lock);
}

struct tl_error *tl_listener_new(struct tl_transport *transport, unsigned workers,
                                 bool (*start_worker)(void *), void *context, struct tl_listener **listener)
{
    struct tl_listener *l = calloc(1, sizeof *l);
    pthread_condattr_t monotonic;

    if (!l) {
        transport->ops->free(transport);
        return tl_error_new(ENOMEM, "cannot listen");
    }
    l->transport = transport;
    l->stop_signal = tl_stop_signal_claim();
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
    add_open(l);
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

void tl_listener_stop(struct tl_listener *l)
{
    if (l->forked)
        return;
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

void tl_listener_close(struct tl_listener *l)
{
    if (l->forked)
        return;
    tl_listener_stop(l);
    pthread_mutex_lock(&l->lock);
    bool closed = l->closed;
    pthread_mutex_unlock(&l->lock);
    closed = closed || l->transport->ops->close(l->transport); // may take some time
    pthread_mutex_lock(&l->lock);
    l->closed = closed;
    pthread_mutex_unlock(&l->lock);
}

void tl_listener_give_back(struct tl_listener *l)
{
    if (l->closed)
        l->transport->ops->release(l->transport);
}

bool tl_listener_wait_idle(struct tl_listener *l, unsigned milliseconds)
{
    if (l->forked)
        return true;
    uint64_t due = now_ns() + milliseconds * 1000000ULL;

    pthread_mutex_lock(&l->lock);
    while (l->present && now_ns() < due)
        wait_until(l, &l->change, due);
    bool idle = !l->present;
    if (idle)
        tl_listener_give_back(l);
    pthread_mutex_unlock(&l->lock);
    return idle;
}

void tl_listener_free(struct tl_listener *l)
{
    // In a forked process there is nothing to end, and locks may be held by threads that are not here.
    if (!l || l->forked)
        return;
    tl_listener_close(l);
    remove_open(l);
    *l->tail = l->delayed;
    while (l->head) {
        struct queued *next = l->head->next;
        free(l->head);
        l->head = next;
    }
    l->transport->ops->free(l->transport);
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
    return l->transport->fd;
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
    atomic_fetch_add_explicit(error ? &l->gone : &l->replied, 1, memory_order_relaxed);
    return error;
}

int tl_listener_reply(struct tl_listener *l, uint64_t id, int64_t value, int error_number)
{
    return answered(l, l->transport->ops->reply(l->transport, id, value, error_number));
}

int tl_listener_continue(struct tl_listener *l, uint64_t id)
{
    return answered(l, l->transport->ops->go_on(l->transport, id));
}

int tl_listener_reply_fd(struct tl_listener *l, uint64_t id, int fd, bool close_on_exec)
{
    return answered(l, l->transport->ops->reply_fd(l->transport, id, fd, close_on_exec));
}

int tl_listener_add_fd(struct tl_listener *l, uint64_t id, int fd, bool close_on_exec, int *number)
{
    return l->transport->ops->add_fd(l->transport, id, fd, close_on_exec, number);
}

bool tl_listener_is_waiting(struct tl_listener *l, uint64_t id)
{
    return l->transport->ops->is_waiting(l->transport, id);
}

int tl_listener_set_interest(struct tl_listener *l, uint32_t arch, int nr, bool before, bool returned)
{
    const struct tl_transport_ops *ops = l->transport->ops;

    return ops->set_interest ? ops->set_interest(l->transport, arch, nr, before, returned) : ENOTSUP;
}

int tl_listener_set_arg(struct tl_listener *l, uint64_t id, unsigned index, uint64_t value)
{
    const struct tl_transport_ops *ops = l->transport->ops;

    return ops->set_arg ? ops->set_arg(l->transport, id, index, value) : ENOTSUP;
}

int tl_listener_copy_arg(struct tl_listener *l, uint64_t id, unsigned index, const void *data, size_t size,
                         uint64_t *address)
{
    const struct tl_transport_ops *ops = l->transport->ops;

    return ops->copy_arg ? ops->copy_arg(l->transport, id, index, data, size, address) : ENOTSUP;
}

int tl_listener_perform(struct tl_listener *l, uint64_t id, int64_t *result)
{
    const struct tl_transport_ops *ops = l->transport->ops;

    return ops->perform ? ops->perform(l->transport, id, result) : ENOTSUP;
}

int tl_listener_kill(struct tl_listener *l, uint64_t id, int number)
{
    const struct tl_transport_ops *ops = l->transport->ops;

    return ops->kill ? ops->kill(l->transport, id, number) : ENOTSUP;
}

struct tl_rule_table *tl_listener_rule_table(const struct tl_listener *l)
{
    return l->transport->rules;
}

const char *tl_listener_engine(const struct tl_listener *l)
{
    return l->transport->ops->engine;
}
