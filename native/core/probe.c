#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe_child.h"

static const struct tl_probe *const families[] = {
    tl_probes_sud,     tl_probes_seccomp, tl_probes_notify, tl_probes_addfd,   tl_probes_ptrace,
    tl_probes_process, tl_probes_memory,  tl_probes_host,   tl_probes_machine,
};

const char *tl_probe_name(size_t index)
{
    for (size_t family = 0; family < sizeof families / sizeof *families; family++)
        for (const struct tl_probe *probe = families[family]; probe->name; probe++)
            if (index-- == 0)
                return probe->name;
    return NULL;
}

static tl_probe_function *function_called(const char *name)
{
    for (const struct tl_probe *probe = tl_probes_self_test; probe->name; probe++)
        if (!strcmp(probe->name, name))
            return probe->run;
    for (size_t family = 0; family < sizeof families / sizeof *families; family++)
        for (const struct tl_probe *probe = families[family]; probe->name; probe++)
            if (!strcmp(probe->name, name))
                return probe->run;
    return NULL;
}

_Noreturn static void run_in_child(tl_probe_function *function, int pipe_end)
{
    struct pollfd caller = {.fd = pipe_end};
    struct tl_probe_result result = {.state = TL_PROBE_UNTESTED, .detail = "the probe gave no answer"};
    struct sigaction plain = {.sa_handler = SIG_DFL};
    struct rlimit core;
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Nobody who reads: the caller has died before that. Not getppid(), which somebody may answer with a lie.
    if (poll(&caller, 1, 0) == 1 && (caller.revents & POLLERR))
        _exit(125);
    setpgid(0, 0);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    // A limit of 0 still starts a handler that core_pattern pipes to; 1 stops that as well.
    if (!getrlimit(RLIMIT_CORE, &core)) {
        core.rlim_cur = core.rlim_max = core.rlim_max ? 1 : 0;
        setrlimit(RLIMIT_CORE, &core);
    }
    function(&result);
    // A pipe takes this in one piece.
    _exit(write(pipe_end, &result, sizeof result) != sizeof result);
}

static int64_t milliseconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Waits for an answer, the child's end or the deadline. True when RESULT is complete.
static bool await_answer(int pipe_end, int pidfd, int timeout_ms, struct tl_probe_result *result,
                         bool *timed_out)
{
    int64_t deadline = milliseconds_now() + timeout_ms;
    // Without pidfd_open, -1 is passed over by poll and the pipe's hang-up has to do.
    struct pollfd ends[] = {{.fd = pipe_end, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

    *timed_out = false;
    for (;;) {
        int64_t left = deadline - milliseconds_now();
        int ready = poll(ends, 2, left > 0 ? (int)left : 0);

        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0) {
            *timed_out = true;
            return false;
        }
        return read(pipe_end, result, sizeof *result) == (ssize_t)sizeof *result;
    }
}

// Ends the child and all that it started, and reaps what is ours. The child's wait status, -1 when it is
// lost.
static int sweep(pid_t child)
{
    int status;
    pid_t got;

    // The group's number cannot be anyone else's before the child is reaped.
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
    do
        got = waitpid(child, &status, __WALL);
    while (got < 0 && errno == EINTR);
    if (got != child)
        status = -1;
    // Where the caller is pid 1 or a subreaper, orphans of the child have become its own children.
    do
        got = waitpid(-child, NULL, __WALL);
    while (got > 0 || (got < 0 && errno == EINTR));
    return status;
}

struct tl_error *tl_probe_run(const char *name, int timeout_ms, struct tl_probe_result *out)
{
    tl_probe_function *function = function_called(name);
    int ends[2];
    sigset_t all, before;
    bool timed_out;

    if (!function)
        return tl_error_new(0, "there is no probe called '%s'", name);
    if (pipe2(ends, O_CLOEXEC))
        return tl_error_new(errno, "cannot make a pipe for probe '%s'", name);
    // Caught signals must not run the caller's handlers in the child.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    // Exit signal 0: no SIGCHLD for the caller, no reaping by its own waits, none by SIGCHLD being ignored.
    // Not fork(): its handlers would run the caller's code in the child.
    pid_t child = syscall(__NR_clone, 0, 0, 0, 0, 0);
    int code = errno;
    if (child == 0) {
        close(ends[0]);
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        run_in_child(function, ends[1]);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return tl_error_new(code, "cannot start a process for probe '%s'", name);
    }

    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    int pidfd = (int)syscall(__NR_pidfd_open, child, 0);
    bool answered = await_answer(ends[0], pidfd, timeout_ms, out, &timed_out);
    int status = sweep(child);
    // The answer may have come between the poll and the end.
    if (!answered)
        answered = read(ends[0], out, sizeof *out) == (ssize_t)sizeof *out;
    if (pidfd >= 0)
        close(pidfd);
    close(ends[0]);
    if (answered)
        return NULL;
    if (timed_out)
        tl_probe_untested(out, ETIMEDOUT, "no answer within %d ms", timeout_ms);
    else
        tl_probe_died(out, status, "the attempt");
    return NULL;
}

// What the runner itself is tested with.

static void self_test_works(struct tl_probe_result *out)
{
    tl_probe_works(out, "it works");
}

static void self_test_missing(struct tl_probe_result *out)
{
    errno = ENOSYS;
    tl_probe_refused(out, "nothing");
}

static void self_test_crash(struct tl_probe_result *out)
{
    (void)out;
    kill(getpid(), SIGSEGV);
}

static void self_test_hang(struct tl_probe_result *out)
{
    (void)out;
    tl_probe_spawn(tl_probe_pause, NULL, 0);
    tl_probe_pause(NULL);
}

const struct tl_probe tl_probes_self_test[] = {
    {"self_test_works", self_test_works},
    {"self_test_missing", self_test_missing},
    {"self_test_crash", self_test_crash},
    {"self_test_hang", self_test_hang},
    {NULL, NULL},
};
