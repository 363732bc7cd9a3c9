#include "behalf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "path.h"
#include "task.h"

enum { most_groups = 65536 };

// What decides whether and how a task may open a file.
struct identity {
    unsigned fsuid, fsgid, umask;
    uint64_t capabilities;
    gid_t *groups;
    int group_count;
};

struct opening {
    pid_t tid;
    const struct tl_open_how *how;
    int fd, error;
};

static bool number_after(const char *text, const char *name, int field, int base, uint64_t *value)
{
    const char *line = strstr(text, name);

    if (!line)
        return false;
    char *at = (char *)line + strlen(name);
    for (int i = 0; i <= field; i++)
        *value = strtoull(at, &at, base);
    return true;
}

static int read_groups(const char *text, struct identity *identity)
{
    const char *line = strstr(text, "\nGroups:");
    char *at = line ? (char *)line + 8 : NULL;

    identity->groups = malloc(most_groups * sizeof *identity->groups);
    if (!at || !identity->groups)
        return ENOMEM;
    for (;;) {
        char *end;
        unsigned long group = strtoul(at, &end, 10);
        // The list ends with the line; strtoul would go on with the next one, which starts with a letter.
        if (end == at || identity->group_count == most_groups)
            return 0;
        identity->groups[identity->group_count++] = (gid_t)group;
        at = end;
    }
}

static bool same_namespace(pid_t tid, const char *kind)
{
    char name[64];
    struct stat own, other;

    snprintf(name, sizeof name, "/proc/self/ns/%s", kind);
    if (stat(name, &own))
        return false;
    snprintf(name, sizeof name, "/proc/%d/ns/%s", tid, kind);
    return stat(name, &other) == 0 && own.st_ino == other.st_ino;
}

static int read_identity(pid_t tid, struct identity *identity)
{
    char name[64], *text = NULL;
    uint64_t uid, gid, mask, capabilities;
    size_t size = 0;

    snprintf(name, sizeof name, "/proc/%d/status", tid);
    FILE *file = fopen(name, "re");
    if (!file)
        return ESRCH;
    ssize_t length = getdelim(&text, &size, 0, file);
    fclose(file);
    int error = ESRCH;
    if (length > 0 && number_after(text, "\nUid:", 3, 10, &uid) &&
        number_after(text, "\nGid:", 3, 10, &gid) && number_after(text, "\nUmask:", 0, 8, &mask) &&
        number_after(text, "\nCapEff:", 0, 16, &capabilities)) {
        identity->fsuid = (unsigned)uid;
        identity->fsgid = (unsigned)gid;
        identity->umask = (unsigned)mask;
        // Capabilities within a user namespace of the task's own count for nothing here.
        identity->capabilities = same_namespace(tid, "user") ? capabilities : 0;
        error = read_groups(text, identity);
    }
    free(text);
    return error;
}

// The raw calls change this thread alone; libc's would change every thread of the process.
static int take_on(const struct identity *identity)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    gid_t *own = malloc(most_groups * sizeof *own);
    int error = 0;

    if (!own)
        return ENOMEM;
    long count = syscall(SYS_getgroups, most_groups, own);
    bool same_groups =
        count == identity->group_count && memcmp(own, identity->groups, (size_t)count * sizeof *own) == 0;
    free(own);
    if (!same_groups && syscall(SYS_setgroups, identity->group_count, identity->groups))
        return errno;
    setfsgid(identity->fsgid);
    setfsuid(identity->fsuid);
    // They report the former value only, so ask again with an id that cannot be set.
    if ((unsigned)setfsgid((gid_t)-1) != identity->fsgid || (unsigned)setfsuid((uid_t)-1) != identity->fsuid)
        return EPERM;
    if (syscall(SYS_capget, &header, data))
        return errno;
    for (int i = 0; i < 2; i++)
        data[i].effective &= (uint32_t)(identity->capabilities >> (32 * i));
    if (syscall(SYS_capset, &header, data))
        error = errno;
    umask(identity->umask);
    return error;
}

