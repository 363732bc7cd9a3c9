// Who receives, who decides, and what waits in between; listener.h tells why.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif
#include <sys/syscall.h>
#include <unistd.h>

#include "listener_state.h"
#include "stop_signal.h"
#include "task.h"

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

static _Thread_local struct worker me;

// glibc registers every thread for restartable sequences, which nothing here uses, and the kernel then writes
// the number of the CPU into the thread's memory each time it comes back from waiting: 5 % of a call. Where
// this fails all stays as it was; sched_getcpu() works without.
static void leave_rseq(void)
{
#if defined(RSEQ_SIG)
    enum { unregister = 1, registered_size = 32 };

    syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, registered_size, unregister,
            RSEQ_SIG);
#endif
}

void tl_listener_enter(struct tl_listener *l)
{
    leave_rseq();
    tl_stop_signal_alone(l->stop_signal); // any other would tear an answer apart
    me.tid = (pid_t)syscall(SYS_gettid);
    pthread_mutex_lock(&l->lock);
    me.next = l->workers;
    l->workers = &me;
    pthread_mutex_unlock(&l->lock);
}

bool tl_listener_leave(struct tl_listener *l)
{
    pthread_mutex_lock(&l->lock);
    struct worker **at = &l->workers;
    while (*at != &me)
        at = &(*at)->next;
    *at = me.next;
    bool last = --l->present == 0;
    if (last)
        tl_listener_give_back(l);
    pthread_cond_broadcast(&l->change);
    pthread_mutex_unlock(&l->lock);
    return last;
}

static unsigned kind_of(const struct tl_call *call)
{
    return ((unsigned)call->nr ^ call->arch >> 24) % call_kinds;
}

// A moving average that rises slowly: a worker that lost its CPU for a while has not learnt anything about
// the hook.
static void learn_duration(struct tl_listener *l)
{
    me.deciding = false;
    if (!me.since)
        return;
    uint64_t took = now_ns() - me.since;
    int64_t *average = &l->durations[me.kind];

    int64_t change = (int64_t)(took < longest_ns ? took : longest_ns) - *average;
    *average += change > 0 ? change / 16 : change / 4;
    me.since = 0;
}

// Called with the lock held and returns with it held.
void tl_listener_start_workers(struct tl_listener *l, unsigned count)
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

static int start_clock(struct tl_listener *l);

// A worker that waits for a call in the kernel is called back for one that is queued here.
static bool recall_receiver(struct tl_listener *l)
{
    if (!l->receiving || !l->receiver_works || !l->stop_signal)
        return false;
    pthread_kill(l->receiver, l->stop_signal);
    return true;
}

// Somebody has to take what is queued: an idle worker; one that receives; else, should nobody come back
// within a tick, a new one.
static void summon_worker(struct tl_listener *l)
{
    if (l->idle)
        pthread_cond_signal(&l->work);
    else
        recall_receiver(l);
    if (!l->hurry_at && start_clock(l) == 0) {
        l->hurry_at = now_ns() + tick_ns;
        pthread_cond_signal(&l->delay);
    }
}

// A worker that decides and is on a CPU, or waits for one, will soon come for more; another would only be in
// its way. Unless it computes for long: then nobody begins a call for several ticks.
static bool is_worker_running(const struct tl_listener *l)
{
    for (const struct worker *worker = l->workers; worker; worker = worker->next)
        if (worker->deciding && tl_task_state(worker->tid) == 'R')
            return true;
    return false;
}

// Has a call been queued for a tick?
static void hurry(struct tl_listener *l)
{
    l->hurry_at = l->head ? l->head->due + tick_ns : 0;
    if (!l->head || l->hurry_at > now_ns())
        return;
    l->stalled = l->vacancies == l->hurry_seen ? l->stalled + 1 : 0;
    l->hurry_seen = l->vacancies;
    if (l->idle)
        pthread_cond_signal(&l->work);
    else if (!recall_receiver(l) && l->started < l->workers_max &&
             (l->stalled >= patience || !is_worker_running(l)))
        tl_listener_start_workers(l, l->waiting);
    l->hurry_at = now_ns() + tick_ns;
}

