// The workers' side: calls that the tracer has posted, and requests to it.
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>

#include "ptrace_state.h"

static struct tl_tracer *tracer_of(struct tl_transport *transport)
{
    return (struct tl_tracer *)transport;
}

// The pipe wakes a worker on the CPU of the tracer, which is about to wait for it: that is far cheaper than
// waking another CPU, as a futex does.
void tl_tracer_queue_call(struct tl_tracer *tracer, struct tracee *t)
{
    t->next_call = NULL;
    t->queued = true;
    *tracer->calls_tail = t;
    tracer->calls_tail = &t->next_call;
}

static int tracer_receive(struct tl_transport *transport, struct tl_call *call)
{
    struct tl_tracer *tracer = tracer_of(transport);
    char token;

    ssize_t got = read(transport->fd, &token, 1);
    if (got < 0)
        return errno;
    if (!got)
        return ENOTCONN;
    pthread_mutex_lock(&tracer->lock);
    struct tracee *t = tracer->calls;
    if (t) {
        tracer->calls = t->next_call;
        if (!tracer->calls)
            tracer->calls_tail = &tracer->calls;
        t->queued = false;
        *call = t->call;
    }
    pthread_mutex_unlock(&tracer->lock);
    return t ? 0 : ENOENT; // gone before anybody took it
}

// With the lock held, which is given up.
static void post(struct tl_tracer *tracer, struct request *request)
{
    request->next = NULL;
    *tracer->requests_tail = request;
    tracer->requests_tail = &request->next;
    enum doze doze = tracer->doze;
    tracer->doze = AWAKE;
    if (doze == IN_WAIT)
        __atomic_store_n(&tracer->attention, 1, __ATOMIC_SEQ_CST);
    pid_t thread = tracer->thread;
    pthread_mutex_unlock(&tracer->lock);
    if (doze == IN_WAIT) {
        syscall(SYS_tgkill, getpid(), thread, tracer->stop_signal);
    } else if (doze == IN_PIPE) {
        ssize_t ignored = write(tracer->bell[1], "", 1);
        (void)ignored;
    }
}

