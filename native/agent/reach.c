// Which programs an agent can follow into, as far as that can be known beforehand.
#include "inside.h"

#include <asm/unistd.h>

enum {
    AT_FDCWD = -100,
    AT_SYMLINK_NOFOLLOW = 0x100,
    AT_EACCESS = 0x200,
    R_OK = 4,
    O_CLOEXEC = 02000000,
    O_NONBLOCK = 04000,
    S_IFMT = 0170000,
    S_IFREG = 0100000,
    S_ISUID = 04000,
    S_ISGID = 02000,
    S_IXGRP = 010,
    PR_GET_NO_NEW_PRIVS = 39,
    EACCES = 13,
    elf_class_32 = 1,
    head_size = 256, // as much of a script's first line as the kernel looks at
    scripts_max = 5, // that execute one another
};

// What newfstatat writes.
struct status {
    uint64_t device, inode, links;
    uint32_t mode, uid, gid, padding;
    uint64_t rest[14];
};

// The file that a path means, opened unless it is the descriptor itself; an error for what is no regular one.
static long open_file(long dirfd, uint64_t path, const struct status *status)
{
    char first = 0;

    if ((status->mode & S_IFMT) != S_IFREG || !tl_read(&first, path, 1))
        return -ENOSYS;
    return first ? tl_raw(__NR_openat, dirfd, (long)path, O_CLOEXEC | O_NONBLOCK, 0, 0, 0) : dirfd;
}

static void close_file(long fd, long dirfd)
{
    if (!tl_is_error(fd) && fd != dirfd)
        tl_call3(__NR_close, fd, 0, 0);
}

static bool has_capabilities(long dirfd, uint64_t path, long flags, const struct status *status)
{
    static const char name[] = "security.capability";
    long size, fd;

    if (dirfd == AT_FDCWD) {
        long nr = flags & AT_SYMLINK_NOFOLLOW ? __NR_lgetxattr : __NR_getxattr;
        size = tl_raw(nr, (long)path, (long)name, 0, 0, 0, 0);
    } else {
        fd = open_file(dirfd, path, status);
        size = tl_is_error(fd) ? fd : tl_raw(__NR_fgetxattr, fd, (long)name, 0, 0, 0, 0);
        close_file(fd, dirfd);
    }
    return !tl_is_error(size) && size > 0;
}

// A program that gets privileges by being executed, or that its user may not read, is not for us to enter:
// the kernel takes the privileges from one that is traced.
static bool is_privileged(long dirfd, uint64_t path, long flags, const struct status *status)
{
    uint32_t user = (uint32_t)tl_call3(__NR_geteuid, 0, 0, 0);

    if (tl_raw(__NR_faccessat2, dirfd, (long)path, R_OK, AT_EACCESS | flags, 0, 0) == -EACCES)
        return true;
    if (tl_raw(__NR_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1)
        return false;
    if (status->mode & S_ISUID && status->uid != user)
        return true;
    if ((status->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
        status->gid != (uint32_t)tl_call3(__NR_getegid, 0, 0, 0))
        return true;
    return user != 0 && has_capabilities(dirfd, path, flags, status);
}

// Ends the name of a script's interpreter with a zero byte; its first one, or NULL.
static const char *interpreter_of(char *head)
{
    char *name = head + 2;

    if (head[0] != '#' || head[1] != '!')
        return NULL;
    while (*name == ' ' || *name == '\t')
        name++;
    for (char *end = name; *end; end++)
        if (*end == ' ' || *end == '\t' || *end == '\n')
            *end = 0;
    return *name ? name : NULL;
}

// A 32-bit program, or a script for one.
static bool is_32_bit(long dirfd, uint64_t path, const struct status *status)
{
    char head[head_size + 1];
    long fd = open_file(dirfd, path, status);

    for (int scripts = 0; !tl_is_error(fd) && scripts < scripts_max; scripts++) {
        __builtin_memset(head, 0, sizeof head);
        long got = tl_raw(__NR_pread64, fd, (long)head, head_size, 0, 0, 0);
        close_file(fd, dirfd);
        if (got > 4 && head[0] == 0x7f && head[1] == 'E' && head[2] == 'L' && head[3] == 'F')
            return head[4] == elf_class_32;
        const char *interpreter = interpreter_of(head);
        if (!interpreter)
            return false;
        dirfd = AT_FDCWD;
        fd = tl_raw(__NR_openat, dirfd, (long)interpreter, O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
    }
    close_file(fd, dirfd);
    return false;
}

// An error of the path, or 0 and in *REASON why the agent cannot follow.
long tl_reach(long dirfd, uint64_t path, long flags, enum tl_unhooked *reason)
{
    struct status status;
    long result = tl_raw(__NR_newfstatat, dirfd, (long)path, (long)&status, flags, 0, 0);

    *reason = TL_HOOKED;
    if (tl_is_error(result))
        return result;
    if (is_privileged(dirfd, path, flags, &status))
        *reason = TL_UNHOOKED_PRIVILEGES;
    else if (tl_session.flags & TL_ENGINE_TRAP && is_32_bit(dirfd, path, &status))
        *reason = TL_UNHOOKED_32_BIT; // elsewhere it is just left alone
    return 0;
}
