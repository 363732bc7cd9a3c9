// What this place grants its processes, and the state that we were started in.
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_child.h"

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t length = (ssize_t)strlen(text);

    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, (size_t)length);
    int code = errno;
    close(fd);
    errno = code;
    return written == length ? 0 : -1;
}

static void probe_user_namespace(struct tl_probe_result *out)
{
    char map[64];
    uid_t owner = geteuid();
    char *text = map;

    if (unshare(CLONE_NEWUSER)) {
        tl_probe_refused(out, "unshare(CLONE_NEWUSER)");
        return;
    }
    snprintf(text, sizeof map, "0 %u 1", owner);
    if (write_file("/proc/self/uid_map", map)) {
        tl_probe_refused(out, "write to /proc/self/uid_map");
        return;
    }
    // Some systems let anyone make the namespace and then grant nothing inside it.
    if (unshare(CLONE_NEWNS)) {
        tl_probe_refused(out, "unshare(CLONE_NEWNS) inside a new user namespace");
        return;
    }
    tl_probe_works(out, owner ? "as uid %u" : "tried as uid %u, so it says nothing about other users", owner);
}

static void probe_no_new_privs(struct tl_probe_result *out)
{
    int value = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);

    if (value < 0)
        tl_probe_untested(out, errno, "prctl(PR_GET_NO_NEW_PRIVS) failed");
    else if (value)
        tl_probe_works(out, "%s", "");
    else
        tl_probe_missing(out, 0, "%s", "");
}

static long status_field(const char *status, const char *field)
{
    const char *line = strstr(status, field);

    return line ? strtol(line + strlen(field), NULL, 10) : -1;
}

static void probe_confined(struct tl_probe_result *out)
{
    static char status[8192];

    if (tl_probe_read_file("/proc/self/status", status, sizeof status) < 0) {
        tl_probe_untested(out, errno, "cannot read /proc/self/status");
        return;
    }
    long mode = status_field(status, "\nSeccomp:");
    long filters = status_field(status, "\nSeccomp_filters:");
    if (mode < 0)
        tl_probe_untested(out, 0, "/proc/self/status does not tell");
    else if (mode == 0)
        tl_probe_missing(out, 0, "%s", "");
    else if (filters < 0)
        tl_probe_works(out, "mode %ld", mode);
    else
        tl_probe_works(out, "mode %ld, %ld filter%s", mode, filters, filters == 1 ? "" : "s");
}

static void probe_traced(struct tl_probe_result *out)
{
    static char status[8192];

    if (tl_probe_read_file("/proc/self/status", status, sizeof status) < 0) {
        tl_probe_untested(out, errno, "cannot read /proc/self/status");
        return;
    }
    long tracer = status_field(status, "\nTracerPid:");
    if (tracer < 0)
        tl_probe_untested(out, 0, "/proc/self/status does not tell");
    else if (tracer)
        tl_probe_works(out, "by process %ld", tracer);
    else
        tl_probe_missing(out, 0, "%s", "");
}

static void probe_close_range(struct tl_probe_result *out)
{
    int fd = dup(0);

    if (fd < 0)
        fd = open("/", O_PATH | O_CLOEXEC);
    if (fd < 0) {
        tl_probe_untested(out, errno, "no file to close");
        return;
    }
    // The second flag is CLOSE_RANGE_CLOEXEC.
    if (syscall(__NR_close_range, fd, fd, 1U << 2))
        tl_probe_refused(out, "close_range(CLOSE_RANGE_CLOEXEC)");
    else if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
        tl_probe_missing(out, 0, "close_range(CLOSE_RANGE_CLOEXEC) set nothing");
    else if (syscall(__NR_close_range, fd, fd, 0) || fcntl(fd, F_GETFD) != -1)
        tl_probe_missing(out, 0, "close_range closed nothing");
    else
        tl_probe_works(out, "%s", "");
}

static void probe_openat2(struct tl_probe_result *out)
{
    // struct open_how: flags, mode, resolve; RESOLVE_IN_ROOT is 0x10.
    uint64_t how[3] = {O_PATH | O_CLOEXEC, 0, 0x10};

    if (syscall(__NR_openat2, AT_FDCWD, "/..", how, sizeof how) < 0)
        tl_probe_refused(out, "openat2(RESOLVE_IN_ROOT)");
    else
        tl_probe_works(out, "%s", "");
}

static void probe_io_uring(struct tl_probe_result *out)
{
    uint32_t parameters[30] = {0}; // struct io_uring_params
    long fd = syscall(__NR_io_uring_setup, 4, parameters);
    const char *name = strerrorname_np(errno);

    if (fd < 0)
        tl_probe_missing(out, errno, "io_uring_setup failed with %s", name ? name : "an unknown error");
    else
        tl_probe_works(out, "%s", "");
}

static void probe_tracefs(struct tl_probe_result *out)
{
    static const char *const formats[] = {
        "/sys/kernel/tracing/events/syscalls/sys_enter_openat/format",
        "/sys/kernel/debug/tracing/events/syscalls/sys_enter_openat/format",
    };
    int code = ENOENT;
    char text[64];

    for (size_t index = 0; index < sizeof formats / sizeof *formats; index++) {
        if (tl_probe_read_file(formats[index], text, sizeof text) > 0) {
            tl_probe_works(out, "%s", "");
            return;
        }
        // Any other reason says more than that one of the two is not mounted.
        if (errno != ENOENT)
            code = errno;
    }
    errno = code;
    tl_probe_refused(out, "open of tracefs' events/syscalls");
}

static void probe_perf_event(struct tl_probe_result *out)
{
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attributes,
        .config = PERF_COUNT_SW_TASK_CLOCK,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    char level[16] = "absent";

    if (tl_probe_read_file("/proc/sys/kernel/perf_event_paranoid", level, sizeof level) > 0)
        level[strcspn(level, "\n")] = '\0';
    if (syscall(__NR_perf_event_open, &attributes, 0, -1, -1, 8UL /* PERF_FLAG_FD_CLOEXEC */) < 0)
        tl_probe_missing(out, errno, "perf_event_open failed with %s; kernel.perf_event_paranoid is %s",
                         strerrorname_np(errno), level);
    else
        tl_probe_works(out, "kernel.perf_event_paranoid is %s", level);
}

static void probe_vdso(struct tl_probe_result *out)
{
    char source[32] = "unknown";

    if (tl_probe_read_file("/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
                           sizeof source) > 0)
        source[strcspn(source, "\n")] = '\0';
    if (getauxval(AT_SYSINFO_EHDR))
        tl_probe_works(out, "clock source %s", source);
    else
        tl_probe_missing(out, 0, "clock source %s", source);
}

const struct tl_probe tl_probes_host[] = {
    {"user_namespace", probe_user_namespace},
    {"close_range", probe_close_range},
    {"openat2", probe_openat2},
    {"tracefs", probe_tracefs},
    {"perf_event", probe_perf_event},
    {"no_new_privs", probe_no_new_privs},
    {"seccomp_confined", probe_confined},
    {"traced", probe_traced},
    {"io_uring", probe_io_uring},
    {"vdso", probe_vdso},
    {NULL, NULL},
};
