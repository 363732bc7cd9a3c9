#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int read_link(const char *link, char *out, size_t size)
{
    ssize_t length = readlink(link, out, size - 1);

    if (length < 0)
        return errno;
    out[length] = 0;
    return 0;
}

// The kernel prints links of /proc relative to the reader's root. A task in a chroot has another one.
static void strip_root(pid_t tid, char *path)
{
    char link[64], root[PATH_MAX];

    snprintf(link, sizeof link, "/proc/%d/root", tid);
    if (path[0] != '/' || read_link(link, root, sizeof root) || !root[1])
        return;
    size_t length = strlen(root);
    if (strncmp(path, root, length) == 0 && (path[length] == '/' || !path[length]))
        memmove(path, path[length] ? path + length : "/", path[length] ? strlen(path + length) + 1 : 2);
}

static int read_task_link(pid_t tid, const char *link, char *out, size_t size)
{
    int error = read_link(link, out, size);

    if (error)
        return error;
    strip_root(tid, out);
    return 0;
}

bool tl_path_is_refused(int error)
{
    return error == EFAULT || error == ENAMETOOLONG || error == ENOENT || error == EBADF ||
           error == ENOTDIR || error == ELOOP;
}

int tl_path_of_fd(pid_t tid, int fd, char *out)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/%d/fd/%d", tid, fd);
    int error = read_task_link(tid, link, out, TL_PATH_MAX);
    return error == ENOENT ? EBADF : error;
}

static int base_directory(pid_t tid, int dirfd, char *out)
{
    char link[64];

    if (dirfd != AT_FDCWD)
        return tl_path_of_fd(tid, dirfd, out);
    snprintf(link, sizeof link, "/proc/%d/cwd", tid);
    return read_task_link(tid, link, out, TL_PATH_MAX);
}

// Removes empty, "." and ".." components in place. PATH is absolute.
static void normalise(char *path)
{
    char *end = path; // of what is kept, without a trailing slash

    for (char *at = path; *at;) {
        while (*at == '/')
            at++;
        size_t length = strcspn(at, "/");
        if (length == 2 && at[0] == '.' && at[1] == '.') {
            while (end > path && *--end != '/')
                ;
        } else if (length && !(length == 1 && at[0] == '.')) {
            *end++ = '/';
            memmove(end, at, length);
            end += length;
        }
        at += length;
    }
    if (end == path)
        *end++ = '/';
    *end = 0;
}

int tl_path_resolve(pid_t tid, int dirfd, const char *name, char *out)
{
    size_t base = 0, length = strlen(name);

    if (name[0] != '/') {
        int error = base_directory(tid, dirfd, out);
        if (error)
            return error;
        // An fd of a pipe or a memfd has no place in the tree: its name is all there is to say.
        if (!length || out[0] != '/')
            return 0;
        base = strlen(out);
        out[base++] = '/';
    }
    if (base + length >= TL_PATH_MAX)
        return ENAMETOOLONG;
    memcpy(out + base, name, length + 1);
    normalise(out);
    return 0;
}
