// How a command comes under a filter whose listener we hold:
//
//   supervisor              child (leader)                       child (courier thread)
//   ----------              --------------                       ----------------------
//   clone(CLONE_VM)  -----> stdio, cwd, signals
//                           clone(CLONE_THREAD) ---------------> waits for the listener's number
//                           seccomp(NEW_LISTENER): filtered now
//   recvmsg <--------------------------------------------------- SCM_RIGHTS, closes the child's copy, ends
//                           execve, the first call a hook may see
//
// The courier was never filtered, so nothing that hands the listener over can wait for an answer that nobody
// gives yet, and no filtered task ever holds the listener: if the supervisor dies, the kernel answers ENOSYS
// at once. The leader cannot make a call to wait for the courier (each might be hooked), so it spins for
// those few microseconds. A child that is held needs no courier: it says on the channel that it is ready,
// waits there to be released, and installs its filter then. The child shares our memory until execve, as
// after vfork: it calls no libc function that may touch errno, TLS or a lock.

#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rawcall.h"
#include "seccomp_abi.h"

enum { stack_size = 64 * 1024, listener_pending = -100000 };

// The step at which the child failed, for the message.
enum step { step_none, step_cwd, step_stdio, step_courier, step_seccomp, step_send, step_exec };

struct tl_spawn {
    const struct tl_spawn_options *options;
    pid_t pid;
    int pidfd;
    int channel;       // our end; end of file means that execve happened or the child is gone
    int child_channel; // the child's end; the child reads it at any time, so it never changes
    bool child_channel_open;
    bool waits_killable;
    bool no_new_privs;
    sigset_t mask; // to be in force at execve
    // Written by the child, in the memory that it shares with us.
    _Atomic(int) listener;
    _Atomic(int) handed_over;
    _Atomic(int) failed_step;
    _Atomic(int) failed_errno;
    char *stacks;
};

#define raw(nr, a, b, c, d, e) tl_rawcall((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

// When the supervisor has died, a hooked exit_group is refused with ENOSYS like every hooked call.
static _Noreturn void child_end(void)
{
    raw(SYS_exit_group, 127, 0, 0, 0, 0);
    __builtin_trap();
}

static _Noreturn void child_fail(struct tl_spawn *spawn, enum step step, long error)
{
    atomic_store(&spawn->failed_errno, (int)-error);
    atomic_store(&spawn->failed_step, step);
    child_end();
}

// CLONE_VM without CLONE_SIGHAND copied the supervisor's handlers: they must never run in the child. SIGPIPE
// and SIGXFSZ are ignored by Python itself, not by whoever started us.
static void child_reset_signals(void)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action, none = {0};

    for (int number = 1; number < 65; number++) {
        if (number == SIGKILL || number == SIGSTOP)
            continue;
        if (raw(SYS_rt_sigaction, number, NULL, &action, 8, 0) < 0)
            continue;
        bool ignored = action.handler == SIG_IGN && number != SIGPIPE && number != SIGXFSZ;
        if (action.handler != SIG_DFL && !ignored)
            raw(SYS_rt_sigaction, number, &none, NULL, 8, 0);
    }
}

static void child_place_stdio(struct tl_spawn *spawn)
{
    const int *stdio = spawn->options->stdio;

    for (int number = 0; number < 3; number++) {
        long result;
        if (stdio[number] < 0)
            continue;
        // The binding moved every source fd above 2, so that no dup3 closes one that is still wanted.
        result = raw(SYS_dup3, stdio[number], number, 0, 0, 0);
        if (result < 0)
            child_fail(spawn, step_stdio, result);
    }
}

// Their numbers may be beyond the limit.
static void child_place_passed(struct tl_spawn *spawn)
{
    const int *pass = spawn->options->pass, *pass_as = spawn->options->pass_as;
    struct {
        uint64_t soft, hard;
    } limit, more;

    raw(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit, 0);
    more = limit;
    for (int i = 0; i < 2; i++)
        if (pass[i] >= 0 && (uint64_t)pass_as[i] >= more.soft)
            more.soft = (uint64_t)pass_as[i] + 1;
    if (more.hard < more.soft)
        more.hard = more.soft;
    if (more.soft != limit.soft)
        raw(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, NULL, 0);
    for (int i = 0; i < 2; i++) {
        long result = pass[i] < 0 ? 0 : raw(SYS_dup3, pass[i], pass_as[i], 0, 0, 0);
        if (result < 0)
            child_fail(spawn, step_stdio, result);
    }
    if (more.soft != limit.soft)
        raw(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL, 0);
}

