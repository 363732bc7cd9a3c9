#include "task.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// A short file below /proc; false when its task is gone.
static bool read_file(pid_t tid, const char *name, char *text, size_t size)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

pid_t tl_task_process(pid_t tid)
{
    char text[4096];

    // Most callers are the only thread of their process, and pidfd_open takes thread group leaders only.
    int pidfd = (int)syscall(SYS_pidfd_open, tid, 0);
    if (pidfd >= 0) {
        close(pidfd);
        return tid;
    }
    const char *line = read_file(tid, "status", text, sizeof text) ? strstr(text, "\nTgid:") : NULL;
    return line ? atoi(line + 6) : 0;
}

char tl_task_state(pid_t tid)
{
    char text[256];
    const char *behind_name = read_file(tid, "stat", text, sizeof text) ? strrchr(text, ')') : NULL;

    return behind_name && behind_name[1] ? behind_name[2] : 0;
}
