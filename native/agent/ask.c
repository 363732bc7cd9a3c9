// One blocking question to the supervisor, through a mailbox in shared memory.
#include "agent.h"

#include <asm/unistd.h>

enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, patience_ns = 200 * 1000 * 1000 };

struct tl_mailbox *tl_mailbox_of(struct tl_thread *thread)
{
    struct tl_session *session = &tl_session;

    if (thread->mailbox)
        return thread->mailbox;
    for (uint32_t i = (uint32_t)thread->tid * 7, tries = 0; tries < tl_mailboxes; i++, tries++) {
        struct tl_mailbox *box = &session->mailboxes[i % tl_mailboxes];
        uint32_t expected = TL_MAILBOX_FREE;
        if (box->state == TL_MAILBOX_FREE &&
            __atomic_compare_exchange_n(&box->state, &expected, TL_MAILBOX_TAKEN, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            box->tid = thread->tid;
            box->pid = thread->pid;
            return thread->mailbox = box;
        }
    }
    return NULL;
}

void tl_mailbox_leave(struct tl_thread *thread)
{
    if (thread->mailbox)
        __atomic_store_n(&thread->mailbox->state, TL_MAILBOX_FREE, __ATOMIC_RELEASE);
    thread->mailbox = NULL;
}

int tl_ask(struct tl_thread *thread, enum tl_request request)
{
    struct tl_session *session = &tl_session;
    struct tl_mailbox *box = tl_mailbox_of(thread);
    struct {
        int64_t seconds, nanoseconds;
    } patience = {0, patience_ns};

    if (!box || session->dead)
        return -1;
    uint32_t index = (uint32_t)(box - session->mailboxes);
    box->request = request;
    box->sleeping = 0;
    box->serial++;
    __atomic_store_n(&box->state, TL_MAILBOX_POSTED, __ATOMIC_RELEASE);
    __atomic_or_fetch(&session->posted[index / 64], (uint64_t)1 << index % 64, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&session->doorbell, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&session->sleeping, __ATOMIC_SEQ_CST))
        tl_raw(__NR_futex, (long)&session->doorbell, FUTEX_WAKE, 1, 0, 0, 0);
    for (uint32_t i = session->spin; i; i--) {
        if (__atomic_load_n(&box->state, __ATOMIC_ACQUIRE) == TL_MAILBOX_ANSWERED)
            goto answered;
        __builtin_ia32_pause();
    }
    __atomic_store_n(&box->sleeping, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&box->state, __ATOMIC_SEQ_CST) == TL_MAILBOX_POSTED) {
        tl_raw(__NR_futex, (long)&box->state, FUTEX_WAIT, TL_MAILBOX_POSTED, (long)&patience, 0, 0);
        if (session->dead)
            return -1;
    }
answered:
    box->state = TL_MAILBOX_TAKEN;
    return (int)box->answer;
}