static int courier(void *argument)
{
    struct tl_spawn *spawn = argument;
    int listener;
    char byte = 0;
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};

    while ((listener = atomic_load(&spawn->listener)) == listener_pending)
        raw(SYS_sched_yield, 0, 0, 0, 0, 0);
    if (listener >= 0) {
        struct iovec iov = {&byte, 1};
        struct msghdr message = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control.buffer,
            .msg_controllen = sizeof control.buffer,
        };
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        *(int *)(void *)CMSG_DATA(&control.align) = listener;
        long result = raw(SYS_sendmsg, spawn->child_channel, &message, MSG_NOSIGNAL, 0, 0);
        raw(SYS_close, listener, 0, 0, 0, 0);
        if (result < 0)
            child_fail(spawn, step_send, result);
        atomic_store(&spawn->handed_over, 1);
    }
    raw(SYS_exit, 0, 0, 0, 0, 0);
    __builtin_trap();
}

static void child_install_filter(struct tl_spawn *spawn)
{
    struct sock_fprog program = {spawn->options->filter_length, (struct sock_filter *)spawn->options->filter};
    unsigned long flags =
        spawn->options->hold ? 0 : SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    long result;

    for (;;) {
        result = raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program, 0, 0);
        if (result == -EINVAL && flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
            flags &= ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        } else if (result == -EACCES && !spawn->no_new_privs) {
            // Without CAP_SYS_ADMIN a filter needs no_new_privs; with it, set-user-ID programs keep working.
            raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            spawn->no_new_privs = true;
        } else {
            break;
        }
    }
    spawn->waits_killable = flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    if (result < 0) {
        atomic_store(&spawn->failed_errno, (int)-result);
        atomic_store(&spawn->failed_step, step_seccomp);
    }
    atomic_store(&spawn->listener, (int)result);
}

// Until it is released. End of file: the supervisor has died.
static void child_wait(struct tl_spawn *spawn)
{
    char byte = 0;
    long result;

    raw(SYS_write, spawn->child_channel, &byte, 1, 0, 0);
    do
        result = raw(SYS_read, spawn->child_channel, &byte, 1, 0, 0);
    while (result == -EINTR);
    if (result != 1)
        child_end();
}

static int leader(void *argument)
{
    struct tl_spawn *spawn = argument;
    const struct tl_spawn_options *options = spawn->options;
    const int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    long result;

    child_reset_signals();
    // In the child's own table: a copy of the supervisor's end would keep the listener alive, in its queue,
    // after the supervisor's death.
    raw(SYS_close, spawn->channel, 0, 0, 0, 0);
    if (options->cwd && (result = raw(SYS_chdir, options->cwd, 0, 0, 0, 0)) < 0)
        child_fail(spawn, step_cwd, result);
    child_place_stdio(spawn);
    child_place_passed(spawn);
    if (options->hold)
        child_wait(spawn);
    // glibc's clone() touches errno only when it fails, and then this child is over anyway.
    else if (clone(courier, spawn->stacks + 2 * stack_size, thread, spawn) < 0)
        child_fail(spawn, step_courier, -EAGAIN);
    raw(SYS_rt_sigprocmask, SIG_SETMASK, &spawn->mask, NULL, 8, 0);
    if (options->filter) {
        child_install_filter(spawn);
        if (atomic_load(&spawn->listener) < 0)
            child_end();
    }
    while (!options->hold && !atomic_load(&spawn->handed_over))
        tl_cpu_relax();
    result = raw(SYS_execve, options->path, options->argv, options->envp, 0, 0);
    child_fail(spawn, step_exec, result);
}

static struct tl_error *explain(const struct tl_spawn *spawn)
{
    int error = atomic_load(&spawn->failed_errno);

    switch ((enum step)atomic_load(&spawn->failed_step)) {
    case step_cwd:
        return tl_error_new(error, "cannot start in directory '%s'", spawn->options->cwd);
    case step_stdio:
        return tl_error_new(error, "cannot set up standard input and output");
    case step_courier:
        return tl_error_new(error, "cannot start the thread that hands over the listener");
    case step_seccomp:
        return tl_error_new(error, "seccomp(SECCOMP_SET_MODE_FILTER)");
    case step_send:
        return tl_error_new(error, "cannot send the listener to the supervisor");
    case step_exec:
        return tl_error_new(error, "cannot execute '%s'", spawn->options->path);
    case step_none:
        break;
    }
    return tl_error_new(0, "the child ended before it could be filtered");
}

