// The transport of the in-process engines: calls come from mailboxes in memory that the program shares.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent_transport.h"
#include "memory.h"

enum {
    spin_cycles = 40 * 1000,   // about 15 us, by a thread that would be idle
    nap_ns = 50 * 1000 * 1000, // how often the end of the program is looked for
    index_bits = 12,
    i386 = 0x40000003, // AUDIT_ARCH_I386
};

static struct agent_transport *as_agent(struct tl_transport *transport)
{
    return (struct agent_transport *)transport;
}

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static uint32_t this_cpu(void)
{
    unsigned cpu = 0;

    syscall(SYS_getcpu, &cpu, NULL, NULL);
    return cpu;
}

// -- questions about sites
// ---------------------------------------------------------------------------------------

// Answers that nobody fetched would fill the board: processes end, and sites stop being used.
static void sweep_questions(struct tl_session *session)
{
    unsigned answered = 0;

    for (unsigned i = 0; i < tl_questions; i++)
        answered += session->questions[i].state == TL_QUESTION_ANSWERED;
    for (unsigned i = 0; i < tl_questions && answered > tl_questions / 2; i++) {
        uint32_t expected = TL_QUESTION_ANSWERED;
        answered -= __atomic_compare_exchange_n(&session->questions[i].state, &expected, TL_QUESTION_FREE,
                                                false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
}

static void queue_plans(struct agent_transport *a)
{
    uint64_t asked = __atomic_exchange_n(&a->session->asked, 0, __ATOMIC_SEQ_CST);

    sweep_questions(a->session);
    pthread_mutex_lock(&a->lock);
    a->plans |= asked;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->lock);
}

int tl_agent_next_plan(struct tl_transport *transport, int milliseconds)
{
    struct agent_transport *a = as_agent(transport);
    struct timespec until;
    int found = -1, error = milliseconds ? 0 : ETIMEDOUT;

    if (milliseconds > 0) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += milliseconds / 1000;
        until.tv_nsec += (long)(milliseconds % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
    }
    pthread_mutex_lock(&a->lock);
    while (!a->plans && !a->closed && !a->no_plans && !error)
        error = milliseconds < 0 ? pthread_cond_wait(&a->change, &a->lock)
                                 : pthread_cond_timedwait(&a->change, &a->lock, &until);
    if (a->closed || a->no_plans) {
        found = -2;
    } else if (a->plans) {
        found = __builtin_ctzll(a->plans);
        a->plans &= a->plans - 1;
    }
    pthread_mutex_unlock(&a->lock);
    return found;
}

void tl_agent_end_plans(struct tl_transport *transport)
{
    struct agent_transport *a = as_agent(transport);

    pthread_mutex_lock(&a->lock);
    a->no_plans = true;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->lock);
}

// -- calls
// -----------------------------------------------------------------------------------------------------

static struct tl_mailbox *find_box(struct agent_transport *a, uint64_t id)
{
    struct tl_mailbox *box = &a->session->mailboxes[id & ((1 << index_bits) - 1)];

    return box->serial == id >> index_bits &&
                   __atomic_load_n(&box->state, __ATOMIC_ACQUIRE) == TL_MAILBOX_POSTED && !a->closed
               ? box
               : NULL;
}

// Takes one posted mailbox out of the bitmap; NULL: none.
static struct tl_mailbox *take_posted(struct agent_transport *a)
{
    for (unsigned word = 0; word < tl_mailboxes / 64; word++) {
        uint64_t bits = __atomic_load_n(&a->session->posted[word], __ATOMIC_SEQ_CST);
        if (bits) {
            unsigned bit = (unsigned)__builtin_ctzll(bits);
            __atomic_and_fetch(&a->session->posted[word], ~((uint64_t)1 << bit), __ATOMIC_SEQ_CST);
            return &a->session->mailboxes[word * 64 + bit];
        }
    }
    return NULL;
}

