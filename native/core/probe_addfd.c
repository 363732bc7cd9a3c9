// Giving a notified caller a file: what reply_fd stands on.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_listener.h"

#define MARK 0x5a
#define SEEN 1000000 // no descriptor

// Succeeds when the call answers with a descriptor that MARK can be read from.
static void read_given_file(struct tl_listening *listening)
{
    unsigned char byte = 0;
    long fd = syscall(TL_PROBE_CALL);

    if (fd < 0)
        listening->result = -errno;
    else
        listening->result = read((int)fd, &byte, 1) == 1 && byte == MARK ? SEEN : fd;
}

// A file that holds MARK, or -1.
static int marked_file(struct tl_probe_result *out)
{
    unsigned char byte = MARK;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) || write(ends[1], &byte, 1) != 1) {
        tl_probe_untested(out, errno, "no file to give");
        return -1;
    }
    // The table is shared, so a number that a broken reply may hand out must not be ours by chance.
    int file = fcntl(ends[0], F_DUPFD_CLOEXEC, 50);
    close(ends[0]);
    if (file < 0)
        tl_probe_untested(out, errno, "no file to give");
    return file;
}

static int give(struct tl_listening *listening, uint64_t id, int file, uint32_t flags)
{
    struct seccomp_notif_addfd addfd = {.id = id, .srcfd = (uint32_t)file, .flags = flags};

    return ioctl(listening->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd);
}

static void finish(struct tl_listening *listening, struct tl_probe_result *out)
{
    tl_probe_wait(listening->task, 0);
    listening->task = 0;
    if (listening->result == SEEN)
        tl_probe_works(out, "%s", "");
    else
        tl_probe_missing(out, 0, "the caller got %ld instead of the file", listening->result);
}

static void probe_addfd(struct tl_probe_result *out)
{
    int file = marked_file(out);
    struct tl_listening *listening = file < 0 ? NULL : tl_probe_listen(out, 0, read_given_file);

    if (!listening)
        return;
    tl_probe_release(listening);
    uint64_t id = tl_probe_receive(listening, out);
    if (id) {
        int given = give(listening, id, file, 0);
        if (given < 0)
            tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_ADDFD)");
        else if (tl_probe_reply(listening, id, given, 0))
            tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_SEND)");
        else
            finish(listening, out);
    }
    tl_probe_end(listening->task);
}

static void probe_addfd_send(struct tl_probe_result *out)
{
    int file = marked_file(out);
    struct tl_listening *listening = file < 0 ? NULL : tl_probe_listen(out, 0, read_given_file);

    if (!listening)
        return;
    tl_probe_release(listening);
    uint64_t id = tl_probe_receive(listening, out);
    if (id && give(listening, id, file, SECCOMP_ADDFD_FLAG_SEND) < 0)
        tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_ADDFD) with SECCOMP_ADDFD_FLAG_SEND");
    else if (id)
        finish(listening, out);
    tl_probe_end(listening->task);
}

// The retry. The supervisor must be interrupted after it has handed the file over and before the caller has
// taken it. That gap is a few microseconds wide, unless the caller cannot run:
//
//   prober   ioctl(ADDFD|SEND) ....asleep.... EINTR, ioctl again
//   caller   SCHED_IDLE, on the same CPU as
//   jammers  spin at normal priority and send the prober signals while it is asleep
//
// There are three, since the scheduler would let the caller have its turn when one has had more than its
// share.
enum { JAMMERS = 3 };

struct jam {
    atomic_int ready;  // how many jammers have had the CPU
    volatile int on;   // the prober is in, or about to enter, the ioctl
    volatile int over; // enough
    pid_t prober;
    int cpu;
};

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int jammer(void *argument)
{
    struct jam *jam = argument;

    pin(jam->cpu);
    jam->ready++;
    while (!jam->over) {
        if (jam->on)
            kill(jam->prober, SIGUSR1);
        for (volatile int wait = 0; wait < 2000; wait++)
            ;
    }
    return 0;
}

static void ignore_signal(int number)
{
    (void)number;
}

static void call_when_idle(struct tl_listening *listening)
{
    struct sched_param nothing = {0};

    sched_setscheduler(0, SCHED_IDLE, &nothing);
    read_given_file(listening);
}

static void retry(struct tl_listening *listening, struct jam *jam, uint64_t id, int file,
                  struct tl_probe_result *out)
{
    struct sigaction action = {.sa_handler = ignore_signal}; // no SA_RESTART
    int given, code;

    sigaction(SIGUSR1, &action, NULL);
    pid_t noise[JAMMERS];
    int started = 0;
    for (int index = 0; index < JAMMERS; index++)
        started += (noise[index] = tl_probe_spawn(jammer, jam, 0)) > 0;
    while (jam->ready < started)
        sched_yield();
    jam->on = 1;
    given = give(listening, id, file, SECCOMP_ADDFD_FLAG_SEND);
    code = errno;
    jam->on = 0;
    jam->over = 1;
    for (int index = 0; index < JAMMERS; index++)
        tl_probe_end(noise[index]);
    if (given >= 0) {
        tl_probe_untested(out, 0, "no signal met the call while it waited");
        return;
    }
    if (code != EINTR) {
        errno = code;
        tl_probe_refused(out, "ioctl(SECCOMP_IOCTL_NOTIF_ADDFD) with SECCOMP_ADDFD_FLAG_SEND");
        return;
    }
    if (give(listening, id, file, SECCOMP_ADDFD_FLAG_SEND) >= 0) {
        finish(listening, out);
        return;
    }
    code = errno;
    tl_probe_wait(listening->task, 0);
    listening->task = 0;
    tl_probe_missing(out, code,
                     "after a signal the same request fails with %s, and the caller got %ld, not the file",
                     strerrorname_np(code), listening->result);
}

static void probe_addfd_send_retry(struct tl_probe_result *out)
{
    int file = marked_file(out);
    struct jam *jam = tl_probe_shared(sizeof *jam);
    cpu_set_t set;

    if (file < 0)
        return;
    if (!jam || sched_getaffinity(0, sizeof set, &set)) {
        tl_probe_untested(out, errno, "no memory, or no CPU set, to try it with");
        return;
    }
    int last = CPU_SETSIZE - 1;
    while (last > 0 && !CPU_ISSET(last, &set))
        last--;
    jam->cpu = last;
    jam->prober = getpid();
    struct tl_listening *listening;
    for (int attempt = 0; attempt < 5; attempt++) {
        // The caller inherits this CPU; the prober is better off on another.
        pin(last);
        listening = tl_probe_listen(out, 0, call_when_idle);
        sched_setaffinity(0, sizeof set, &set);
        if (!listening)
            return;
        tl_probe_release(listening);
        uint64_t id = tl_probe_receive(listening, out);
        if (id) {
            jam->ready = jam->over = 0;
            retry(listening, jam, id, file, out);
        }
        tl_probe_end(listening->task);
        if (!id || out->state != TL_PROBE_UNTESTED)
            return;
        // The file was taken after all; the next attempt needs another mark in it.
        close(file);
        file = marked_file(out);
        if (file < 0)
            return;
        tl_probe_untested(out, 0, "no signal met the call while it waited");
    }
}

const struct tl_probe tl_probes_addfd[] = {
    {"notify_addfd", probe_addfd},
    {"notify_addfd_send", probe_addfd_send},
    {"notify_addfd_send_retry", probe_addfd_send_retry},
    {NULL, NULL},
};
