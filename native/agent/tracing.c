// A program that is traced by another one belongs to its tracer: it would see our signals, our stops and our
// code. So the agent leaves it, for good, with everything as the program believes it to be.
#include "inside.h"

#include <asm/unistd.h>

enum {
    PTRACE_TRACEME = 0,
    PTRACE_ATTACH = 16,
    PTRACE_SEIZE = 0x4206,
    PR_SET_SYSCALL_USER_DISPATCH = 59,
    CLONE_VM = 0x100,
    CLONE_SIGHAND = 0x800,
    SS_DISABLE = 2,
    F_SETFD = 2,
    FD_CLOEXEC = 1,
};

void tl_give_back_handlers(const struct tl_handlers *handlers)
{
    for (int number = 1; number <= signals; number++)
        if (number != SIGKILL && number != SIGSTOP)
            tl_raw(__NR_rt_sigaction, number, (long)&handlers->action[number], 0, 8, 0, 0);
}

// What the kernel keeps for this thread, but for its dispatch.
void tl_give_back_thread(struct tl_thread *thread)
{
    struct tl_stack stack = {
        .sp = thread->stack.sp, .flags = thread->stack.flags, .size = thread->stack.size};

    if (!stack.size)
        stack = (struct tl_stack){.flags = SS_DISABLE};
    tl_mailbox_leave(thread);
    tl_call3(__NR_sigaltstack, (long)&stack, 0, 0);
    tl_set_segment(thread);
}

// From here on its calls are its own.
static void give_back_calls(struct tl_thread *thread)
{
    tl_raw(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, (long)thread->dispatch_mode,
           (long)thread->dispatch_offset, (long)thread->dispatch_size, (long)thread->dispatch_selector, 0);
}

// Its descriptors stay until the next execve: they tell the supervisor that somebody of the program still
// lives.
void tl_give_back_process(void)
{
    tl_process.no_patches = 1;
    tl_patches_undo(0, ~(uint64_t)0);
    tl_call3(__NR_fcntl, tl_process.start.socket_fd, F_SETFD, FD_CLOEXEC);
    tl_call3(__NR_fcntl, tl_process.start.memory_fd, F_SETFD, FD_CLOEXEC);
}

// The only thread of a program that has not begun.
void tl_leave_program(struct tl_thread *thread)
{
    tl_give_back_process();
    tl_give_back_handlers(thread->handlers);
    thread->state = TL_THREAD_UNUSED;
    tl_give_back_thread(thread);
    give_back_calls(thread);
}

bool tl_is_alone(void)
{
    struct tl_process *process = &tl_process;
    uint32_t live = 0;

    for (uint32_t i = 0; i < process->thread_count; i++)
        live += process->threads[i]->state == TL_THREAD_LIVE;
    return live == 1;
}

// A child that asks its parent to trace it: nobody is in the way yet, so it does it by itself.
static long trace_me(struct tl_thread *thread)
{
    long result = tl_perform(thread);
    bool alone = tl_is_alone(), borrows_memory = thread->clone_flags & CLONE_VM;

    if (result || thread->aborted || (!alone && !borrows_memory))
        return result;
    tl_warn(thread, TL_UNHOOKED_TRACED, 0, 0);
    if (!borrows_memory)
        tl_give_back_process();
    if (!borrows_memory || !(thread->clone_flags & CLONE_SIGHAND))
        tl_give_back_handlers(thread->handlers);
    if (thread->held_blocked) {
        tl_sigset mask = tl_mask_seen(thread);
        tl_raw(__NR_rt_sigprocmask, 2, (long)&mask, 0, 8, 0, 0);
    }
    tl_give_back_thread(thread);
    give_back_calls(thread);
    return result;
}

// A tracer that waits in vfork would wait for ever, with the first trap of its child.
static long refuse(struct tl_thread *thread)
{
    tl_warn(thread, TL_UNHOOKED_TRACED, 0, 0);
    return -EPERM;
}

// Would the kernel let us trace it? The same rules hold for its memory.
static bool may_trace(int tid)
{
    uint64_t byte = 0, local[2] = {(uint64_t)&byte, 1}, remote[2] = {0, 1};

    return tl_raw(__NR_process_vm_readv, tid, (long)local, 1, (long)remote, 1, 0) == -EFAULT;
}

long tl_call_ptrace(struct tl_thread *thread)
{
    long request = (long)thread->args[0];

    // A filter cannot be left.
    bool can_leave = !(tl_session.flags & TL_ENGINE_TRAP);
    if (request == PTRACE_TRACEME)
        return can_leave ? trace_me(thread) : refuse(thread);
    if (can_leave && (request == PTRACE_ATTACH || request == PTRACE_SEIZE) &&
        may_trace((int)thread->args[1])) {
        struct tl_mailbox *box = tl_mailbox_of(thread);
        if (box) {
            box->args[0] = (uint32_t)thread->args[1];
            tl_ask(thread, TL_REQUEST_RELEASE);
        }
    }
    return tl_perform(thread);
}
