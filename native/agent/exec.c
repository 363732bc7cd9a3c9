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
    O_CLOEXEC = 02000000,
    SIG_SETMASK = 2,
    S_IFMT = 0170000,
    S_IFREG = 0100000,
    S_ISUID = 04000,
    S_ISGID = 02000,
    S_IXGRP = 010,
    PR_GET_DUMPABLE = 3,
    PR_SET_DUMPABLE = 4,
    PR_GET_NO_NEW_PRIVS = 39,
    PR_SET_PTRACER = 0x59616d61,
    EACCES = 13,
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

static bool has_capabilities(long dirfd, uint64_t path, long flags, const struct status *status)
{
    static const char name[] = "security.capability";
    char first = 0;
    long size, fd;

    tl_read(&first, path, 1);
    if (dirfd == AT_FDCWD || first == '/') {
        size = tl_raw(flags & AT_SYMLINK_NOFOLLOW ? __NR_lgetxattr : __NR_getxattr, (long)path, (long)name, 0,
                      0, 0, 0);
    } else if (!first) {
        size = tl_raw(__NR_fgetxattr, dirfd, (long)name, 0, 0, 0, 0);
    } else {
        fd = (status->mode & S_IFMT) == S_IFREG ? tl_raw(__NR_openat, dirfd, (long)path, O_CLOEXEC, 0, 0, 0)
                                                : -ENOSYS;
        size = tl_is_error(fd) ? fd : tl_raw(__NR_fgetxattr, fd, (long)name, 0, 0, 0, 0);
        if (!tl_is_error(fd))
            tl_call3(__NR_close, fd, 0, 0);
    }
    return !tl_is_error(size) && size > 0;
}

// A program that gets privileges by being executed, or that its user may not read, is not for us to enter:
// the kernel takes the privileges from one that is traced.
static bool is_out_of_reach(long dirfd, uint64_t path, long flags, const struct status *status)
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

static bool is_alone(void)
{
    const struct tl_process *process = &tl_process;
    unsigned live = 0;

    for (uint32_t i = 0; i < process->thread_count; i++)
        live += process->threads[i]->state == TL_THREAD_LIVE;
    return live == 1;
}

// A signal that waits for the end of the call goes back to the kernel, where it survives the execve.
static void queue_again(struct tl_thread *thread)
{
    if (!thread->pending)
        return;
    // All of them, or one that the agent never blocks would be here again at once.
    const tl_sigset all = ~(tl_sigset)0;
    tl_raw(__NR_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, sizeof all, 0, 0);
    thread->pending = 0;
    tl_raw(__NR_rt_tgsigqueueinfo, thread->pid, thread->tid, thread->deferred.info.number,
           (long)&thread->deferred.info, 0, 0);
}

static tl_sigset ignored(const struct tl_thread *thread)
{
    tl_sigset set = 0;

    for (int number = 1; number <= signals; number++)
        if (thread->handlers->action[number].handler == 1)
            set |= tl_bit(number);
    return set;
}

// The next program has no agent: it gets what it would have natively, and none of our descriptors.
static long leave_alone(struct tl_thread *thread)
{
    long result;

    if (tl_session.flags & TL_ENGINE_TRAP)
        return -EPERM; // the filter would end a program that has no agent
    thread->mask_is_full = false;
    tl_show_signals(thread, is_alone(), tl_mask_seen(thread));
    close_on_exec(FD_CLOEXEC);
    result = tl_perform(thread);
    close_on_exec(0);
    tl_hide_signals(thread);
    return result;
}

// The kernel may refuse the supervisor to trace us, and be told not to by ourselves alone: after a change of
// identity, as in a new user namespace, or where a security module wants to know the tracer. Undone
// afterwards.
struct permission {
    bool was_undumpable, given;
};

static void permit(struct permission *permission)
{
    permission->was_undumpable = tl_raw(__NR_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0, 0) == 0;
    if (permission->was_undumpable)
        tl_raw(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0);
    permission->given = !tl_is_error(tl_raw(__NR_prctl, PR_SET_PTRACER, -1, 0, 0, 0, 0));
}

static void withdraw(const struct permission *permission)
{
    if (permission->was_undumpable)
        tl_raw(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
    if (permission->given)
        tl_raw(__NR_prctl, PR_SET_PTRACER, 0, 0, 0, 0, 0);
}

static int ask_to_be_followed(struct tl_thread *thread, struct permission *permission)
{
    struct tl_mailbox *box = tl_mailbox_of(thread);

    if (!box)
        return -1;
    box->args[0] = (uint64_t)(uint32_t)tl_process.start.socket_fd;
    box->args[1] = (uint64_t)(uint32_t)tl_process.start.memory_fd;
    box->args[2] = tl_mask_seen(thread);
    box->args[3] = ignored(thread);
    box->args[4] = thread->args[thread->nr == __NR_execveat ? 1 : 0];
    box->args[5] =
        (uint64_t)&thread->mailbox; // by which the supervisor sees that it has caught this very thread
    box->sp = (uint64_t)box;
    int answer = tl_ask(thread, TL_REQUEST_EXEC);
    if (answer == TL_ANSWER_PERMIT) {
        permit(permission);
        answer = tl_ask_again(thread);
    }
    return answer;
}

// With every signal blocked, so that none keeps us from it for ever. The supervisor sets the program's mask
// when the kernel has begun with the call.
static long execute(struct tl_thread *thread)
{
    struct permission permission = {0};
    long result;

    queue_again(thread);
    switch (ask_to_be_followed(thread, &permission)) {
    case TL_ANSWER_GO_ON: {
        // Once it has succeeded the mailbox is the supervisor's, and this memory perhaps our parent's.
        struct tl_mailbox *box = thread->mailbox;
        thread->mailbox = NULL;
        tl_show_signals(thread, is_alone(), ~(tl_sigset)0);
        result = tl_perform(thread);
        tl_hide_signals(thread);
        thread->mailbox = box;
        break;
    }
    case TL_ANSWER_UNFOLLOWED:
        result = leave_alone(thread);
        break;
    case TL_ANSWER_REPLY:
        result = thread->mailbox->result;
        break;
    default:
        result = -ENOSYS;
    }
    withdraw(&permission);
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
    bool out_of_reach = is_out_of_reach(dirfd, path, flags, &status);
    tl_block_signals(thread);
    if (out_of_reach) {
        struct tl_mailbox *box = tl_mailbox_of(thread);
        if (box) {
            box->args[1] = EPERM;
            box->args[4] = path;
            tl_ask(thread, TL_REQUEST_WARNING);
        }
        queue_again(thread);
        result = leave_alone(thread);
    } else {
        result = execute(thread);
    }
    tl_restore_signals(thread);
    return result;
}
