// Blocking questions to the supervisor, through a mailbox in shared memory.
#include "inside.h"

#include <asm/unistd.h>

enum {
    FUTEX_WAIT = 0,
    FUTEX_WAKE = 1,
    patience_ns = 200 * 1000 * 1000,
    spin_cycles = 125 * 1000, // about 50 us
    POLLHUP = 0x10,
    MSG_DONTWAIT = 0x40,
    MSG_NOSIGNAL = 0x4000,
    CLONE_NEWPID = 0x20000000,
    nap_ns = 5 * 1000 * 1000,
    naps = 1000,
    cpu_segment = 0x7b,
};

static struct tl_mailbox *find_mailbox(struct tl_thread *thread)
{
    struct tl_session *session = &tl_session;

    for (uint32_t i = (uint32_t)thread->tid * 7, tries = 0; tries < tl_mailboxes; i++, tries++) {
        uint32_t index = i % tl_mailboxes;
        struct tl_mailbox *box = &session->mailboxes[index];
        uint32_t expected = TL_MAILBOX_FREE;
        if (box->state == TL_MAILBOX_FREE &&
            __atomic_compare_exchange_n(&box->state, &expected, TL_MAILBOX_TAKEN, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            __atomic_or_fetch(&session->used[index / 64], (uint64_t)1 << index % 64, __ATOMIC_SEQ_CST);
            box->tid = thread->outer_tid;
            box->pid = thread->outer_pid;
            return thread->mailbox = box;
        }
    }
    return NULL;
}

// One for the length of a call. With every one taken, the supervisor looks for those whose threads are gone.
struct tl_mailbox *tl_mailbox_of(struct tl_thread *thread)
{
    const int64_t nap[2] = {0, nap_ns};

    for (int tries = 0; !thread->mailbox && !find_mailbox(thread) && tries < naps; tries++) {
        struct tl_session *session = &tl_session;
        if (session->dead)
            break;
        __atomic_store_n(&session->crowded, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&session->doorbell, 1, __ATOMIC_SEQ_CST);
        tl_raw(__NR_futex, (long)&session->doorbell, FUTEX_WAKE, 1, 0, 0, 0);
        tl_raw(__NR_nanosleep, (long)nap, 0, 0, 0, 0, 0);
    }
    return thread->mailbox;
}

void tl_mailbox_leave(struct tl_thread *thread)
{
    if (thread->mailbox)
        __atomic_store_n(&thread->mailbox->state, TL_MAILBOX_FREE, __ATOMIC_RELEASE);
    thread->mailbox = NULL;
}

// By the segment that the kernel keeps for it: a program may have forbidden itself rdtscp.
static uint32_t this_cpu(void)
{
    uint32_t limit = 0;

    __asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"(cpu_segment) : "cc");
    return limit & 0xfff;
}

// The supervisor's end of the socket closes when it dies, however it dies.
static bool is_dead(void)
{
    struct {
        int32_t fd;
        int16_t wanted, seen;
    } poll = {tl_process.start.socket_fd, 0, 0};

    if (!tl_session.dead && tl_call3(__NR_poll, (long)&poll, 1, 0) > 0 && poll.seen & POLLHUP)
        tl_session.dead = 1;
    return tl_session.dead;
}

static bool is_answered(struct tl_mailbox *box)
{
    return __atomic_load_n(&box->state, __ATOMIC_ACQUIRE) == TL_MAILBOX_ANSWERED;
}

// Spinning helps only while the other side runs on another CPU: on this one it would hold it up.
static bool is_answered_soon(struct tl_mailbox *box)
{
    for (uint64_t until = __builtin_ia32_rdtsc() + spin_cycles;
         tl_session.cpu != box->cpu && __builtin_ia32_rdtsc() < until;) {
        if (is_answered(box))
            return true;
        __builtin_ia32_pause();
    }
    return false;
}

static bool wait_for_answer(const struct tl_thread *thread)
{
    const int64_t patience[2] = {0, patience_ns};
    struct tl_mailbox *box = thread->mailbox;

    if (!thread->has_no_clock && is_answered_soon(box))
        return true;
    __atomic_store_n(&box->sleeping, 1, __ATOMIC_SEQ_CST);
    while (!is_answered(box)) {
        tl_raw(__NR_futex, (long)&box->state, FUTEX_WAIT, TL_MAILBOX_POSTED, (long)patience, 0, 0);
        if (!is_answered(box) && is_dead())
            return false;
    }
    return true;
}

void tl_ring(void)
{
    struct tl_session *session = &tl_session;

    __atomic_add_fetch(&session->doorbell, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&session->sleeping, __ATOMIC_SEQ_CST))
        tl_raw(__NR_futex, (long)&session->doorbell, FUTEX_WAKE, 1, 0, 0, 0);
}

