// The transport of guests: calls are brought by the threads that make them, and answered in this process.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

enum { index_bits = 12 };
_Static_assert(tl_guest_threads_max == 1 << index_bits, "an id holds an index");

// A call that waits; its thread may be gone, but its area stays.
static struct tl_guest_thread *find(uint64_t id)
{
    struct tl_guest_thread *thread =
        (struct tl_guest_thread *)(tl_guest_areas + (id & (tl_guest_threads_max - 1)) * tl_guest_area_size);

    if (__atomic_load_n(&thread->call_id, __ATOMIC_ACQUIRE) != id ||
        __atomic_load_n(&thread->decision, __ATOMIC_ACQUIRE) != TL_GUEST_UNDECIDED)
        return NULL;
    return thread;
}

static int decide(uint64_t id, enum tl_guest_decision decision, int64_t value)
{
    struct tl_guest_thread *thread = find(id);
    uint32_t undecided = TL_GUEST_UNDECIDED;

    if (!thread)
        return ENOENT;
    if (decision != TL_GUEST_GO_ON)
        thread->value = value;
    if (!__atomic_compare_exchange_n(&thread->decision, &undecided, decision, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return ENOENT;
    if (!pthread_equal(pthread_self(), thread->decider))
        syscall(SYS_futex, &thread->decision, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return 0;
}

static int guest_receive(struct tl_transport *transport, struct tl_call *call)
{
    (void)transport;
    (void)call;
    return ENOTCONN;
}

static int guest_reply(struct tl_transport *transport, uint64_t id, int64_t value, int error_number)
{
    (void)transport;
    return decide(id, TL_GUEST_REPLY, error_number ? -error_number : value);
}

static int guest_go_on(struct tl_transport *transport, uint64_t id)
{
    (void)transport;
    return decide(id, TL_GUEST_GO_ON, 0);
}

static int guest_add_fd(struct tl_transport *transport, uint64_t id, int fd, bool close_on_exec, int *number)
{
    struct tl_guest_thread *thread = find(id);

    (void)transport;
    if (!thread)
        return ENOENT;
    // A table that only its own threads have, and this is none of them: a hook decides later.
    if (thread->guest->owns_files && !pthread_equal(pthread_self(), thread->decider))
        return ENOTSUP;
    *number = fcntl(fd, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
    if (*number < 0)
        return errno;
    tl_guest_note_descriptor(thread->guest, (unsigned)*number);
    return 0;
}

static int guest_reply_fd(struct tl_transport *transport, uint64_t id, int fd, bool close_on_exec)
{
    int number;
    int error = guest_add_fd(transport, id, fd, close_on_exec, &number);

    if (!error && (error = decide(id, TL_GUEST_REPLY, number)))
        close(number);
    return error;
}

static bool guest_is_waiting(struct tl_transport *transport, uint64_t id)
{
    (void)transport;
    return find(id);
}

static bool guest_close(struct tl_transport *transport)
{
    (void)transport;
    return true;
}

static void guest_nothing(struct tl_transport *transport)
{
    (void)transport;
}

static void guest_free(struct tl_transport *transport)
{
    free(transport);
}

static int guest_set_arg(struct tl_transport *transport, uint64_t id, unsigned index, uint64_t value)
{
    struct tl_guest_thread *thread = find(id);

    (void)transport;
    if (!thread)
        return ENOENT;
    thread->args[index] = value;
    thread->changed = true;
    return 0;
}

struct copy {
    struct copy *next;
    char data[];
};

static int guest_copy_arg(struct tl_transport *transport, uint64_t id, unsigned index, const void *data,
                          size_t size, uint64_t *address)
{
    struct tl_guest_thread *thread = find(id);
    struct copy *copy = thread ? malloc(sizeof *copy + size) : NULL;

    if (!copy)
        return thread ? ENOMEM : ENOENT;
    memcpy(copy->data, data, size);
    copy->next = thread->copies;
    thread->copies = copy;
    *address = (uint64_t)copy->data;
    return guest_set_arg(transport, id, index, *address);
}

static int guest_perform(struct tl_transport *transport, uint64_t id, int64_t *result)
{
    struct tl_guest_thread *thread = find(id);

    (void)transport;
    if (!thread)
        return ENOENT;
    if (!pthread_equal(pthread_self(),
                       thread->decider)) // only its own thread can: not for hooks that decide later
        return ENOTSUP;
    int error = thread->guest->perform(thread, result);
    if (!error) {
        thread->performed = true;
        thread->value = *result;
    }
    return error;
}

static int guest_kill(struct tl_transport *transport, uint64_t id, int number)
{
    (void)transport;
    return decide(id, TL_GUEST_KILLED, number);
}

// The thread itself waits: nobody else is held up by that.
static bool guest_delay(struct tl_transport *transport, uint64_t nanoseconds)
{
    struct timespec time = {(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};

    (void)transport;
    nanosleep(&time, NULL);
    return true;
}

static const struct tl_transport_ops guest_ops = {
    .engine = "guest",
    .receive = guest_receive,
    .reply = guest_reply,
    .go_on = guest_go_on,
    .reply_fd = guest_reply_fd,
    .add_fd = guest_add_fd,
    .is_waiting = guest_is_waiting,
    .close = guest_close,
    .release = guest_nothing,
    .free = guest_free,
    .forked = guest_nothing,
    .set_arg = guest_set_arg,
    .copy_arg = guest_copy_arg,
    .perform = guest_perform,
    .kill = guest_kill,
    .delay = guest_delay,
};

struct tl_transport *tl_guest_transport_new(void)
{
    struct tl_transport *transport = calloc(1, sizeof *transport);

    if (transport)
        *transport = (struct tl_transport){&guest_ops, -1, NULL};
    return transport;
}

void tl_guest_call(struct tl_guest_thread *thread, struct tl_call *call)
{
    thread->decider = pthread_self();
    thread->value = 0;
    thread->performed = thread->changed = false;
    thread->decision = TL_GUEST_UNDECIDED;
    __atomic_store_n(&thread->call_id, ++thread->serial << index_bits | thread->index, __ATOMIC_RELEASE);
    *call = (struct tl_call){
        .id = thread->call_id,
        .ip = thread->regs[TL_RIP],
        .arch = thread->arch,
        .nr = (int32_t)thread->nr,
        .tid = thread->host_tid,
    };
    memcpy(call->args, thread->args, sizeof call->args);
}

enum tl_guest_decision tl_guest_wait(struct tl_guest_thread *thread)
{
    const uint64_t args[6] = {(uint64_t)&thread->decision, FUTEX_WAIT_PRIVATE, TL_GUEST_UNDECIDED};
    uint32_t decision;

    // A kick between the test and the call would be lost otherwise.
    while ((decision = __atomic_load_n(&thread->decision, __ATOMIC_ACQUIRE)) == TL_GUEST_UNDECIDED &&
           !__atomic_load_n(&thread->kicked, __ATOMIC_RELAXED))
        tl_guest_syscall(args, SYS_futex, &thread->kicked);
    return (enum tl_guest_decision)decision;
}

void tl_guest_end_call(struct tl_guest_thread *thread)
{
    __atomic_store_n(&thread->call_id, 0, __ATOMIC_RELEASE);
    while (thread->copies && !thread->again.rip) {
        struct copy *next = thread->copies->next;
        free(thread->copies);
        thread->copies = next;
    }
}

void tl_guest_remember(struct tl_guest_thread *thread)
{
    thread->again.rip = thread->notified ? thread->regs[TL_RIP] : thread->goes_on_at;
    thread->again.rsp = thread->notified ? 0 : thread->regs[TL_RSP];
    thread->again.nr = thread->nr;
    memcpy(thread->again.args, thread->args, sizeof thread->args);
}

bool tl_guest_recall(struct tl_guest_thread *thread)
{
    uint64_t rsp = thread->notified ? 0 : thread->regs[TL_RSP];

    if (!thread->again.rip || thread->again.rip != thread->regs[TL_RIP] || thread->again.rsp != rsp ||
        thread->again.nr != thread->nr)
        return false;
    thread->again.rip = 0;
    thread->changed = true; // perhaps, and they are not where the guest has them
    memcpy(thread->args, thread->again.args, sizeof thread->args);
    return true;
}