static int receive_listener(int channel)
{
    char byte;
    struct iovec iov = {&byte, 1};
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buffer,
        .msg_controllen = sizeof control.buffer,
    };
    ssize_t got;

    do
        got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    return *(int *)(void *)CMSG_DATA(header);
}

static bool receive_ready(int channel)
{
    char byte;
    ssize_t got;

    do
        got = read(channel, &byte, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

static struct tl_error *open_channel(struct tl_spawn *spawn)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return tl_error_new(errno, "socketpair");
    spawn->channel = pair[0];
    // Above standard error, so that the child's dup3 cannot hit it.
    spawn->child_channel = fcntl(pair[1], F_DUPFD_CLOEXEC, 3);
    int error = errno;
    close(pair[1]);
    if (spawn->child_channel < 0)
        return tl_error_new(error, "fcntl(F_DUPFD_CLOEXEC)");
    spawn->child_channel_open = true;
    return NULL;
}

static struct tl_error *start_child(struct tl_spawn *spawn)
{
    sigset_t all, before;
    pid_t pid;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    spawn->mask = spawn->options->mask ? *spawn->options->mask : before;
    pid = clone(leader, spawn->stacks + stack_size, CLONE_VM | CLONE_PIDFD | SIGCHLD, spawn, &spawn->pidfd);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return tl_error_new(error, "cannot create a process: clone");
    spawn->pid = pid;
    return NULL;
}

struct tl_error *tl_spawn_start(const struct tl_spawn_options *options, struct tl_spawn **out, int *listener)
{
    struct tl_spawn *spawn = calloc(1, sizeof *spawn);
    struct tl_error *error;

    if (!spawn)
        return tl_error_new(ENOMEM, "cannot start a program");
    spawn->options = options;
    spawn->channel = spawn->child_channel = spawn->pidfd = -1;
    spawn->listener = listener_pending;
    spawn->stacks = mmap(NULL, 2 * stack_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (spawn->stacks == MAP_FAILED) {
        spawn->stacks = NULL;
        error = tl_error_new(errno, "cannot allocate stacks for a child");
    } else {
        error = open_channel(spawn);
    }
    if (!error)
        error = start_child(spawn);
    if (error) {
        tl_spawn_free(spawn);
        return error;
    }
    close(spawn->child_channel);
    spawn->child_channel_open = false;
    *listener = options->hold ? -1 : receive_listener(spawn->channel);
    if (options->hold ? !receive_ready(spawn->channel) : *listener < 0) {
        int status = 0;
        waitpid(spawn->pid, &status, 0);
        error = WIFSIGNALED(status)
                    ? tl_error_new(EINTR, "signal %d ended the child before it could be filtered",
                                   WTERMSIG(status))
                    : explain(spawn);
        tl_spawn_free(spawn);
        return error;
    }
    *out = spawn;
    return NULL;
}

void tl_spawn_release(struct tl_spawn *spawn)
{
    char byte = 0;

    // A child that is dead already is found out by its end.
    send(spawn->channel, &byte, 1, MSG_NOSIGNAL);
}

int tl_spawn_filter_error(const struct tl_spawn *spawn)
{
    return atomic_load(&spawn->failed_step) == step_seccomp ? atomic_load(&spawn->failed_errno) : 0;
}

pid_t tl_spawn_pid(const struct tl_spawn *spawn)
{
    return spawn->pid;
}

int tl_spawn_pidfd(const struct tl_spawn *spawn)
{
    return spawn->pidfd;
}

bool tl_spawn_waits_killable(const struct tl_spawn *spawn)
{
    return spawn->waits_killable;
}

bool tl_spawn_no_new_privs(const struct tl_spawn *spawn)
{
    return spawn->no_new_privs;
}

int tl_spawn_channel(const struct tl_spawn *spawn)
{
    return spawn->channel;
}

int tl_spawn_exec_error(const struct tl_spawn *spawn)
{
    return atomic_load(&spawn->failed_step) ? atomic_load(&spawn->failed_errno) : 0;
}

void tl_spawn_free(struct tl_spawn *spawn)
{
    if (!spawn)
        return;
    if (spawn->channel >= 0)
        close(spawn->channel);
    if (spawn->child_channel_open)
        close(spawn->child_channel);
    if (spawn->pidfd >= 0)
        close(spawn->pidfd);
    if (spawn->stacks)
        munmap(spawn->stacks, 2 * stack_size);
    free(spawn);
}
