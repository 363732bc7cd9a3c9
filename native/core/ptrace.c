// The tracer's thread.
#include "ptrace.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "listener_state.h"
#include "ptrace_attach.h"
#include "ptrace_state.h"
#include "stop_signal.h"

// Events of a tracee other than its end cannot come while it is stopped, so while all are, and somebody is
// about to answer, it is enough to listen to them. Should that take longer, a killed one must be noticed.
enum { patience_ms = 2 };

const unsigned long tl_tracer_trace_options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP |
                                              PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                                              PTRACE_O_TRACEEXEC;

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void tl_tracer_close_pipes(struct tl_tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    if (tracer->calls_in < 0) {
        close_fd(&tracer->transport.fd);
        close_fd(&tracer->bell[0]);
        close_fd(&tracer->bell[1]);
    }
    pthread_mutex_unlock(&tracer->lock);
}

void tl_tracer_close(struct tl_tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    close_fd(&tracer->stop_fd);
    bool unused = !tracer->has_transport;
    pthread_mutex_unlock(&tracer->lock);
    if (unused)
        tl_tracer_close_pipes(tracer);
}

static void drop(struct tl_tracer *tracer)
{
    if (atomic_fetch_sub(&tracer->references, 1) > 1)
        return;
    close_fd(&tracer->calls_in);
    tl_tracer_close_pipes(tracer);
    tl_tracer_close(tracer);
    while (tracer->others) {
        struct other_interest *next = tracer->others->next;
        free(tracer->others);
        tracer->others = next;
    }
    pthread_mutex_destroy(&tracer->lock);
    pthread_cond_destroy(&tracer->change);
    free(tracer->filter);
    free(tracer);
}

static int seize(struct tl_tracer *tracer, pid_t pid)
{
    // A supervisor that dies leaves calls that it was to refuse, and programs that make calls for it.
    tracer->options = tl_tracer_trace_options | PTRACE_O_EXITKILL;
    tracer->is_parent = true;
    if (tl_trace(PTRACE_SEIZE, pid, 0, tl_tracer_command_options(tracer)) < 0)
        return errno;
    struct tracee *t = tl_tracee_add(tracer, pid);
    if (!t) {
        kill(pid, SIGKILL);
        return ENOMEM;
    }
    t->known = t->has_maker = true;
    tracer->command = pid;
    return 0;
}

static void carry_out(struct tl_tracer *tracer, struct request *r)
{
    struct tracee *t;

    switch (r->kind) {
    case REQUEST_REPLY:
        tl_tracee_reply(tracer, tl_tracee_find(tracer, r->pid), r->value);
        return;
    case REQUEST_GO_ON:
        tl_tracee_go_on(tracer, tl_tracee_find(tracer, r->pid));
        return;
    case REQUEST_SEIZE:
        tl_request_complete(r, seize(tracer, r->pid));
        return;
    case REQUEST_ATTACH:
        tl_request_complete(r, tl_tracer_take_process(tracer, r->pid));
        return;
    case REQUEST_BEGIN:
        tl_tracer_go(tracer);
        tl_request_complete(r, 0);
        return;
    case REQUEST_DETACH:
        tl_tracer_leave(tracer);
        tl_request_complete(r, 0);
        return;
    default:
        break;
    }
    t = tl_tracee_of_call(tracer, r->id);
    if (!t)
        tl_request_complete(r, ENOENT);
    else if (r->kind == REQUEST_PERFORM)
        tl_tracee_perform(tracer, t, r);
    else if (r->kind == REQUEST_COPY)
        tl_tracee_copy(tracer, t, r);
    else
        tl_tracee_give_fd(tracer, t, r);
}

static bool carry_out_next(struct tl_tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    struct request *r = tracer->requests;
    if (r) {
        tracer->requests = r->next;
        if (!tracer->requests)
            tracer->requests_tail = &tracer->requests;
    }
    pthread_mutex_unlock(&tracer->lock);
    if (r)
        carry_out(tracer, r);
    return r;
}

// From here on whoever posts a request rings. False: one is here already.
static bool doze_off(struct tl_tracer *tracer, enum doze doze)
{
    pthread_mutex_lock(&tracer->lock);
    bool nothing = !tracer->requests;
    if (nothing) {
        __atomic_store_n(&tracer->attention, 0, __ATOMIC_SEQ_CST);
        tracer->doze = doze;
    }
    pthread_mutex_unlock(&tracer->lock);
    return nothing;
}

static void wake_up(struct tl_tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    tracer->doze = AWAKE;
    pthread_mutex_unlock(&tracer->lock);
}

