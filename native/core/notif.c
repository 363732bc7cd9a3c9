#include "notif.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seccomp_abi.h"

enum { largest_notif = 512 };

struct notif {
    struct tl_transport transport;
    bool closed;
};

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

static int notif_receive(struct tl_transport *t, struct tl_call *call)
{
    union {
        struct seccomp_notif notif;
        char room[largest_notif]; // a later kernel's struct may be longer than ours
    } u;

    memset(&u, 0, notif_size()); // anything but zero is EINVAL
    if (ioctl(t->fd, SECCOMP_IOCTL_NOTIF_RECV, &u.notif) == 0) {
        call->id = u.notif.id;
        call->tid = (int32_t)u.notif.pid;
        call->stage = 0;
        call->returned = call->emulated = call->ruled = false;
        call->delay_exit_ns = 0;
        call->poke = NULL;
        call->nr = u.notif.data.nr;
        call->arch = u.notif.data.arch;
        call->ip = u.notif.data.instruction_pointer;
        memcpy(call->args, u.notif.data.args, sizeof call->args);
        return 0;
    }
    int error = errno;
    // Since 6.11 the kernel ends the wait with ENOENT when the last task is gone.
    return error == ENOENT && has_hung_up(t->fd) ? ENOTCONN : error;
}

static int send_response(const struct tl_transport *t, uint64_t id, int64_t value, int error_number,
                         uint32_t flags)
{
    struct seccomp_notif_resp response = {.id = id, .val = value, .error = -error_number, .flags = flags};

    return ioctl(t->fd, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 ? 0 : errno;
}

static int notif_reply(struct tl_transport *t, uint64_t id, int64_t value, int error_number)
{
    return send_response(t, id, error_number ? 0 : value, error_number, 0);
}

static int notif_go_on(struct tl_transport *t, uint64_t id)
{
    return send_response(t, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

static int install_fd(const struct tl_transport *t, uint64_t id, int fd, bool close_on_exec, uint32_t flags,
                      int *number)
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
    int result = ioctl(t->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &request);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result < 0)
        return error;
    *number = result;
    return 0;
}

static int notif_add_fd(struct tl_transport *t, uint64_t id, int fd, bool close_on_exec, int *number)
{
    return install_fd(t, id, fd, close_on_exec, 0, number);
}

static int notif_reply_fd(struct tl_transport *t, uint64_t id, int fd, bool close_on_exec)
{
    int number;
    int error = install_fd(t, id, fd, close_on_exec, SECCOMP_ADDFD_FLAG_SEND, &number);

    // Before 5.14 the two steps could not be one.
    if (error != EINVAL)
        return error;
    error = install_fd(t, id, fd, close_on_exec, 0, &number);
    return error ? error : notif_reply(t, id, number, 0);
}

static bool notif_is_waiting(struct tl_transport *t, uint64_t id)
{
    return ioctl(t->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

// The program's later calls fail with ENOSYS.
static bool notif_close(struct tl_transport *t)
{
    struct notif *notif = (struct notif *)t;

    // Its number stays taken until nobody here can use it any more: an answer that is still on its way must
    // not hit another file. Without room for one more descriptor that has to wait for the end.
    int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    notif->closed = other >= 0 && dup3(other, t->fd, O_CLOEXEC) >= 0;
    if (other >= 0)
        close(other);
    return notif->closed;
}

static void drop(struct tl_transport *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

static void notif_release(struct tl_transport *t)
{
    if (((struct notif *)t)->closed)
        drop(t);
}

static void notif_free(struct tl_transport *t)
{
    drop(t);
    free(t);
}

// After our death the program would wait for ever for an answer, if a process that we forked held it open.
static void notif_forked(struct tl_transport *t)
{
    if (t->fd >= 0)
        close(t->fd);
}

static const struct tl_transport_ops notif_ops = {
    .engine = "notify",
    .receive = notif_receive,
    .reply = notif_reply,
    .go_on = notif_go_on,
    .reply_fd = notif_reply_fd,
    .add_fd = notif_add_fd,
    .is_waiting = notif_is_waiting,
    .close = notif_close,
    .release = notif_release,
    .free = notif_free,
    .forked = notif_forked,
};

struct tl_error *tl_notif_new(int listener, struct tl_transport **transport)
{
    struct notif *notif = calloc(1, sizeof *notif);

    if (!notif) {
        close(listener);
        return tl_error_new(ENOMEM, "cannot listen");
    }
    notif->transport.ops = &notif_ops;
    notif->transport.fd = listener;
    // SYNC_WAKE_UP (6.6): caller and supervisor wake each other on one CPU, an order of magnitude faster.
    // The flags go by value, not by pointer.
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (unsigned long)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    *transport = &notif->transport;
    return NULL;
}
