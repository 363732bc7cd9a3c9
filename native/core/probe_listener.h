// A task under a user_notif filter, and the listener to it, for probes.
#ifndef TL_PROBE_LISTENER_H
#define TL_PROBE_LISTENER_H

#include <linux/seccomp.h>

#include "probe_child.h"

// Newer than the headers that we may be built with.
#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

struct tl_listening {
    // Seen by both sides.
    volatile int fd;      // the listener, in both file tables; or -errno
    volatile long result; // of the call that was notified, or -errno
    volatile int signals; // that the subject has handled
    // Of the prober alone.
    pid_t task;
    unsigned long flags;
    void (*body)(struct tl_listening *listening); // what the subject does instead of one TL_PROBE_CALL
};

// Starts a subject under a filter with a listener, FLAGS added. When there is none, OUT says why and NULL
// comes back: a listener that is already there makes it untested.
struct tl_listening *tl_probe_listen(struct tl_probe_result *out, unsigned long flags,
                                     void (*body)(struct tl_listening *listening));
// Lets the subject go on and make its call.
void tl_probe_release(struct tl_listening *listening);
// The notification of the call, or 0 with OUT filled in.
uint64_t tl_probe_receive(struct tl_listening *listening, struct tl_probe_result *out);
// SECCOMP_IOCTL_NOTIF_SEND.
int tl_probe_reply(struct tl_listening *listening, uint64_t id, int64_t value, uint32_t flags);

#endif
