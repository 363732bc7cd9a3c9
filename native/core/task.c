#include "task.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t tl_task_process(pid_t tid)
{
    char text[4096];

    // Most callers are the only thread of their process, and pidfd_open takes thread group leaders only.
    int pidfd = (int)syscall(SYS_pidfd_open, tid, 0);
    if (pidfd >= 0) {
        close(pidfd);
        return tid;
    }
    snprintf(text, sizeof text, "/proc/%d/status", tid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *line = strstr(text, "\nTgid:");
    return line ? atoi(line + 6) : 0;
}

char tl_task_state(pid_t tid)
{
    char text[256];

    snprintf(text, sizeof text, "/proc/%d/stat", tid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *behind_name = strrchr(text, ')');
    return behind_name && behind_name[1] ? behind_name[2] : 0;
}
