#include "notif.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seccomp_abi.h"

enum { largest_notif = 512 };

// The program's tasks are gone when the listener hangs up.
static bool has_hung_up(int listener)
{
    struct pollfd poller = {listener, POLLIN, 0};

    return poll(&poller, 1, 0) > 0 && poller.revents & (POLLHUP | POLLERR);
}

// How much of its struct this kernel fills, and wants to be zero before.
static size_t notif_size(void)
{
    static atomic_size_t known;
    size_t size = atomic_load_explicit(&known, memory_order_relaxed);

    if (!size) {
        struct seccomp_notif_sizes sizes;
        size = sizeof(struct seccomp_notif);
        if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0 && sizes.seccomp_notif > size)
            size = sizes.seccomp_notif < largest_notif ? sizes.seccomp_notif : largest_notif;
        atomic_store_explicit(&known, size, memory_order_relaxed);
    }
    return size;
}

int tl_notif_receive(int listener, struct tl_call *call)
{
    union {
        struct seccomp_notif notif;
        char room[largest_notif]; // a later kernel's struct may be longer than ours
    } u;

    memset(&u, 0, notif_size()); // anything but zero is EINVAL
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &u.notif) == 0) {
        call->id = u.notif.id;
        call->tid = (int32_t)u.notif.pid;
        call->stage = 0;
        call->nr = u.notif.data.nr;
        call->arch = u.notif.data.arch;
        call->ip = u.notif.data.instruction_pointer;
        memcpy(call->args, u.notif.data.args, sizeof call->args);
        return 0;
    }
    int error = errno;
    // Since 6.11 the kernel ends the wait with ENOENT when the last task is gone.
    return error == ENOENT && has_hung_up(listener) ? ENOTCONN : error;
}

static int send_response(int listener, uint64_t id, int64_t value, int error_number, uint32_t flags)
{
    struct seccomp_notif_resp response = {.id = id, .val = value, .error = -error_number, .flags = flags};

    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 ? 0 : errno;
}

int tl_notif_reply(int listener, uint64_t id, int64_t value, int error_number)
{
    return send_response(listener, id, error_number ? 0 : value, error_number, 0);
}

int tl_notif_continue(int listener, uint64_t id)
{
    return send_response(listener, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

static int add_fd(int listener, uint64_t id, int fd, bool close_on_exec, uint32_t flags, int *number)
{
    struct seccomp_notif_addfd request = {
        .id = id,
        .flags = flags,
        .srcfd = (uint32_t)fd,
        .newfd_flags = close_on_exec ? O_CLOEXEC : 0,
    };
    sigset_t all, before;

    // A signal that interrupted ADDFD|SEND would leave the caller with the result 0 and no descriptor (6.18).
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &request);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result < 0)
        return error;
    *number = result;
    return 0;
}

int tl_notif_add_fd(int listener, uint64_t id, int fd, bool close_on_exec, int *number)
{
    return add_fd(listener, id, fd, close_on_exec, 0, number);
}

int tl_notif_reply_fd(int listener, uint64_t id, int fd, bool close_on_exec)
{
    int number;
    int error = add_fd(listener, id, fd, close_on_exec, SECCOMP_ADDFD_FLAG_SEND, &number);

    // Before 5.14 the two steps could not be one.
    if (error != EINVAL)
        return error;
    error = add_fd(listener, id, fd, close_on_exec, 0, &number);
    return error ? error : tl_notif_reply(listener, id, number, 0);
}

bool tl_notif_is_waiting(int listener, uint64_t id)
{
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

bool tl_notif_wake_on_same_cpu(int listener)
{
    // The flags go by value, not by pointer.
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                 (unsigned long)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) == 0;
}