// True when the mailbox holds a call; what else there is has been seen to.
static bool is_call(struct agent_transport *a, struct tl_mailbox *box)
{
    if (__atomic_load_n(&box->state, __ATOMIC_ACQUIRE) != TL_MAILBOX_POSTED)
        return false;
    switch (box->request) {
    case TL_REQUEST_CALL:
    case TL_REQUEST_RESULT:
        return true;
    case TL_REQUEST_EXEC:
    case TL_REQUEST_RELEASE:
        tl_agent_start_exec(a, box);
        return false;
    case TL_REQUEST_WHO:
        tl_agent_find_out(a, box);
        return false;
    case TL_REQUEST_WARNING:
        tl_agent_warn(a, box, (enum tl_unhooked)box->args[1], (int)box->args[2]);
        tl_mailbox_answer(box, TL_ANSWER_GO_ON);
        return false;
    default:
        return false;
    }
}

static void fill_call(const struct agent_transport *a, const struct tl_mailbox *box, struct tl_call *call)
{
    memset(call, 0, sizeof *call);
    call->id = box->serial << index_bits | (uint64_t)(box - a->session->mailboxes);
    call->ip = box->ip;
    memcpy(call->args, box->args, sizeof call->args);
    call->result = box->result;
    call->arch = box->arch;
    call->nr = box->nr;
    call->tid = box->tid;
    call->returned = box->request == TL_REQUEST_RESULT;
    call->stage = box->begins_again ? TL_STAGE_PAST_RULES : 0;
}

static bool has_hung_up(const struct agent_transport *a)
{
    struct pollfd poller = {a->transport.fd, 0, 0};

    return poll(&poller, 1, 0) > 0 && poller.revents & (POLLHUP | POLLERR);
}

static int agent_receive(struct tl_transport *t, struct tl_call *call)
{
    struct agent_transport *a = as_agent(t);
    struct tl_session *session = a->session;
    const struct timespec nap = {0, nap_ns};
    uint64_t until = __builtin_ia32_rdtsc() + spin_cycles;
    uint32_t cpu = this_cpu();

    session->cpu = cpu;
    for (;;) {
        uint32_t doorbell = __atomic_load_n(&session->doorbell, __ATOMIC_SEQ_CST);
        struct tl_mailbox *box = take_posted(a);
        if (box && is_call(a, box)) {
            fill_call(a, box, call);
            a->room_used[call->id & ((1 << index_bits) - 1)] = 0;
            return 0;
        }
        if (box)
            continue;
        if (__atomic_load_n(&session->asked, __ATOMIC_SEQ_CST))
            queue_plans(a);
        tl_agent_sweep(a);
        if (session->last_cpu != cpu && __builtin_ia32_rdtsc() < until) {
            __builtin_ia32_pause();
            continue;
        }
        __atomic_add_fetch(&session->sleeping, 1, __ATOMIC_SEQ_CST);
        long result = futex(&session->doorbell, FUTEX_WAIT, doorbell, &nap);
        int error = result < 0 ? errno : 0;
        __atomic_sub_fetch(&session->sleeping, 1, __ATOMIC_SEQ_CST);
        session->cpu = cpu = this_cpu();
        if (error == EINTR)
            return EINTR;
        if (error == ETIMEDOUT && has_hung_up(a))
            return ENOTCONN;
        until = __builtin_ia32_rdtsc() + spin_cycles;
    }
}

static int agent_reply(struct tl_transport *t, uint64_t id, int64_t value, int error_number)
{
    struct tl_mailbox *box = find_box(as_agent(t), id);

    if (!box)
        return ENOENT;
    box->result = error_number ? -error_number : value;
    tl_mailbox_answer(box, TL_ANSWER_REPLY);
    return 0;
}

static int agent_go_on(struct tl_transport *t, uint64_t id)
{
    struct tl_mailbox *box = find_box(as_agent(t), id);

    if (!box)
        return ENOENT;
    tl_mailbox_answer(box, TL_ANSWER_GO_ON);
    return 0;
}

static bool agent_is_waiting(struct tl_transport *t, uint64_t id)
{
    struct tl_mailbox *box = find_box(as_agent(t), id);

    return box && (syscall(SYS_kill, box->tid, 0) == 0 || errno == EPERM);
}