void tl_request_complete(struct request *request, int error)
{
    request->error = error;
    atomic_store(&request->done, 1);
    syscall(SYS_futex, &request->done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int tl_tracer_ask(struct tl_tracer *tracer, struct request *request)
{
    bool about_call = request->kind < REQUEST_SEIZE;

    atomic_store(&request->done, 0);
    pthread_mutex_lock(&tracer->lock);
    if (tracer->over || (about_call && !tl_tracee_of_call(tracer, request->id))) {
        pthread_mutex_unlock(&tracer->lock);
        return about_call ? ENOENT : ESRCH;
    }
    post(tracer, request);
    while (!atomic_load(&request->done))
        syscall(SYS_futex, &request->done, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return request->error;
}

static int answer(struct tl_transport *transport, uint64_t id, enum request_kind kind, int64_t value)
{
    struct tl_tracer *tracer = tracer_of(transport);

    pthread_mutex_lock(&tracer->lock);
    struct tracee *t = tl_tracee_of_call(tracer, id);
    if (!t) {
        pthread_mutex_unlock(&tracer->lock);
        return ENOENT;
    }
    t->id = 0;
    t->answer.kind = kind;
    t->answer.value = value;
    t->answer.pid = t->tid;
    post(tracer, &t->answer);
    return 0;
}

static int tracer_reply(struct tl_transport *transport, uint64_t id, int64_t value, int error_number)
{
    return answer(transport, id, REQUEST_REPLY, error_number ? -error_number : value);
}

static int tracer_go_on(struct tl_transport *transport, uint64_t id)
{
    return answer(transport, id, REQUEST_GO_ON, 0);
}

static int give_fd(struct tl_transport *transport, enum request_kind kind, uint64_t id, int fd,
                   bool close_on_exec, int *number)
{
    struct request request = {.kind = kind, .id = id, .fd = fd, .close_on_exec = close_on_exec};
    int error = tl_tracer_ask(tracer_of(transport), &request);

    *number = (int)request.value;
    return error;
}

static int tracer_reply_fd(struct tl_transport *transport, uint64_t id, int fd, bool close_on_exec)
{
    int number;

    return give_fd(transport, REQUEST_REPLY_FD, id, fd, close_on_exec, &number);
}

static int tracer_add_fd(struct tl_transport *transport, uint64_t id, int fd, bool close_on_exec, int *number)
{
    return give_fd(transport, REQUEST_ADD_FD, id, fd, close_on_exec, number);
}

static bool tracer_is_waiting(struct tl_transport *transport, uint64_t id)
{
    struct tl_tracer *tracer = tracer_of(transport);

    pthread_mutex_lock(&tracer->lock);
    bool waits = tl_tracee_of_call(tracer, id);
    pthread_mutex_unlock(&tracer->lock);
    return waits;
}

static int tracer_set_arg(struct tl_transport *transport, uint64_t id, unsigned index, uint64_t value)
{
    struct tl_tracer *tracer = tracer_of(transport);

    pthread_mutex_lock(&tracer->lock);
    struct tracee *t = tl_tracee_of_call(tracer, id);
    if (t) {
        t->changed |= 1U << index;
        t->arguments[index] = value;
    }
    pthread_mutex_unlock(&tracer->lock);
    return t ? 0 : ENOENT;
}

static int tracer_copy_arg(struct tl_transport *transport, uint64_t id, unsigned index, const void *data,
                           size_t size, uint64_t *address)
{
    struct request request = {.kind = REQUEST_COPY, .id = id, .index = index, .data = data, .size = size};
    int error = tl_tracer_ask(tracer_of(transport), &request);

    *address = (uint64_t)request.value;
    return error;
}

static int tracer_perform(struct tl_transport *transport, uint64_t id, int64_t *result)
{
    struct request request = {.kind = REQUEST_PERFORM, .id = id};
    int error = tl_tracer_ask(tracer_of(transport), &request);

    *result = request.value;
    return error;
}

static int set_other_interest(struct tl_tracer *tracer, uint32_t arch, int nr, unsigned char what)
{
    struct other_interest *other;

    pthread_mutex_lock(&tracer->lock);
    for (other = tracer->others; other; other = other->next)
        if (other->arch == arch && other->nr == nr)
            break;
    if (!other && (other = calloc(1, sizeof *other))) {
        other->arch = arch;
        other->nr = nr;
        other->next = tracer->others;
        tracer->others = other;
    }
    if (other)
        other->what = what;
    pthread_mutex_unlock(&tracer->lock);
    return other ? 0 : ENOMEM;
}

static int tracer_set_interest(struct tl_transport *transport, uint32_t arch, int nr, bool before,
                               bool returned)
{
    struct tl_tracer *tracer = tracer_of(transport);
    unsigned char what = INTEREST_KNOWN | (before ? INTEREST_BEFORE : 0) | (returned ? INTEREST_RETURNED : 0);
    int index = arch_index(arch);

    if (nr == -1)
        atomic_store(&tracer->default_interest, what);
    else if (index < 0 || nr < 0 || nr >= interest_calls)
        return set_other_interest(tracer, arch, nr, what);
    else
        atomic_store(&tracer->interest[index][nr], what);
    return 0;
}

static bool tracer_close(struct tl_transport *transport)
{
    tl_tracer_detach(tracer_of(transport), 2000);
    return true;
}

static void tracer_release_transport(struct tl_transport *transport)
{
    tl_tracer_close_pipes(tracer_of(transport));
}

static void tracer_free(struct tl_transport *transport)
{
    tl_tracer_detach(tracer_of(transport), 0);
    tl_tracer_release(tracer_of(transport));
}

// The pipe hangs up when nobody holds its writing end any more.
static void tracer_forked(struct tl_transport *transport)
{
    struct tl_tracer *tracer = tracer_of(transport);

    const int fds[] = {tracer->calls_in, transport->fd, tracer->bell[0], tracer->bell[1], tracer->stop_fd};

    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

const struct tl_transport_ops tl_tracer_ops = {
    .engine = "ptrace",
    .receive = tracer_receive,
    .reply = tracer_reply,
    .go_on = tracer_go_on,
    .reply_fd = tracer_reply_fd,
    .add_fd = tracer_add_fd,
    .is_waiting = tracer_is_waiting,
    .close = tracer_close,
    .release = tracer_release_transport,
    .free = tracer_free,
    .forked = tracer_forked,
    .set_interest = tracer_set_interest,
    .set_arg = tracer_set_arg,
    .copy_arg = tracer_copy_arg,
    .perform = tracer_perform,
};