enum { tick_every_ns = 50 * 1000 * 1000 };

static void set_ticks(struct tl_tracer *tracer, bool on)
{
    struct itimerspec every = {{0, on ? tick_every_ns : 0}, {0, on ? tick_every_ns : 0}};

    if (tracer->has_timer && on != tracer->ticks)
        timer_settime(tracer->timer, 0, &every, NULL);
    tracer->ticks = on;
    tracer->last_tick = now_ns();
}

// Called by the timer that interrupts our wait, more or less.
static void tick(struct tl_tracer *tracer)
{
    if (!tracer->ticks || now_ns() - tracer->last_tick < tick_every_ns / 2)
        return;
    tracer->last_tick = now_ns();
    if (tracer->held)
        tl_tracer_tick(tracer);
    else
        set_ticks(tracer, false);
}

// True: a request is there.
static bool listen_to_bell(struct tl_tracer *tracer, int milliseconds)
{
    struct pollfd bell = {tracer->bell[0], POLLIN, 0};
    char token;

    if (!doze_off(tracer, IN_PIPE))
        return true;
    bool rung = poll(&bell, 1, milliseconds) > 0;
    if (rung) {
        ssize_t ignored = read(tracer->bell[0], &token, 1);
        (void)ignored;
    }
    wake_up(tracer);
    return rung;
}

// The next event; 0: a request came first; -ECHILD: nobody is traced.
static long next_event(struct tl_tracer *tracer, int *status)
{
    if (tracer->postponed) {
        pid_t tid = tracer->postponed;
        *status = tracer->postponed_status;
        tracer->postponed = 0;
        return tid;
    }
    if (!tracer->tracees && !tracer->begun && !tracer->leaving) {
        listen_to_bell(tracer, -1);
        return 0;
    }
    if (tracer->held && tracer->held == tracer->tracees && listen_to_bell(tracer, patience_ms))
        return 0;
    if (tracer->held && !tracer->ticks)
        set_ticks(tracer, true);
    tick(tracer);
    if (!doze_off(tracer, IN_WAIT))
        return 0;
    long tid = tl_wait_unless(&tracer->attention, -1, status, __WALL | __WNOTHREAD);
    wake_up(tracer);
    return tid == -EINTR ? 0 : tid;
}

static void finish(struct tl_tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    tracer->over = true;
    pthread_mutex_unlock(&tracer->lock);
    while (carry_out_next(tracer))
        ;
    pthread_mutex_lock(&tracer->lock);
    close(tracer->calls_in);
    tracer->calls_in = -1;
    pthread_cond_broadcast(&tracer->change);
    pthread_mutex_unlock(&tracer->lock);
    drop(tracer);
}

static void *tracer_main(void *argument)
{
    struct tl_tracer *tracer = argument;
    long tid = 0;
    int status;

    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = tracer->stop_signal};

    tl_stop_signal_alone(tracer->stop_signal);
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    tracer->has_timer = timer_create(CLOCK_MONOTONIC, &event, &tracer->timer) == 0;
    pthread_mutex_lock(&tracer->lock);
    tracer->thread = event._sigev_un._tid;
    pthread_cond_broadcast(&tracer->change);
    pthread_mutex_unlock(&tracer->lock);
    while (tid != -ECHILD) {
        while (carry_out_next(tracer))
            ;
        tid = next_event(tracer, &status);
        if (tid > 0)
            tl_tracer_event(tracer, (pid_t)tid, status);
        tl_tracee_empty_graveyard(tracer);
    }
    if (tracer->has_timer)
        timer_delete(tracer->timer);
    finish(tracer);
    return NULL;
}

static struct tl_error *start_thread(struct tl_tracer *tracer)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int error = pthread_create(&thread, &attributes, tracer_main, tracer);
    pthread_attr_destroy(&attributes);
    if (error)
        return tl_error_new(error, "cannot start a thread");
    atomic_fetch_add(&tracer->references, 1);
    pthread_mutex_lock(&tracer->lock);
    while (!tracer->thread)
        pthread_cond_wait(&tracer->change, &tracer->lock);
    pthread_mutex_unlock(&tracer->lock);
    return NULL;
}

static struct tl_error *open_all(struct tl_tracer *tracer)
{
    int calls[2];

