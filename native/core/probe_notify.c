// seccomp user notification: what the `notify` engine stands on.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "probe_listener.h"

#define VALUE 424242

// One call, answered with VALUE, on a listener made with FLAGS and prepared by READY.
static void round_trip(struct tl_probe_result *out, unsigned long flags,
                       int (*ready)(struct tl_listening *listening, struct tl_probe_result *out))
{
    struct tl_listening *listening = tl_probe_listen(out, flags, NULL);

    if (!listening)
        return;
    if (!ready || ready(listening, out)) {
        tl_probe_release(listening);
        uint64_t id = tl_probe_receive(listening, out);
        if (id && tl_probe_reply(listening, id, VALUE, 0)) {
            tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_SEND)");
        } else if (id) {
            tl_probe_wait(listening->task, 0);
            listening->task = 0;
            if (listening->result == VALUE)
                tl_probe_works(out, "%s", "");
            else
                tl_probe_missing(out, 0, "the caller got %ld instead of the reply", listening->result);
        }
    }
    tl_probe_end(listening->task);
}

static void probe_listener(struct tl_probe_result *out)
{
    round_trip(out, 0, NULL);
}

static void probe_listener_free(struct tl_probe_result *out)
{
    struct tl_listening *listening = tl_probe_listen(out, 0, NULL);

    if (listening) {
        tl_probe_end(listening->task);
        tl_probe_works(out, "%s", "");
    } else if (out->code == EBUSY) {
        out->state = TL_PROBE_MISSING;
    } else {
        out->state = TL_PROBE_UNTESTED;
    }
}

static void probe_sizes(struct tl_probe_result *out)
{
    struct seccomp_notif_sizes sizes = {0};

    if (syscall(__NR_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes))
        tl_probe_refused(out, "seccomp(SECCOMP_GET_NOTIF_SIZES)");
    else
        tl_probe_works(out, "notification %u, response %u, data %u bytes", sizes.seccomp_notif,
                       sizes.seccomp_notif_resp, sizes.seccomp_data);
}

// The kernel looks at flags before it looks for a listener, and reads the program after that: EFAULT knows
// the flag.
static int flags_known(struct tl_probe_result *out, unsigned long flags)
{
    if (syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL) == -1 && errno == EFAULT)
        return 1;
    tl_probe_refused(out, "seccomp(SECCOMP_SET_MODE_FILTER) with this flag");
    return 0;
}

static void probe_tsync(struct tl_probe_result *out)
{
    unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;

    if (flags_known(out, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags))
        round_trip(out, flags, NULL);
}

static void count_signal(int number)
{
    (void)number;
}

static void call_with_handler(struct tl_listening *listening)
{
    struct sigaction action = {.sa_handler = count_signal}; // no SA_RESTART

    sigaction(SIGUSR1, &action, NULL);
    long result = syscall(TL_PROBE_CALL);
    listening->result = result < 0 ? -errno : result;
}

// A signal between receipt and reply must not take the reply away.
static void probe_wait_killable(struct tl_probe_result *out)
{
    unsigned long flags = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

    if (!flags_known(out, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags))
        return;
    struct tl_listening *listening = tl_probe_listen(out, flags, call_with_handler);
    if (!listening)
        return;
    tl_probe_release(listening);
    uint64_t id = tl_probe_receive(listening, out);
    if (id) {
        kill(listening->task, SIGUSR1);
        int failed = tl_probe_reply(listening, id, VALUE, 0);
        tl_probe_wait(listening->task, 0);
        listening->task = 0;
        if (failed || listening->result != VALUE)
            tl_probe_missing(out, 0, "a handled signal cancelled a call that had been received");
        else
            tl_probe_works(out, "%s", "");
    }
    tl_probe_end(listening->task);
}

static int set_sync_wake_up(struct tl_listening *listening, struct tl_probe_result *out)
{
    // SECCOMP_IOCTL_NOTIF_SET_FLAGS, which takes SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP by value.
    if (!ioctl(listening->fd, _IOW('!', 4, uint64_t), 1UL))
        return 1;
    tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_SET_FLAGS)");
    return 0;
}

static void probe_sync_wake_up(struct tl_probe_result *out)
{
    round_trip(out, 0, set_sync_wake_up);
}

static void probe_continue(struct tl_probe_result *out)
{
    struct tl_listening *listening = tl_probe_listen(out, 0, NULL);

    if (!listening)
        return;
    tl_probe_release(listening);
    uint64_t id = tl_probe_receive(listening, out);
    if (id && tl_probe_reply(listening, id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)) {
        tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_SEND) with CONTINUE");
    } else if (id) {
        tl_probe_wait(listening->task, 0);
        listening->task = 0;
        if (listening->result == getpid())
            tl_probe_works(out, "%s", "");
        else
            tl_probe_missing(out, 0, "the caller got %ld instead of its own result", listening->result);
    }
    tl_probe_end(listening->task);
}

static void end_at_once(struct tl_listening *listening)
{
    (void)listening;
}

static void probe_poll_hup(struct tl_probe_result *out)
{
    struct tl_listening *listening = tl_probe_listen(out, 0, end_at_once);

    if (!listening)
        return;
    struct pollfd ready = {.fd = listening->fd, .events = POLLIN};
    tl_probe_release(listening);
    int count = poll(&ready, 1, 2000);
    tl_probe_end(listening->task);
    if (count == 1 && ready.revents & POLLHUP)
        tl_probe_works(out, "%s", "");
    else
        tl_probe_missing(out, 0, "poll did not report the end of the last task");
}

static void probe_receive_wakes(struct tl_probe_result *out)
{
    struct sigaction action = {.sa_handler = count_signal}; // no SA_RESTART
    struct itimerval patience = {.it_value = {.tv_sec = 1}};
    struct seccomp_notif room[8] = {0};
    struct tl_listening *listening = tl_probe_listen(out, 0, end_at_once);

    if (!listening)
        return;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &patience, NULL);
    tl_probe_release(listening);
    int failed = ioctl(listening->fd, SECCOMP_IOCTL_NOTIF_RECV, room);
    int code = errno;
    tl_probe_end(listening->task);
    if (failed && code == EINTR)
        tl_probe_missing(out, code, "a blocking receive sleeps on when the last task is gone");
    else
        tl_probe_works(out, "%s", "");
}

const struct tl_probe tl_probes_notify[] = {
    {"notify_listener", probe_listener},
    {"notify_listener_free", probe_listener_free},
    {"notify_sizes", probe_sizes},
    {"notify_continue", probe_continue},
    {"notify_tsync_esrch", probe_tsync},
    {"notify_wait_killable", probe_wait_killable},
    {"notify_sync_wake_up", probe_sync_wake_up},
    {"notify_poll_hup", probe_poll_hup},
    {"notify_receive_wakes", probe_receive_wakes},
    {NULL, NULL},
};