static void append(struct tl_listener *l, struct queued *entry)
{
    entry->next = NULL;
    entry->due = now_ns();
    *l->tail = entry;
    l->tail = &entry->next;
    if (++l->waiting > l->counts.most_waiting)
        l->counts.most_waiting = l->waiting;
    summon_worker(l);
}

static void *clock_main(void *argument)
{
    struct tl_listener *l = argument;

    tl_stop_signal_alone(l->stop_signal); // any other would tear an answer apart
    pthread_mutex_lock(&l->lock);
    while (!l->done) {
        struct queued *first = l->delayed;
        uint64_t due = first ? first->due : 0;
        if (l->hurry_at && (!due || l->hurry_at < due))
            due = l->hurry_at;
        if (!due) {
            pthread_cond_wait(&l->delay, &l->lock);
        } else if (due > now_ns()) {
            wait_until(l, &l->delay, due);
        } else if (due == l->hurry_at) {
            hurry(l);
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

// A worker is about to decide a call.
static void leave_to_decide(struct tl_listener *l, const struct tl_call *call)
{
    l->vacancies++;
    me.kind = kind_of(call);
    // Two looks at the clock are more than a hundredth of a call: quick kinds are timed now and then only.
    me.deciding = true;
    me.since = l->vacancies % 8 == 0 || l->durations[me.kind] > slow_ns / 2 ? now_ns() : 0;
    if (!l->receiving) {
        if (l->durations[me.kind] > slow_ns)
            hand_over(l);
        else if (l->parked)
            pthread_cond_signal(&l->watch);
    }
    if (l->head)
        summon_worker(l);
}

void tl_listener_finish(struct tl_listener *l)
{
    l->done = true;
    pthread_cond_broadcast(&l->work);
    pthread_cond_broadcast(&l->watch);
    pthread_cond_broadcast(&l->change);
    pthread_cond_broadcast(&l->delay);
}

// Takes the receiver's role for one call. The lock is held before and after, not in between.
static int receive_as(struct tl_listener *l, struct tl_call *call, bool worker)
{
    l->receiving = true;
    l->receiver_works = worker;
    l->receiver = pthread_self();
    pthread_mutex_unlock(&l->lock);
    int error = l->transport->ops->receive(l->transport, call);
    pthread_mutex_lock(&l->lock);
    l->receiving = false;
    if (!error) {
        l->counts.received++;
    } else if (error != ENOENT && error != EINTR) {
        l->counts.failure = error == ENOTCONN ? 0 : error;
        tl_listener_finish(l);
    }
    if (l->done)
        pthread_cond_broadcast(&l->change);
    return error;
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
    learn_duration(l);
    while (!got && !(l->done && !l->head)) {
        if (l->head) {
            dequeue(l, call);
            got = true;
        } else if (!l->receiving) {
            got = receive_as(l, call, true) == 0;
        } else {
            l->idle++;
            pthread_cond_wait(&l->work, &l->lock);
            l->idle--;
        }
    }
    if (got)
        leave_to_decide(l, call);
    pthread_mutex_unlock(&l->lock);
    return got;
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
    const struct tl_transport_ops *ops = l->transport->ops;

    if (ops->delay && ops->delay(l->transport, nanoseconds))
        return EALREADY;
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

void *tl_listener_sentinel(void *argument)
{
    struct tl_listener *l = argument;
    uint64_t seen = 0;

    tl_stop_signal_alone(l->stop_signal); // any other would tear an answer apart
    pthread_mutex_lock(&l->lock);
    while (!l->done) {
        bool away = !l->receiving && l->vacancies == seen && seen;
        if (!l->receiving && (l->wanted || away)) {
            struct tl_call call;
            l->wanted = false;
            if (receive_as(l, &call, false) == 0) {
                // A worker that comes for it will receive the next one itself.
                l->wanted = !l->idle;
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
