// Taking the agent out of a thread: from then on the kernel deals with the program alone.
#include "inside.h"

#include <asm/unistd.h>

enum {
    PTRACE_TRACEME = 0,
    PR_SET_SYSCALL_USER_DISPATCH = 59,
    SS_DISABLE = 2,
    F_SETFD = 2,
    FD_CLOEXEC = 1,
    CLONE_VM = 0x100,
};

// What the kernel keeps for a thread becomes the program's own again, but for the signal mask.
void tl_disarm(struct tl_thread *thread)
{
    struct tl_stack stack = thread->stack;

    if (!stack.size)
        stack = (struct tl_stack){.flags = SS_DISABLE};
    tl_raw(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0, 0);
    tl_call3(__NR_sigaltstack, (long)&stack, 0, 0);
}

// A signal that waits for the end of the call goes back to the kernel, which delivers it once the mask allows that.
void tl_queue_again(struct tl_thread *thread)
{
    if (!thread->pending)
        return;
    tl_set_mask(~(tl_sigset)0);
    thread->pending = 0;
    tl_send(thread, &thread->deferred.info);
}

// A thread that asks to be traced would show its tracer every trap of ours; one that waits in vfork cannot even look.
// What it executes then cannot be entered by us either, so it is on its own from here on. Not where other threads need
// the signal handlers.
long tl_call_ptrace(struct tl_thread *thread)
{
    long result;

    if (thread->args[0] != PTRACE_TRACEME || tl_session.flags & TL_ENGINE_TRAP || thread->handlers->users != 1)
        return tl_perform(thread);
    tl_block_signals(thread);
    tl_queue_again(thread);
    result = tl_perform(thread);
    if (tl_is_error(result)) {
        tl_restore_signals(thread);
        return result;
    }
    tl_warn(thread, TL_UNHOOKED_TRACED, 0);
    tl_mailbox_leave(thread);
    if (!(thread->clone_flags & CLONE_VM))
        tl_patches_undo(0, ~(uint64_t)0);
    tl_call3(__NR_fcntl, tl_process.start.socket_fd, F_SETFD, FD_CLOEXEC);
    tl_call3(__NR_fcntl, tl_process.start.memory_fd, F_SETFD, FD_CLOEXEC);
    thread->unhooked = true;
    tl_disarm(thread);
    tl_uninstall_handlers(thread->handlers);
    thread->mask_is_full = false;
    tl_show_signals(thread, true, tl_mask_seen(thread));
    return result;
}

// A thread on its own that has met a block all the same: code that its parent, in whose memory it is, has rewritten.
long tl_call_unhooked(struct tl_thread *thread)
{
    switch ((int)thread->nr) {
    case __NR_rt_sigreturn:
        tl_sigreturn(thread->regs[RSP]);
    case __NR_fork:
    case __NR_vfork:
    case __NR_clone:
    case __NR_clone3:
        return -EAGAIN;
    default:
        return tl_perform(thread);
    }
}