static bool is_own_root(int root)
{
    struct stat own, other;

    return stat("/", &own) == 0 && fstat(root, &other) == 0 && own.st_dev == other.st_dev &&
           own.st_ino == other.st_ino;
}

static int open_place(pid_t tid, const char *place)
{
    char name[64];

    snprintf(name, sizeof name, "/proc/%d/%s", tid, place);
    return open(name, O_PATH | O_CLOEXEC);
}

// Opens the task's root, and what its relative path starts from; an errno.
static int open_start(const struct opening *opening, int *root, int *start)
{
    char place[32] = "cwd";

    *root = open_place(opening->tid, "root");
    if (*root < 0)
        return errno == ENOENT ? ESRCH : errno;
    if (opening->how->path[0] == '/')
        return 0;
    if (opening->how->dirfd != AT_FDCWD)
        snprintf(place, sizeof place, "fd/%d", opening->how->dirfd);
    *start = open_place(opening->tid, place);
    return *start >= 0 ? 0 : errno == ENOENT && opening->how->dirfd != AT_FDCWD ? EBADF : errno;
}

// /proc/self is whoever looks. The task means itself.
static const char *name_own_entries(pid_t tid, const char *path, char *room)
{
    static const struct {
        const char *name, *place;
    } own[] = {{"/proc/self", ""},      {"/proc/thread-self", ""}, {"/dev/fd", "/fd"},
               {"/dev/stdin", "/fd/0"}, {"/dev/stdout", "/fd/1"},  {"/dev/stderr", "/fd/2"}};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        size_t length = strlen(own[i].name);
        if (strncmp(path, own[i].name, length) == 0 && (!path[length] || path[length] == '/')) {
            snprintf(room, TL_PATH_MAX, "/proc/%d%s%s", tl_task_process(tid), own[i].place, path + length);
            return room;
        }
    }
    return path;
}

static int open_there(const struct opening *opening, int root, int start, const struct identity *identity,
                      int *fd)
{
    char room[TL_PATH_MAX];
    const char *path = name_own_entries(opening->tid, opening->how->path, room);
    struct open_how how = {
        .flags = opening->how->flags | O_CLOEXEC | O_NOCTTY,
        .mode = opening->how->mode,
        .resolve = opening->how->resolve,
    };

    // Root and umask of this thread alone from here on.
    if (unshare(CLONE_FS))
        return errno;
    bool same_view = same_namespace(opening->tid, "mnt") && is_own_root(root);
    if (!same_view && (fchdir(root) || chroot(".")))
        return errno;
    int error = take_on(identity);
    if (error)
        return error;
    *fd = (int)syscall(SYS_openat2, start >= 0 ? start : AT_FDCWD, path, &how, sizeof how);
    if (*fd < 0 && errno == ENOSYS && !how.resolve)
        *fd = openat(start >= 0 ? start : AT_FDCWD, path, (int)how.flags, (mode_t)how.mode);
    return *fd < 0 ? errno : 0;
}

static void *open_in_thread(void *argument)
{
    struct opening *opening = argument;
    struct identity identity = {0};
    int root = -1, start = -1;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    opening->error = read_identity(opening->tid, &identity);
    if (!opening->error)
        opening->error = open_start(opening, &root, &start);
    if (!opening->error)
        opening->error = open_there(opening, root, start, &identity, &opening->fd);
    if (root >= 0)
        close(root);
    if (start >= 0)
        close(start);
    free(identity.groups);
    return NULL;
}

int tl_open_on_behalf(pid_t tid, const struct tl_open_how *how, int *fd)
{
    struct opening opening = {.tid = tid, .how = how, .fd = -1};
    pthread_t thread;

    // A thread that has taken on somebody else's rights is not used again.
    int error = pthread_create(&thread, NULL, open_in_thread, &opening);
    if (error)
        return error;
    pthread_join(thread, NULL);
    *fd = opening.fd;
    return opening.error;
}
