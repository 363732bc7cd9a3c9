// What the program has set for its signals: actions and stacks, and what the kernel has instead.
#include "inside.h"

#include <asm/unistd.h>

enum {
    SA_ONSTACK = 0x08000000,
    SA_RESTORER = 0x04000000,
    SA_RESTART = 0x10000000,
    SA_SIGINFO = 4,
    SA_NODEFER = 0x40000000,
    SS_ONSTACK = 1,
    SS_DISABLE = 2,
    SIG_BLOCK = 0,
    SIG_SETMASK = 2,
};
static const uint64_t SA_RESETHAND = 0x80000000, SS_AUTODISARM = 0x80000000;
static const uint64_t kept_flags = 0xdc000807; // those that the kernel knows

// A fault in tl_copy must get through even while all else is blocked.
tl_sigset tl_all_signals(void)
{
    return ~(tl_bit(SIGSEGV) | tl_bit(SIGBUS) | tl_bit(SIGSYS) | tl_bit(SIGTRAP) | tl_bit(SIGILL));
}

bool tl_needs_signal(int number)
{
    return number == SIGSYS || number == SIGSEGV || number == SIGBUS || number == SIGTRAP || number == SIGILL;
}

long tl_kernel_action(int number, const struct tl_action *action, struct tl_action *old)
{
    return tl_raw(__NR_rt_sigaction, number, (long)action, (long)old, 8, 0, 0);
}

void tl_install_action(int number, const struct tl_action *wanted)
{
    struct tl_action action = {
        .handler = wanted->handler,
        .flags = wanted->flags,
        .restorer = (uint64_t)tl_restorer,
        .mask = ~(tl_bit(SIGSEGV) | tl_bit(SIGBUS)),
    };

    if (tl_needs_signal(number) || wanted->handler > 1) {
        action.handler = (uint64_t)tl_on_signal;
        action.flags = (wanted->flags & ~(SA_NODEFER | SA_RESETHAND)) | SA_SIGINFO | SA_ONSTACK | SA_RESTORER;
        if (wanted->handler == 1) // and so ends no call
            action.flags |= SA_RESTART;
    }
    tl_kernel_action(number, &action, NULL);
}

// With ASK, what the kernel has is taken over: a new program inherits what is ignored.
void tl_install_handlers(struct tl_handlers *handlers, bool ask)
{
    for (int number = 1; number <= signals; number++) {
        struct tl_action *action = &handlers->action[number];
        if (ask)
            tl_kernel_action(number, NULL, action);
        if (tl_needs_signal(number) || action->handler > 1)
            tl_install_action(number, action);
    }
}

// The kernel's state becomes what the program believes it to be, until tl_hide_signals; but for the mask.
void tl_show_signals(struct tl_thread *thread, bool alone, tl_sigset mask)
{
    tl_raw(__NR_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0, 0);
    tl_release_held(thread, 0);
    for (int number = 1; number <= signals; number++) {
        const struct tl_action *action = &thread->handlers->action[number];
        if (tl_needs_signal(number) && action->handler == 1 && (alone || number != SIGSYS))
            tl_kernel_action(number, action, NULL);
    }
}

void tl_hide_signals(struct tl_thread *thread)
{
    for (int number = 1; number <= signals; number++)
        if (tl_needs_signal(number) && thread->handlers->action[number].handler == 1)
            tl_install_action(number, &thread->handlers->action[number]);
    thread->held_pending = 0; // what waits in the kernel comes now
    tl_restore_signals(thread);
}

static void block(struct tl_thread *thread, tl_sigset mask)
{
    thread->mask_is_full = true;
    tl_raw(__NR_rt_sigprocmask, SIG_BLOCK, (long)&mask, 0, 8, 0, 0); // what the program blocks stays blocked
}

void tl_block_signals(struct tl_thread *thread)
{
    block(thread, tl_all_signals());
}

void tl_block_all(struct tl_thread *thread)
{
    block(thread, ~(tl_sigset)0);
}

void tl_restore_signals(struct tl_thread *thread)
{
    thread->mask_is_full = false;
    if (!thread->pending)
        tl_raw(__NR_rt_sigprocmask, SIG_SETMASK, (long)&thread->mask, 0, 8, 0, 0);
}

bool tl_is_on_stack(const struct tl_stack *stack, uint64_t sp)
{
    return !((uint64_t)(uint32_t)stack->flags & SS_AUTODISARM) && sp - stack->sp - 1 < stack->size;
}

struct tl_stack tl_stack_seen(const struct tl_thread *thread, uint64_t sp)
{
    struct tl_stack seen = thread->stack;

    seen.padding = 0;
    seen.flags = (int32_t)((uint32_t)seen.flags & SS_AUTODISARM);
    if (!seen.size)
        seen.flags |= SS_DISABLE;
    else if (tl_is_on_stack(&thread->stack, sp))
        seen.flags |= SS_ONSTACK;
    return seen;
}

long tl_change_action(struct tl_thread *thread, int number, const struct tl_action *wanted,
                      struct tl_action *old)
{
    if (number < 1 || number > signals || (wanted && (number == SIGKILL || number == SIGSTOP)))
        return -EINVAL;
    tl_block_signals(thread);
    struct tl_action *action = &thread->handlers->action[number];
    *old = *action;
    if (wanted) {
        struct tl_action new = *wanted;
        new.flags &= kept_flags;
        new.mask &= ~(tl_bit(SIGKILL) | tl_bit(SIGSTOP));
        if (new.handler > 1)
            *action = new;
        tl_install_action(number, &new);
        *action = new;
        if (new.handler == 1)
            thread->held_pending &= ~tl_bit(number);
    }
    tl_restore_signals(thread);
    return 0;
}

long tl_call_rt_sigaction(struct tl_thread *thread)
{
    uint64_t new_at = thread->args[1], old_at = thread->args[2];
    struct tl_action wanted, old;

    if (thread->args[3] != sizeof(tl_sigset))
        return -EINVAL;
    if (new_at && !tl_read(&wanted, new_at, sizeof wanted))
        return -EFAULT;
    long result = tl_change_action(thread, (int)thread->args[0], new_at ? &wanted : NULL, &old);
    if (!result && old_at && !tl_write(old_at, &old, sizeof old))
        return -EFAULT;
    return result;
}

long tl_change_stack(struct tl_thread *thread, const struct tl_stack *wanted)
{
    uint32_t mode = (uint32_t)wanted->flags & ~(uint32_t)SS_AUTODISARM;
    enum { minimum = 2048 };

    if (thread->stack.size && tl_is_on_stack(&thread->stack, thread->regs[RSP]))
        return -EPERM;
    if (mode > SS_DISABLE)
        return -EINVAL;
    if (mode != SS_DISABLE && wanted->size < minimum)
        return -ENOMEM;
    thread->stack = *wanted;
    if (mode == SS_DISABLE)
        thread->stack.size = thread->stack.sp = 0;
    return 0;
}

long tl_call_sigaltstack(struct tl_thread *thread)
{
    uint64_t new_at = thread->args[0], old_at = thread->args[1];
    struct tl_stack wanted, old = tl_stack_seen(thread, thread->regs[RSP]);

    if (new_at) {
        if (!tl_read(&wanted, new_at, sizeof wanted))
            return -EFAULT;
        long result = tl_change_stack(thread, &wanted);
        if (result)
            return result;
    }
    if (old_at && !tl_write(old_at, &old, sizeof old))
        return -EFAULT;
    return 0;
}
