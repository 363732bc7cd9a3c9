// Mailboxes of threads that ended without giving theirs back: killed, or by an execve of another thread.
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent_transport.h"

enum {
    interval_ns = 20 * 1000 * 1000,
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool has_ended(pid_t tid)
{
    return syscall(SYS_kill, tid, 0) < 0 && errno == ESRCH;
}

void tl_agent_sweep(struct agent_transport *a)
{
    struct tl_session *session = a->session;
    unsigned free_boxes = 0;

    if (!__atomic_load_n(&session->crowded, __ATOMIC_ACQUIRE) || now_ns() - a->swept < interval_ns)
        return;
    for (unsigned i = 0; i < tl_mailboxes; i++) {
        struct tl_mailbox *box = &session->mailboxes[i];
        uint32_t state = __atomic_load_n(&box->state, __ATOMIC_ACQUIRE);
        if (state != TL_MAILBOX_FREE && has_ended(box->tid) &&
            __atomic_compare_exchange_n(&box->state, &state, TL_MAILBOX_FREE, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            state = TL_MAILBOX_FREE;
        free_boxes += state == TL_MAILBOX_FREE;
    }
    if (free_boxes)
        __atomic_store_n(&session->crowded, 0, __ATOMIC_RELEASE);
    a->swept = now_ns();
}