    tracer->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (tracer->stop_fd < 0 || pipe2(tracer->bell, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(calls, O_CLOEXEC) < 0)
        return tl_error_new(errno, "cannot open a pipe");
    tracer->transport.fd = calls[0];
    tracer->calls_in = calls[1];
    if (fcntl(tracer->calls_in, F_SETFL, O_NONBLOCK) < 0)
        return tl_error_new(errno, "fcntl(F_SETFL)");
    return NULL;
}

struct tl_error *tl_tracer_new(const struct tl_tracer_options *given, struct tl_tracer **out)
{
    struct tl_tracer *tracer = calloc(1, sizeof *tracer);
    size_t size = given->filter_length * sizeof *given->filter;
    pthread_condattr_t monotonic;

    if (!tracer)
        return tl_error_new(ENOMEM, "cannot trace");
    tracer->transport.ops = &tl_tracer_ops;
    tracer->transport.fd = tracer->calls_in = tracer->bell[0] = tracer->bell[1] = -1;
    tracer->stop_fd = -1;
    tracer->filter = malloc(size + 1);
    tracer->filter_length = given->filter_length;
    tracer->filtered = given->filtered;
    tracer->hide_vdso = given->hide_vdso;
    tracer->on_unhidden = given->on_unhidden;
    tracer->on_signal = given->on_signal;
    tracer->context = given->context;
    tracer->stop_signal = tl_stop_signal_claim();
    tracer->calls_tail = &tracer->calls;
    tracer->requests_tail = &tracer->requests;
    atomic_store(&tracer->references, 1);
    pthread_mutex_init(&tracer->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&tracer->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    struct tl_error *error = NULL;
    if (!tracer->filter)
        error = tl_error_new(ENOMEM, "cannot trace");
    else if (!tracer->stop_signal)
        error = tl_error_new(EAGAIN, "every real-time signal of this process is in use");
    else
        memcpy(tracer->filter, given->filter, size);
    if (!error)
        error = open_all(tracer);
    if (!error)
        error = start_thread(tracer);
    if (error)
        drop(tracer);
    else
        *out = tracer;
    return error;
}

// Without any tracee its thread still waits for one.
void tl_tracer_release(struct tl_tracer *tracer)
{
    if (atomic_load(&tracer->references) == 2 && !tracer->begun)
        tl_tracer_detach(tracer, 0);
    drop(tracer);
}

struct tl_transport *tl_tracer_transport(struct tl_tracer *tracer)
{
    atomic_fetch_add(&tracer->references, 1);
    tracer->has_transport = true;
    return &tracer->transport;
}

int tl_tracer_seize(struct tl_tracer *tracer, pid_t pid)
{
    struct request request = {.kind = REQUEST_SEIZE, .pid = pid};

    return tl_tracer_ask(tracer, &request);
}

int tl_tracer_attach(struct tl_tracer *tracer, pid_t pid)
{
    struct request request = {.kind = REQUEST_ATTACH, .pid = pid};

    return tl_tracer_ask(tracer, &request);
}

void tl_tracer_begin(struct tl_tracer *tracer)
{
    struct request request = {.kind = REQUEST_BEGIN};

    tl_tracer_ask(tracer, &request);
}

bool tl_tracer_detach(struct tl_tracer *tracer, unsigned milliseconds)
{
    struct request request = {.kind = REQUEST_DETACH};
    uint64_t due = now_ns() + milliseconds * 1000000ULL;
    struct timespec until = {(time_t)(due / 1000000000), (long)(due % 1000000000)};

    tl_tracer_ask(tracer, &request);
    pthread_mutex_lock(&tracer->lock);
    while (tracer->calls_in >= 0 && now_ns() < due)
        pthread_cond_timedwait(&tracer->change, &tracer->lock, &until);
    bool done = tracer->calls_in < 0;
    pthread_mutex_unlock(&tracer->lock);
    return done;
}

int tl_tracer_stop_fd(const struct tl_tracer *tracer)
{
    return tracer->stop_fd;
}

bool tl_tracer_exit_status(struct tl_tracer *tracer, int *status)
{
    pthread_mutex_lock(&tracer->lock);
    bool exited = tracer->exited;
    *status = tracer->exit_status;
    pthread_mutex_unlock(&tracer->lock);
    return exited;
}

int tl_tracer_stopped_by(struct tl_tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    int number = tracer->stopped_by;
    pthread_mutex_unlock(&tracer->lock);
    return number;
}

int tl_tracer_take_stop(struct tl_tracer *tracer)
{
    uint64_t count;

    pthread_mutex_lock(&tracer->lock);
    bool news = read(tracer->stop_fd, &count, sizeof count) > 0;
    int number = news ? tracer->stopped_by : 0;
    pthread_mutex_unlock(&tracer->lock);
    return number;
}
