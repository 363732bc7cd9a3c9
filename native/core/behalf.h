// Opening a file as another task would: what may safely be judged and handed over, because nobody can change
// it in between, as a path that is let through can be.
#ifndef TL_BEHALF_H
#define TL_BEHALF_H

#include <stdint.h>
#include <sys/types.h>

struct tl_open_how {
    int dirfd;                     // the task's descriptor, or AT_FDCWD
    const char *path;              // not empty
    uint64_t flags, mode, resolve; // as openat2 takes them
};

// Opens with the task's root and working directory, umask, user, groups and capabilities, from a thread of
// its own, so that nothing of this process changes. *FD is close-on-exec, and no controlling terminal is
// acquired. 0 or an errno: what the task itself would have got, ESRCH when it is gone, EPERM when this
// process lacks the rights to take on the task's.
int tl_open_on_behalf(pid_t tid, const struct tl_open_how *how, int *fd);

#endif
