// execve: the supervisor traces the caller for the length of it, and puts the agent into the new program.
#include "inside.h"

#include <asm/unistd.h>

enum {
    AT_FDCWD = -100,
    AT_SYMLINK_NOFOLLOW = 0x100,
    AT_EMPTY_PATH = 0x1000,
    F_SETFD = 2,
    FD_CLOEXEC = 1,
    SIG_SETMASK = 2,
    PR_GET_DUMPABLE = 3,
    PR_SET_DUMPABLE = 4,
    PR_SET_PTRACER = 0x59616d61,
};

static void close_on_exec(int flag)
{
    tl_call3(__NR_fcntl, tl_process.start.socket_fd, F_SETFD, flag);
    tl_call3(__NR_fcntl, tl_process.start.memory_fd, F_SETFD, flag);
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
        result = tl_session.flags & TL_ENGINE_VISITS ? leave_alone(thread) : -ENOSYS;
    }
    withdraw(&permission);
    return result;
}

long tl_call_execve(struct tl_thread *thread)
{
    bool at = thread->kind == __NR_execveat;
    long dirfd = at ? (int)thread->args[0] : AT_FDCWD, flags = at ? (long)thread->args[4] : 0;
    uint64_t path = thread->args[at ? 1 : 0];
    enum tl_unhooked reason;
    long result;

    if (flags & ~(long)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return tl_perform(thread); // it will fail
    // Walking along PATH most calls fail; those need nobody's help.
    result = tl_reach(dirfd, path, flags, &reason);
    if (tl_is_error(result))
        return result;
    tl_block_signals(thread);
    if (reason) {
        tl_warn(thread, reason, 0, path);
        queue_again(thread);
        result = leave_alone(thread);
    } else {
        result = execute(thread);
    }
    tl_restore_signals(thread);
    return result;
}