// Answers, and waits until the caller has come back for more. 0 or an errno.
int tl_agent_ask_back(struct agent_transport *a, struct tl_mailbox *box, enum tl_answer answer)
{
    const struct timespec nap = {0, nap_ns};
    uint64_t serial = box->serial;

    __atomic_store_n(&box->awaited, 1, __ATOMIC_SEQ_CST);
    tl_mailbox_answer(box, answer);
    for (;;) {
        uint32_t state = __atomic_load_n(&box->state, __ATOMIC_SEQ_CST);
        if (state == TL_MAILBOX_POSTED || box->serial != serial)
            break;
        futex(&box->state, FUTEX_WAIT, state, &nap);
        if (syscall(SYS_kill, box->tid, 0) < 0 && errno == ESRCH)
            break;
        if (a->closed)
            break;
    }
    box->awaited = 0;
    return box->state == TL_MAILBOX_POSTED && box->serial == serial ? 0 : ENOENT;
}

static int send_fd(int socket, int fd)
{
    char byte = 0;
    struct iovec iov = {&byte, 1};
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.buffer,
                             .msg_controllen = sizeof control.buffer};

    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)(void *)CMSG_DATA(&control.align) = fd;
    return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? errno : 0;
}

// The agent makes a pair of sockets; a copy of its second one is taken from it, and what it gets comes by
// that.
static int agent_add_fd(struct tl_transport *t, uint64_t id, int fd, bool close_on_exec, int *number)
{
    struct agent_transport *a = as_agent(t);
    struct tl_mailbox *box = find_box(a, id);
    int error = box ? tl_agent_ask_back(a, box, TL_ANSWER_SOCKET) : ENOENT;

    if (error)
        return error;
    if (box->result < 0)
        return (int)-box->result;
    int pidfd = (int)syscall(SYS_pidfd_open, box->pid, 0);
    int socket = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)box->args[1], 0);
    error = socket < 0 ? errno : send_fd(socket, fd);
    if (socket >= 0)
        close(socket);
    if (pidfd >= 0)
        close(pidfd);
    box->close_on_exec = close_on_exec;
    int failed = tl_agent_ask_back(a, box, TL_ANSWER_RECEIVE);
    if (error || failed)
        return error ? error : failed;
    *number = (int)box->result;
    return box->result < 0 ? (int)-box->result : 0;
}

static int agent_reply_fd(struct tl_transport *t, uint64_t id, int fd, bool close_on_exec)
{
    int number;
    int error = agent_add_fd(t, id, fd, close_on_exec, &number);

    return error ? error : agent_reply(t, id, number, 0);
}

// A number that nothing is known of is treated as all others.
static void publish_interest(struct agent_transport *a)
{
    struct tl_session *session = a->session;

    for (int arch = 0; arch < 2; arch++)
        for (int nr = 0; nr < tl_calls; nr++)
            (arch ? session->interest_i386 : session->interest)[nr] =
                a->is_set[arch][nr] ? a->wanted[arch][nr] : a->others;
    session->other_interest = a->others | a->beyond;
}

static int agent_set_interest(struct tl_transport *t, uint32_t arch, int nr, bool before, bool returned)
{
    struct agent_transport *a = as_agent(t);
    uint8_t wants = (uint8_t)((before ? TL_WANTS_BEFORE : 0) | (returned ? TL_WANTS_RESULT : 0));

    if (nr >= 0 && nr < tl_calls) {
        a->is_set[arch == i386][nr] = true;
        a->wanted[arch == i386][nr] = wants;
    } else if (nr == -1) {
        a->others |= wants;
    } else {
        a->beyond |= wants;
    }
    publish_interest(a);
    return 0;
}

static int agent_set_arg(struct tl_transport *t, uint64_t id, unsigned index, uint64_t value)
{
    struct tl_mailbox *box = find_box(as_agent(t), id);

    if (!box)
        return ENOENT;
    box->args[index] = value;
    box->changed |= 1u << index;
    return 0;
}

