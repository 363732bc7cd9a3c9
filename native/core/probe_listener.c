#include "probe_listener.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int subject(void *argument)
{
    struct tl_listening *listening = argument;
    int fd = tl_probe_filter(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER | listening->flags);

    listening->fd = fd < 0 ? -errno : fd;
    // The prober waits for this stop, or for our end.
    kill(getpid(), SIGSTOP);
    if (fd < 0)
        return 1;
    if (listening->body) {
        listening->body(listening);
        return 0;
    }
    long result = syscall(TL_PROBE_CALL);
    listening->result = result < 0 ? -errno : result;
    return 0;
}

struct tl_listening *tl_probe_listen(struct tl_probe_result *out, unsigned long flags,
                                     void (*body)(struct tl_listening *listening))
{
    struct tl_listening *listening = tl_probe_shared(sizeof *listening);

    if (!listening) {
        tl_probe_untested(out, errno, "no memory to try it with");
        return NULL;
    }
    listening->flags = flags;
    listening->body = body;
    listening->fd = -EPROTO;
    // A shared file table spares handing the listener over, which may be refused for reasons of its own.
    listening->task = tl_probe_spawn(subject, listening, 1);
    if (listening->task < 0) {
        tl_probe_untested(out, errno, "no process to try it in");
        return NULL;
    }
    int status = tl_probe_wait(listening->task, WUNTRACED);
    if (status >= 0 && WIFSTOPPED(status) && listening->fd >= 0)
        return listening;
    if (status >= 0 && !WIFSTOPPED(status)) {
        tl_probe_died(out, status, "a process that asked for a listener");
    } else if (listening->fd == -EBUSY) {
        tl_probe_untested(out, EBUSY, "this process tree already has a listener");
    } else {
        errno = -listening->fd;
        tl_probe_refused(out, "seccomp(SECCOMP_SET_MODE_FILTER) with a listener");
    }
    tl_probe_end(listening->task);
    return NULL;
}

void tl_probe_release(struct tl_listening *listening)
{
    kill(listening->task, SIGCONT);
}

uint64_t tl_probe_receive(struct tl_listening *listening, struct tl_probe_result *out)
{
    struct pollfd ready = {.fd = listening->fd, .events = POLLIN};
    // Room for what a newer kernel may add.
    union {
        struct seccomp_notif notification;
        char room[1024];
    } received;

    while (poll(&ready, 1, -1) < 0 && errno == EINTR)
        ;
    memset(&received, 0, sizeof received);
    if (!(ready.revents & POLLIN)) {
        tl_probe_missing(out, 0, "the listener was gone before the call was notified");
        return 0;
    }
    if (ioctl(listening->fd, SECCOMP_IOCTL_NOTIF_RECV, &received)) {
        tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_RECV)");
        return 0;
    }
    if (received.notification.data.nr != TL_PROBE_CALL) {
        tl_probe_missing(out, 0, "another call was notified than the filter selects");
        return 0;
    }
    return received.notification.id;
}

int tl_probe_reply(struct tl_listening *listening, uint64_t id, int64_t value, uint32_t flags)
{
    union {
        struct seccomp_notif_resp response;
        char room[1024];
    } sent;

    memset(&sent, 0, sizeof sent);
    sent.response.id = id;
    sent.response.val = value;
    sent.response.flags = flags;
    return ioctl(listening->fd, SECCOMP_IOCTL_NOTIF_SEND, &sent);
}
