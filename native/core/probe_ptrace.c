// ptrace: what the `ptrace` engine, attaching and the entry of the agent stand on.
#include <errno.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_child.h"

// Newer than the headers that we may be built with.
enum {
    SET_SUD_CONFIG = 0x4210,   // PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG
    GET_SUD_CONFIG = 0x4211,   // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
    SET_SYSCALL_INFO = 0x4212, // PTRACE_SET_SYSCALL_INFO
};

// glibc's ptrace() is variadic and wants an enum; <sys/ptrace.h> does not mix with <linux/ptrace.h>.
static long trace(long request, pid_t pid, unsigned long address, void *data)
{
    return syscall(__NR_ptrace, request, (long)pid, address, data);
}

static int ask_to_be_traced(void *argument)
{
    (void)argument;
    if (trace(PTRACE_TRACEME, 0, 0, NULL))
        return errno;
    kill(getpid(), SIGSTOP);
    return 0;
}

static void probe_traceme(struct tl_probe_result *out)
{
    pid_t child = tl_probe_spawn(ask_to_be_traced, NULL, 0);

    if (child < 0) {
        tl_probe_untested(out, errno, "no process to try it in");
        return;
    }
    int status = tl_probe_wait(child, 0);
    if (status >= 0 && WIFSTOPPED(status)) {
        if (trace(PTRACE_CONT, child, 0, NULL))
            tl_probe_refused(out, "ptrace(PTRACE_CONT)");
        else
            tl_probe_works(out, "%s", "");
        tl_probe_end(child);
    } else if (status >= 0 && WIFEXITED(status)) {
        errno = WEXITSTATUS(status);
        tl_probe_refused(out, "ptrace(PTRACE_TRACEME)");
    } else {
        tl_probe_died(out, status, "a process that asked to be traced");
    }
}

// A child that is seized and stopped, or 0 with OUT filled in.
static pid_t stopped_child(struct tl_probe_result *out)
{
    pid_t child = tl_probe_spawn(tl_probe_pause, NULL, 0);

    if (child < 0) {
        tl_probe_untested(out, errno, "no process to try it on");
        return 0;
    }
    if (trace(PTRACE_SEIZE, child, 0, NULL)) {
        tl_probe_refused(out, "ptrace(PTRACE_SEIZE)");
    } else if (trace(PTRACE_INTERRUPT, child, 0, NULL)) {
        tl_probe_refused(out, "ptrace(PTRACE_INTERRUPT)");
    } else {
        int status = tl_probe_wait(child, 0);
        if (status >= 0 && WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP)
            return child;
        tl_probe_died(out, status, "a child that was seized");
    }
    tl_probe_end(child);
    return 0;
}

static void probe_seize(struct tl_probe_result *out)
{
    pid_t child = stopped_child(out);

    if (!child)
        return;
    if (trace(PTRACE_DETACH, child, 0, NULL))
        tl_probe_refused(out, "ptrace(PTRACE_DETACH)");
    else
        tl_probe_works(out, "%s", "");
    tl_probe_end(child);
}

// Is there a way to a process that is not a descendant? Yama's ptrace_scope decides, or a capability.
static int seize_sibling(void *argument)
{
    return trace(PTRACE_SEIZE, *(pid_t *)argument, 0, NULL) ? errno : 0;
}