static int agent_copy_arg(struct tl_transport *t, uint64_t id, unsigned index, const void *data, size_t size,
                          uint64_t *address)
{
    struct agent_transport *a = as_agent(t);
    struct tl_mailbox *box = find_box(a, id);
    uint64_t *used = &a->room_used[id & ((1 << index_bits) - 1)];
    size_t done;

    if (!box)
        return ENOENT;
    if (*used + size > box->room_size) {
        if (*used)
            return ENOBUFS; // an earlier copy of this call lives there
        box->result = (int64_t)(size < 65536 ? 65536 : 2 * size);
        int error = tl_agent_ask_back(a, box, TL_ANSWER_ROOM);
        if (error)
            return error;
        if (box->result < 0)
            return (int)-box->result;
    }
    *address = box->room + *used;
    int error = tl_memory_write(box->tid, *address, data, size, &done);
    if (error || done < size)
        return error ? error : EFAULT;
    *used += (size + 15) & ~(size_t)15;
    return agent_set_arg(t, id, index, *address);
}

static int agent_perform(struct tl_transport *t, uint64_t id, int64_t *result)
{
    struct agent_transport *a = as_agent(t);
    struct tl_mailbox *box = find_box(a, id);
    int error = box ? tl_agent_ask_back(a, box, TL_ANSWER_PERFORM) : ENOENT;

    if (!error)
        *result = box->result;
    return error;
}

// Whoever waits, and whoever asks later, finds nobody: ENOSYS.
static bool agent_close(struct tl_transport *t)
{
    struct agent_transport *a = as_agent(t);

    a->closed = true;
    __atomic_store_n(&a->session->dead, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < tl_mailboxes; i++) {
        uint64_t used = __atomic_load_n(&a->session->used[i / 64], __ATOMIC_SEQ_CST);
        if (used >> i % 64 & 1 && a->session->mailboxes[i].state == TL_MAILBOX_POSTED)
            futex(&a->session->mailboxes[i].state, FUTEX_WAKE, 1, NULL);
    }
    __atomic_add_fetch(&a->session->doorbell, 1, __ATOMIC_SEQ_CST);
    futex(&a->session->doorbell, FUTEX_WAKE, 1, NULL);
    pthread_mutex_lock(&a->lock);
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->lock);
    return true;
}

static void agent_release(struct tl_transport *t)
{
    (void)t; // the agent's owner gives back its descriptors
}

void tl_agent_transport_settle(struct tl_transport *t)
{
    struct agent_transport *a = as_agent(t);

    pthread_mutex_lock(&a->lock);
    while (a->execs)
        pthread_cond_wait(&a->change, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

static void agent_free(struct tl_transport *t)
{
    struct agent_transport *a = as_agent(t);

    tl_agent_transport_settle(t);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->change);
    free(a);
}

static void agent_forked(struct tl_transport *t)
{
    // The program learns of our death by the socket: no copy of it may stay open.
    close(as_agent(t)->agent->socket);
}

static const struct tl_transport_ops agent_ops = {
    .engine = "agent",
    .receive = agent_receive,
    .reply = agent_reply,
    .go_on = agent_go_on,
    .reply_fd = agent_reply_fd,
    .add_fd = agent_add_fd,
    .is_waiting = agent_is_waiting,
    .close = agent_close,
    .release = agent_release,
    .free = agent_free,
    .forked = agent_forked,
    .set_interest = agent_set_interest,
    .set_arg = agent_set_arg,
    .copy_arg = agent_copy_arg,
    .perform = agent_perform,
};

struct tl_error *tl_agent_transport_new(struct tl_agent *agent, const struct tl_agent_events *events,
                                        struct tl_transport **transport)
{
    struct agent_transport *a = calloc(1, sizeof *a);

    if (!a)
        return tl_error_new(ENOMEM, "cannot listen to agents");
    a->transport = (struct tl_transport){&agent_ops, agent->socket, &agent->session->rules};
    a->agent = agent;
    a->session = agent->session;
    a->events = *events;
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&a->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *transport = &a->transport;
    return NULL;
}

void tl_agent_transport_set_command(struct tl_transport *transport, pid_t command)
{
    as_agent(transport)->command = command;
}