static void post(struct tl_mailbox *box)
{
    uint32_t index = (uint32_t)(box - tl_session.mailboxes);

    __atomic_or_fetch(&tl_session.posted[index / 64], (uint64_t)1 << index % 64, __ATOMIC_SEQ_CST);
    tl_ring();
}

int tl_ask(struct tl_thread *thread, enum tl_request request)
{
    struct tl_mailbox *box = tl_mailbox_of(thread);

    if (!box || tl_session.dead)
        return -1;
    box->request = request;
    box->sleeping = 0;
    box->serial++;
    tl_session.last_cpu = box->cpu = this_cpu();
    __atomic_store_n(&box->state, TL_MAILBOX_POSTED, __ATOMIC_SEQ_CST);
    post(box);
    return wait_for_answer(thread) ? (int)box->answer : -1;
}

// The supervisor tells the user why a program runs without hooks. PATH: address of its name, or 0.
void tl_warn(struct tl_thread *thread, enum tl_unhooked reason, long error, uint64_t path)
{
    struct tl_mailbox *box = tl_mailbox_of(thread);

    if (!box)
        return;
    box->args[1] = reason;
    box->args[2] = (uint64_t)-error;
    box->args[4] = path;
    tl_ask(thread, TL_REQUEST_WARNING);
}

// Comes back with what an answer has asked for. The one who waits for it sleeps on the mailbox itself.
int tl_ask_again(struct tl_thread *thread)
{
    struct tl_mailbox *box = thread->mailbox;
    tl_session.last_cpu = box->cpu = this_cpu();
    box->sleeping = 0;
    __atomic_store_n(&box->state, TL_MAILBOX_POSTED, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&box->awaited, __ATOMIC_SEQ_CST))
        tl_raw(__NR_futex, (long)&box->state, FUTEX_WAKE, 1, 0, 0, 0);
    return wait_for_answer(thread) ? (int)box->answer : -1;
}

// In a namespace of its own a process has another number there. The kernel says which to whoever gets a
// message from it, so the supervisor gets one, with the number of the mailbox in which it is to answer.
void tl_find_out(struct tl_thread *thread)
{
    struct tl_mailbox *box;

    thread->outer_pid = thread->pid;
    thread->outer_tid = thread->tid;
    if (!tl_session.namespaces || !(box = tl_mailbox_of(thread)))
        return;
    uint32_t number = (uint32_t)(box - tl_session.mailboxes);
    box->pid = thread->pid;
    box->tid = thread->tid;
    tl_raw(__NR_sendto, tl_process.start.socket_fd, (long)&number, sizeof number, MSG_DONTWAIT | MSG_NOSIGNAL,
           0, 0);
    if (tl_ask(thread, TL_REQUEST_WHO) == TL_ANSWER_GO_ON) {
        thread->outer_pid = (int32_t)box->args[0];
        thread->outer_tid = (int32_t)box->args[1];
    }
    tl_mailbox_leave(thread);
}

// unshare and setns: who is forked from here on may be in another namespace.
long tl_call_namespace(struct tl_thread *thread)
{
    if (thread->kind == __NR_setns || thread->args[0] & CLONE_NEWPID)
        tl_session.namespaces = 1;
    return tl_perform(thread);
}
