// Signal masks as the program sees them. SIGSYS is never really blocked, since the kernel ends a program
// whose call traps while it is; nor, with rewriting, are SIGTRAP and SIGILL. What the program believes of
// them is in tl_thread.held_blocked, and one that somebody sends meanwhile waits in tl_thread.held_info.
#include "inside.h"

#include <asm/unistd.h>

enum { SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK };

tl_sigset tl_mask_seen(const struct tl_thread *thread)
{
    return thread->mask | thread->held_blocked;
}

// It finds the agent at work, and so the program when that ends.
void tl_release_held(struct tl_thread *thread, tl_sigset blocked)
{
    for (int number = 1; number <= SIGSYS && thread->held_pending & ~blocked; number++) {
        if (!(thread->held_pending & ~blocked & tl_bit(number)))
            continue;
        thread->held_pending &= ~tl_bit(number);
        tl_send(thread, tl_held_info(thread, number));
    }
}

long tl_change_mask(struct tl_thread *thread, int how, tl_sigset set)
{
    tl_sigset mask = tl_mask_seen(thread);

    set &= ~(tl_bit(SIGKILL) | tl_bit(SIGSTOP));
    switch (how) {
    case SIG_BLOCK:
        mask |= set;
        break;
    case SIG_UNBLOCK:
        mask &= ~set;
        break;
    case SIG_SETMASK:
        mask = set;
        break;
    default:
        return -EINVAL;
    }
    thread->held_blocked = mask & tl_held_signals();
    mask &= ~tl_held_signals();
    bool changes = mask != thread->mask;
    thread->mask = mask;
    tl_release_held(thread, thread->held_blocked); // before all others, as the kernel has it
    // With a signal pending here, the mask is set when that is delivered.
    if (changes && !thread->pending)
        tl_raw(__NR_rt_sigprocmask, SIG_SETMASK, (long)&thread->mask, 0, 8, 0, 0);
    return 0;
}

long tl_call_rt_sigprocmask(struct tl_thread *thread)
{
    tl_sigset set, old = tl_mask_seen(thread);
    uint64_t set_at = thread->args[1], old_at = thread->args[2];

    if (thread->args[3] != sizeof set)
        return -EINVAL;
    if (set_at) {
        if (!tl_read(&set, set_at, sizeof set))
            return -EFAULT;
        long result = tl_change_mask(thread, (int)thread->args[0], set);
        if (result)
            return result;
    }
    return old_at && !tl_write(old_at, &old, sizeof old) ? -EFAULT : 0;
}

long tl_call_rt_sigpending(struct tl_thread *thread)
{
    uint64_t size = thread->args[1];
    tl_sigset set;
    long result = tl_perform(thread);

    if (result || !thread->held_pending || size != sizeof set || !tl_read(&set, thread->args[0], sizeof set))
        return result;
    set |= thread->held_pending;
    return tl_write(thread->args[0], &set, sizeof set) ? 0 : -EFAULT;
}

// Takes one of SET that is held, as the kernel takes those that it has.
static long take_held(struct tl_thread *thread, tl_sigset set)
{
    int number = __builtin_ctzll(set & thread->held_pending) + 1;
    const struct tl_siginfo *info = tl_held_info(thread, number);

    if (thread->args[1] && !tl_write(thread->args[1], info, sizeof *info))
        return -EFAULT;
    thread->held_pending &= ~tl_bit(number);
    return number;
}

long tl_call_rt_sigtimedwait(struct tl_thread *thread)
{
    tl_sigset set;

    if (thread->args[3] != sizeof set || !tl_read(&set, thread->args[0], sizeof set) ||
        !(set & thread->held_blocked))
        return tl_perform(thread);
    // Until it has waited the kernel keeps them: of one that is held meanwhile the kernel's wait knows
    // nothing.
    tl_sigset held = set & thread->held_blocked;
    tl_raw(__NR_rt_sigprocmask, SIG_BLOCK, (long)&held, 0, 8, 0, 0);
    long result = set & thread->held_pending ? take_held(thread, set) : tl_perform(thread);
    if (!thread->pending)
        tl_raw(__NR_rt_sigprocmask, SIG_SETMASK, (long)&thread->mask, 0, 8, 0, 0);
    return result;
}

// Calls that wait with a mask of their own: what we hold must stay out of it.
long tl_call_masked(struct tl_thread *thread)
{
    unsigned argument = 3;
    bool is_indirect = false;
    tl_sigset mask;
    uint64_t indirect[2];

    switch (thread->kind) {
    case __NR_rt_sigsuspend:
        argument = 0;
        break;
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
        argument = 4;
        break;
    case __NR_pselect6:
    case __NR_io_pgetevents:
        argument = 5;
        is_indirect = true;
        break;
    }
    uint64_t at = thread->args[argument];
    if (is_indirect) {
        if (!at || !tl_read(indirect, at, sizeof indirect))
            return tl_perform(thread);
        at = indirect[0];
    }
    if (!at || !tl_read(&mask, at, sizeof mask))
        return tl_perform(thread);
    thread->scratch[0] = mask & ~tl_held_signals();
    if (is_indirect) {
        thread->scratch[1] = (uint64_t)&thread->scratch[0];
        thread->scratch[2] = indirect[1];
        thread->args[argument] = (uint64_t)&thread->scratch[1];
    } else {
        thread->args[argument] = (uint64_t)&thread->scratch[0];
    }
    thread->temporary_mask = thread->scratch[0];
    thread->temporary_held = mask & tl_held_signals();
    thread->has_temporary_mask = true;
    long result = -EINTR;
    if (thread->held_pending & ~thread->temporary_held) {
        tl_release_held(thread, thread->temporary_held);
    } else {
        result = tl_perform(thread);
    }
    if (!thread->pending || thread->aborted || result != -EINTR)
        thread->has_temporary_mask = false;
    return result;
}
