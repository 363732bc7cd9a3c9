// Reaching into and starting other processes.
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_child.h"

// Private to each process after the clone, at the same address in both.
static volatile char cell[8] = "before";

// A child to reach into, or -1 with OUT filled in.
static pid_t quiet_child(struct tl_probe_result *out)
{
    pid_t child = tl_probe_spawn(tl_probe_pause, NULL, 0);

    if (child < 0)
        tl_probe_untested(out, errno, "no process to try it on");
    return child;
}

static void probe_procfs(struct tl_probe_result *out)
{
    char text[32], expected[32];
    ssize_t length = readlink("/proc/self", text, sizeof text - 1);

    if (length < 0) {
        tl_probe_refused(out, "readlink(/proc/self)");
        return;
    }
    text[length] = '\0';
    snprintf(expected, sizeof expected, "%d", (int)getpid());
    if (!strcmp(text, expected))
        tl_probe_works(out, "%s", "");
    else
        tl_probe_missing(out, 0, "/proc is of another pid namespace: /proc/self is %s here, not %s", text,
                         expected);
}

static void probe_pidfd_open(struct tl_probe_result *out)
{
    pid_t child = quiet_child(out);

    if (child < 0)
        return;
    int fd = (int)syscall(__NR_pidfd_open, child, 0);
    struct pollfd end = {.fd = fd, .events = POLLIN};
    if (fd < 0)
        tl_probe_refused(out, "pidfd_open");
    else if (syscall(__NR_pidfd_send_signal, fd, SIGKILL, NULL, 0))
        tl_probe_refused(out, "pidfd_send_signal");
    else if (poll(&end, 1, 2000) != 1)
        tl_probe_missing(out, 0, "poll on a pidfd did not report the end of the process");
    else
        tl_probe_works(out, "%s", "");
    tl_probe_end(child);
}

static void probe_pidfd_getfd(struct tl_probe_result *out)
{
    char byte = 0;
    int ends[2];

    if (pipe(ends) || write(ends[1], "x", 1) != 1) {
        tl_probe_untested(out, errno, "no file to take");
        return;
    }
    pid_t child = quiet_child(out);
    if (child < 0)
        return;
    int pidfd = (int)syscall(__NR_pidfd_open, child, 0);
    if (pidfd < 0) {
        tl_probe_refused(out, "pidfd_open");
    } else {
        int copy = (int)syscall(__NR_pidfd_getfd, pidfd, ends[0], 0);
        if (copy < 0)
            tl_probe_refused(out, "pidfd_getfd");
        else if (read(copy, &byte, 1) != 1 || byte != 'x')
            tl_probe_missing(out, 0, "pidfd_getfd gave another file");
        else
            tl_probe_works(out, "%s", "");
    }
    tl_probe_end(child);
}

static void probe_process_vm(struct tl_probe_result *out)
{
    char buffer[sizeof cell] = "after";
    struct iovec here = {buffer, sizeof buffer}, there = {(void *)cell, sizeof cell};
    pid_t child = quiet_child(out);

    if (child < 0)
        return;
    if (process_vm_writev(child, &here, 1, &there, 1, 0) != sizeof buffer) {
        tl_probe_refused(out, "process_vm_writev");
    } else {
        memset(buffer, 0, sizeof buffer);
        if (process_vm_readv(child, &here, 1, &there, 1, 0) != sizeof buffer)
            tl_probe_refused(out, "process_vm_readv");
        else if (strcmp(buffer, "after") || strcmp((char *)cell, "before"))
            tl_probe_missing(out, 0, "what was read is not what was written");
        else
            tl_probe_works(out, "%s", "");
    }
    tl_probe_end(child);
}

static void probe_proc_mem(struct tl_probe_result *out)
{
    char buffer[sizeof cell] = "after", path[32];
    pid_t child = quiet_child(out);

    if (child < 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)child);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        tl_probe_refused(out, "open(/proc/PID/mem)");
    } else if (pwrite(fd, buffer, sizeof buffer, (off_t)(uintptr_t)cell) != sizeof buffer) {
        tl_probe_refused(out, "write(/proc/PID/mem)");
    } else {
        memset(buffer, 0, sizeof buffer);
        if (pread(fd, buffer, sizeof buffer, (off_t)(uintptr_t)cell) != sizeof buffer)
            tl_probe_refused(out, "read(/proc/PID/mem)");
        else if (strcmp(buffer, "after"))
            tl_probe_missing(out, 0, "what was read is not what was written");
        else
            tl_probe_works(out, "%s", "");
    }
    tl_probe_end(child);
}

static void probe_clone3(struct tl_probe_result *out)
{
    struct sigaction action = {.sa_handler = (void (*)(int))(uintptr_t)tl_probe_pause};
    struct clone_args arguments = {.flags = 0x100000000ULL /* CLONE_CLEAR_SIGHAND */, .exit_signal = SIGCHLD};

    sigaction(SIGUSR1, &action, NULL);
    pid_t child = (pid_t)syscall(__NR_clone3, &arguments, sizeof arguments);
    if (child < 0) {
        tl_probe_refused(out, "clone3(CLONE_CLEAR_SIGHAND)");
        return;
    }
    if (child == 0) {
        sigaction(SIGUSR1, NULL, &action);
        _exit(action.sa_handler == SIG_DFL ? 0 : 1);
    }
    int status = tl_probe_wait(child, 0);
    if (status == 0)
        tl_probe_works(out, "%s", "");
    else
        tl_probe_died(out, status, "a child of clone3(CLONE_CLEAR_SIGHAND)");
}

const struct tl_probe tl_probes_process[] = {
    {"procfs", probe_procfs},
    {"pidfd_open", probe_pidfd_open},
    {"pidfd_getfd", probe_pidfd_getfd},
    {"process_vm", probe_process_vm},
    {"proc_mem", probe_proc_mem},
    {"clone3_clear_sighand", probe_clone3},
    {NULL, NULL},
};
