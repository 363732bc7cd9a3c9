// The ioctls of a seccomp listener, one function each. All return 0 or an errno.
#ifndef TL_NOTIF_H
#define TL_NOTIF_H

#include <stdbool.h>
#include <stdint.h>

struct tl_call {
    uint64_t id;
    uint64_t ip;
    uint64_t args[6];
    uint32_t arch; // AUDIT_ARCH_*
    int32_t nr;
    int32_t tid;    // in the pid namespace of whoever receives
    uint32_t stage; // how many rules have been applied to it already
};

// Blocks. ENOENT: the caller was gone before; ENOTCONN: the last task under the filter is gone.
int tl_notif_receive(int listener, struct tl_call *call);

// ENOENT from any of these: the caller does not wait any more.
int tl_notif_reply(int listener, uint64_t id, int64_t value, int error_number);
int tl_notif_continue(int listener, uint64_t id);
int tl_notif_reply_fd(int listener, uint64_t id, int fd, bool close_on_exec);
int tl_notif_add_fd(int listener, uint64_t id, int fd, bool close_on_exec, int *number);
bool tl_notif_is_waiting(int listener, uint64_t id);

// SYNC_WAKE_UP (6.6): caller and supervisor wake each other on one CPU, an order of magnitude faster.
bool tl_notif_wake_on_same_cpu(int listener);

#endif
