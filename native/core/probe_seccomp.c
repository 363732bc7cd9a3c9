// seccomp filters and what they can answer.
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_child.h"

enum {
    ANSWER = EXDEV,     // an errno that getppid never has
    SECCOMP_CODE = 1,   // SYS_SECCOMP
    NOT_INSTALLED = 80, // exit statuses of subjects
    AS_EXPECTED = 81,
    OTHERWISE = 82,
};

static volatile sig_atomic_t trapped;

static void on_sigsys(int number, siginfo_t *information, void *context)
{
    (void)number;
    (void)context;
    trapped = information->si_code == SECCOMP_CODE && information->si_errno == ANSWER;
}

static int call_under(uint32_t action)
{
    struct sigaction catch = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    long result;
    int met = 0;

    if (tl_probe_filter(action, 0))
        return errno < NOT_INSTALLED ? errno : NOT_INSTALLED;
    if (action == (SECCOMP_RET_TRAP | ANSWER))
        sigaction(SIGSYS, &catch, NULL);
    errno = 0;
    result = syscall(TL_PROBE_CALL);
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_TRAP:
        met = trapped;
        break;
    case SECCOMP_RET_ERRNO:
        met = result == -1 && errno == ANSWER;
        break;
    case SECCOMP_RET_TRACE:      // nobody traces
    case SECCOMP_RET_USER_NOTIF: // nobody listens
        met = result == -1 && errno == ENOSYS;
        break;
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
        met = result > 0;
        break;
    default:
        break;
    }
    return met ? AS_EXPECTED : OTHERWISE;
}

static int subject(void *argument)
{
    return call_under(*(const uint32_t *)argument);
}

static int thread_that_calls(void *argument)
{
    (void)argument;
    tl_probe_stub(TL_PROBE_CALL);
    return 0;
}

// Only the thread that makes the call may die; its process goes on.
static int subject_with_thread(void *argument)
{
    static char stack[16384] __attribute__((aligned(16)));
    static volatile pid_t alive = 1;

    (void)argument;
    if (tl_probe_filter(SECCOMP_RET_KILL_THREAD, 0))
        return errno < NOT_INSTALLED ? errno : NOT_INSTALLED;
    // glibc's clone, not pthread_create, which allocates. CHILD_CLEARTID tells of the end.
    pid_t thread = clone(thread_that_calls, stack + sizeof stack,
                         CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                             CLONE_CHILD_CLEARTID,
                         NULL, NULL, NULL, &alive);
    if (thread < 0)
        return NOT_INSTALLED;
    while (alive)
        sched_yield();
    return AS_EXPECTED;
}

static void probe_action(struct tl_probe_result *out, uint32_t action, int (*body)(void *))
{
    uint32_t bare = action & SECCOMP_RET_ACTION_FULL;

    // Kernels before 4.14 lack the question (EINVAL), not the actions.
    if (syscall(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &bare) && errno != EINVAL) {
        tl_probe_refused(out, "seccomp(SECCOMP_GET_ACTION_AVAIL)");
        return;
    }
    pid_t child = tl_probe_spawn(body, &action, 0);
    if (child < 0) {
        tl_probe_untested(out, errno, "no process to try it in");
        return;
    }
    int status = tl_probe_wait(child, 0);
    int killed = status >= 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) < NOT_INSTALLED) {
        errno = WEXITSTATUS(status);
        tl_probe_refused(out, "seccomp(SECCOMP_SET_MODE_FILTER)");
    } else if (killed ? bare == SECCOMP_RET_KILL_PROCESS
                      : status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == AS_EXPECTED) {
        tl_probe_works(out, "%s", "");
    } else {
        tl_probe_died(out, status, "a process under such a filter");
    }
}

static void probe_kill_process(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_KILL_PROCESS, subject);
}

static void probe_kill_thread(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_KILL_THREAD, subject_with_thread);
}

static void probe_trap(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_TRAP | ANSWER, subject);
}

static void probe_errno(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_ERRNO | ANSWER, subject);
}

static void probe_user_notif(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_USER_NOTIF, subject);
}

static void probe_trace(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_TRACE, subject);
}

static void probe_log(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_LOG, subject);
}

static void probe_allow(struct tl_probe_result *out)
{
    probe_action(out, SECCOMP_RET_ALLOW, subject);
}

static void probe_filter(struct tl_probe_result *out)
{
    if (tl_probe_filter(SECCOMP_RET_ERRNO | ANSWER, 0))
        tl_probe_refused(out, "seccomp(SECCOMP_SET_MODE_FILTER)");
    else if (syscall(TL_PROBE_CALL) != -1 || errno != ANSWER)
        tl_probe_missing(out, 0, "a filter was accepted, yet it changes nothing");
    else
        tl_probe_works(out, "%s", "");
}

const struct tl_probe tl_probes_seccomp[] = {
    {"seccomp_filter", probe_filter},
    {"seccomp_kill_process", probe_kill_process},
    {"seccomp_kill_thread", probe_kill_thread},
    {"seccomp_trap", probe_trap},
    {"seccomp_errno", probe_errno},
    {"seccomp_user_notif", probe_user_notif},
    {"seccomp_trace", probe_trace},
    {"seccomp_log", probe_log},
    {"seccomp_allow", probe_allow},
    {NULL, NULL},
};
