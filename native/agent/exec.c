// execve: the supervisor traces the caller for the length of it, and puts the agent into the new program.
#include "inside.h"

#include <asm/unistd.h>

enum {
    AT_FDCWD = -100,
    AT_SYMLINK_NOFOLLOW = 0x100,
    AT_EMPTY_PATH = 0x1000,
    AT_EACCESS = 0x200,
    R_OK = 4,
    F_SETFD = 2,
    FD_CLOEXEC = 1,
    S_ISUID = 04000,
    S_ISGID = 02000,
    S_IXGRP = 010,
    ENOENT = 2,
    EACCES = 13,
    ENOTDIR = 20,
    ENAMETOOLONG = 36,
    ELOOP = 40,
};

// What newfstatat writes.
struct status {
    uint64_t device, inode, links;
    uint32_t mode, uid, gid, padding;
    uint64_t rest[14];
};

static void close_on_exec(int flag)
{
    tl_call3(__NR_fcntl, tl_process.start.socket_fd, F_SETFD, flag);
    tl_call3(__NR_fcntl, tl_process.start.memory_fd, F_SETFD, flag);
}

// A program that gets privileges by being executed, or that its user may not read, is not for us to enter.
static bool is_out_of_reach(long dirfd, uint64_t path, long flags, const struct status *status)
{
    if (status->mode & S_ISUID || (status->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
        return true;
    return tl_raw(__NR_faccessat2, dirfd, (long)path, R_OK, AT_EACCESS | flags, 0, 0) == -EACCES;
}

static bool is_alone(void)
{
    const struct tl_process *process = &tl_process;
    unsigned live = 0;

    for (uint32_t i = 0; i < process->thread_count; i++)
        live += process->threads[i]->state == TL_THREAD_LIVE;
    return live == 1;
}

// The new program inherits the mask, what is ignored and what waits: for this one call the kernel must know them
// as the program does. Our own calls are not caught, so SIGSYS may be blocked. But other threads need its handler.
static long perform(struct tl_thread *thread)
{
    bool alone = is_alone();

    tl_restore_signals(thread);
    tl_show_signals(thread, alone);
    long result = tl_perform(thread);
    tl_hide_signals(thread);
    return result;
}

long tl_call_execve(struct tl_thread *thread)
{
    bool at = thread->kind == __NR_execveat;
    long dirfd = at ? (int)thread->args[0] : AT_FDCWD, flags = at ? (long)thread->args[4] : 0;
    uint64_t path = thread->args[at ? 1 : 0];
    struct status status;
    long result;

    if (flags & ~(long)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return tl_perform(thread); // it will fail
    // Walking along PATH most calls fail; those need nobody's help.
    result = tl_raw(__NR_newfstatat, dirfd, (long)path, (long)&status, flags, 0, 0);
    if (tl_is_error(result))
        return result;
    if (is_out_of_reach(dirfd, path, flags, &status)) {
        struct tl_mailbox *box = tl_mailbox_of(thread);
        if (box) {
            box->args[0] = path;
            box->args[1] = EPERM;
            tl_ask(thread, TL_REQUEST_WARNING);
        }
        close_on_exec(FD_CLOEXEC);
        result = perform(thread);
        close_on_exec(0);
        return result;
    }
    tl_block_signals(thread);
    struct tl_mailbox *box = tl_mailbox_of(thread);
    if (box) {
        box->args[0] = (uint64_t)(uint32_t)tl_process.start.socket_fd;
        box->args[1] = (uint64_t)(uint32_t)tl_process.start.memory_fd;
    }
    if (!box || tl_ask(thread, TL_REQUEST_EXEC) != TL_ANSWER_GO_ON) {
        tl_restore_signals(thread);
        return box && !tl_session.dead ? -EPERM : -ENOSYS;
    }
    return perform(thread);
}