static void probe_attach(struct tl_probe_result *out)
{
    char scope[16] = "absent";
    pid_t target = tl_probe_spawn(tl_probe_pause, NULL, 0);
    pid_t tracer = tl_probe_spawn(seize_sibling, &target, 0);

    if (target < 0 || tracer < 0) {
        tl_probe_untested(out, errno, "no processes to try it with");
    } else {
        int status = tl_probe_wait(tracer, 0);
        if (tl_probe_read_file("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof scope) > 0)
            scope[1] = '\0';
        if (status < 0 || !WIFEXITED(status)) {
            tl_probe_died(out, status, "a process that attached to its sibling");
        } else if (WEXITSTATUS(status)) {
            errno = WEXITSTATUS(status);
            tl_probe_missing(out, errno,
                             "ptrace(PTRACE_SEIZE) of a sibling failed with %s; Yama's ptrace_scope is %s",
                             strerrorname_np(errno), scope);
        } else {
            tl_probe_works(out, "Yama's ptrace_scope is %s", scope);
        }
    }
    tl_probe_end(target);
}

struct traced {
    int go[2]; // the subject waits for a byte
    volatile long result;
};

static int call_under_trace(void *argument)
{
    struct traced *traced = argument;
    char byte;

    if (tl_probe_filter(SECCOMP_RET_TRACE, 0))
        return errno;
    if (read(traced->go[0], &byte, 1) != 1)
        return EIO;
    traced->result = syscall(TL_PROBE_CALL);
    return 0;
}

// A child in the seccomp stop before TL_PROBE_CALL, or 0 with OUT filled in.
static pid_t child_before_call(struct traced *traced, struct tl_probe_result *out)
{
    pid_t child;

    if (pipe(traced->go) || (child = tl_probe_spawn(call_under_trace, traced, 0)) < 0) {
        tl_probe_untested(out, errno, "no process to try it on");
        return 0;
    }
    if (trace(PTRACE_SEIZE, child, 0, (void *)PTRACE_O_TRACESECCOMP)) {
        tl_probe_refused(out, "ptrace(PTRACE_SEIZE)");
    } else if (write(traced->go[1], "", 1) == 1) {
        int status = tl_probe_wait(child, 0);
        if (status >= 0 && status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
            return child;
        if (status >= 0 && WIFEXITED(status)) {
            tl_probe_missing(out, WEXITSTATUS(status), "the child was not stopped before its call");
            return 0;
        }
        tl_probe_died(out, status, "a traced child");
        if (status >= 0 && WIFSIGNALED(status))
            return 0;
    }
    tl_probe_end(child);
    return 0;
}

static struct traced *traced_memory(struct tl_probe_result *out)
{
    struct traced *traced = tl_probe_shared(sizeof *traced);

    if (!traced)
        tl_probe_untested(out, errno, "no memory to try it with");
    return traced;
}

static void probe_seccomp_stop(struct tl_probe_result *out)
{
    struct traced *traced = traced_memory(out);
    pid_t child = traced ? child_before_call(traced, out) : 0;

    if (!child)
        return;
    tl_probe_works(out, "%s", "");
    tl_probe_end(child);
}

static int read_info(pid_t child, struct ptrace_syscall_info *information, struct tl_probe_result *out)
{
    if (trace(PTRACE_GET_SYSCALL_INFO, child, sizeof *information, information) < 0)
        tl_probe_refused(out, "ptrace(PTRACE_GET_SYSCALL_INFO)");
    else if (information->op != PTRACE_SYSCALL_INFO_SECCOMP || information->seccomp.nr != TL_PROBE_CALL)
        tl_probe_missing(out, 0, "ptrace(PTRACE_GET_SYSCALL_INFO) described another call");
    else
        return 1;
    return 0;
}

static void probe_get_info(struct tl_probe_result *out)
{
    struct ptrace_syscall_info information = {0};
    struct traced *traced = traced_memory(out);
    pid_t child = traced ? child_before_call(traced, out) : 0;

    if (!child)
        return;
    if (read_info(child, &information, out))
        tl_probe_works(out, "%s", "");
    tl_probe_end(child);
}

static void probe_set_info(struct tl_probe_result *out)
{
    struct ptrace_syscall_info information = {0};
    struct traced *traced = traced_memory(out);
    pid_t child = traced ? child_before_call(traced, out) : 0;

    if (!child)
        return;
    if (read_info(child, &information, out)) {
        information.seccomp.nr = __NR_getpid;
        if (trace(SET_SYSCALL_INFO, child, sizeof information, &information)) {
            tl_probe_refused(out, "ptrace(PTRACE_SET_SYSCALL_INFO)");
        } else {
            trace(PTRACE_CONT, child, 0, NULL);
            tl_probe_wait(child, 0);
            if (traced->result == child)
                tl_probe_works(out, "%s", "");
            else
                tl_probe_missing(out, 0, "ptrace(PTRACE_SET_SYSCALL_INFO) did not change the call");
            return;
        }
    }
    tl_probe_end(child);
}

static void probe_sud_config(struct tl_probe_result *out)
{
    // struct ptrace_sud_config
    struct {
        uint64_t mode, selector, offset, length;
    } config = {1, 0, 0x1000, 0x1000}, seen = {0};
    pid_t child = stopped_child(out);

    if (!child)
        return;
    if (trace(SET_SUD_CONFIG, child, sizeof config, &config))
        tl_probe_refused(out, "ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG)");
    else if (trace(GET_SUD_CONFIG, child, sizeof seen, &seen))
        tl_probe_refused(out, "ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG)");
    else if (seen.mode != 1 || seen.offset != config.offset || seen.length != config.length)
        tl_probe_missing(out, 0, "the configuration that was set did not stay");
    else
        tl_probe_works(out, "%s", "");
    tl_probe_end(child);
}

const struct tl_probe tl_probes_ptrace[] = {
    {"ptrace_traceme", probe_traceme},
    {"ptrace_seize", probe_seize},
    {"ptrace_seccomp_stop", probe_seccomp_stop},
    {"ptrace_get_syscall_info", probe_get_info},
    {"ptrace_set_syscall_info", probe_set_info},
    {"ptrace_sud_config", probe_sud_config},
    {"ptrace_attach", probe_attach},
    {NULL, NULL},
};
