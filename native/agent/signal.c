// Signals. The kernel's handler for each is tl_on_signal, on a stack of the thread's own with all signals
// blocked; the program's handlers are entered from here, with the context that they would see natively:
//
//   signal finds the program's code      enter the handler right now
//   ... a block                          the same, after translating where the program would be
//   ... the agent at work for a call     keep the frame, block everything, enter it when the call is over
//
// No state of the agent is ever suspended under a handler, so handlers may do what they like, never return
// too.
#include "inside.h"

#include <asm/unistd.h>

enum {
    SA_ONSTACK = 0x08000000,
    SA_NODEFER = 0x40000000,
    SS_ONSTACK = 1,
    SS_DISABLE = 2,
    SIG_UNBLOCK = 1,
    user_dispatch_code = 2,
    seccomp_code = 1,
    trace_code = 2,
    trap_flag = 0x100,
    direction_flag = 0x400,
    resume_flag = 0x10000,
    red_zone = 128,
    vector_size_at = 468, // of the whole state, where the magic before it is there
    vector_magic = 0x46505853,
    legacy_vector_size = 512,
    kernel_code = 0x80, // SI_KERNEL
    arch_i386 = 0x40000003,
    user_code_segment = 0x33,
    plain_flags = 0x202,
};
static const uint64_t plain_segments = 0x002b000000000033;
static const uint64_t SA_RESETHAND = 0x80000000, SS_AUTODISARM = 0x80000000;

static bool is_within(uint64_t address, const char *start, const char *end)
{
    return address >= (uint64_t)start && address < (uint64_t)end;
}

static bool is_in_agent(uint64_t address)
{
    return is_within(address, tl_image, tl_region_end);
}

static size_t vector_size(const struct tl_context *context)
{
    uint64_t state = context->fpstate;

    if (!state)
        return 0;
    if (*(uint32_t *)(state + vector_size_at - 4) != vector_magic)
        return legacy_vector_size;
    return *(uint32_t *)(state + vector_size_at);
}

static bool is_held(const struct tl_thread *thread, int number)
{
    return (thread->has_temporary_mask ? thread->temporary_held : thread->held_blocked) & tl_bit(number);
}

static void hold(struct tl_thread *thread, int number, const struct tl_siginfo *info)
{
    *tl_held_info(thread, number) = *info;
    thread->held_pending |= tl_bit(number);
}

// Somebody has sent a signal that the program blocks or ignores, and only the agent has the kernel deliver
// it.
static bool is_unseen(const struct tl_thread *thread, int number, const struct tl_siginfo *info)
{
    return info->code <= 0 && (is_held(thread, number) ||
                               (tl_needs_signal(number) && thread->handlers->action[number].handler == 1));
}

// Where such a signal has ended a call, the call begins again: the program is not to know.
static void repeat_call(const struct tl_thread *thread, struct tl_context *context)
{
    uint64_t *rip = &context->regs[RIP];

    if (context->regs[RAX] != (uint64_t)-EINTR)
        return;
    if (*rip == (uint64_t)tl_perform_done)
        *rip = (uint64_t)tl_perform_window;
    else if (*rip == (uint64_t)tl_perform_int80_done)
        *rip = (uint64_t)tl_perform_int80_window;
    else {
        tl_repeat_in_block(context->regs);
        return;
    }
    context->regs[RAX] = (uint64_t)thread->nr;
}

static bool is_fault(int number, const struct tl_siginfo *info)
{
    return info->code > 0 && tl_needs_signal(number);
}

// To this thread itself, which finds it at work.
void tl_send(struct tl_thread *thread, const struct tl_siginfo *info)
{
    thread->sent = info->number;
    tl_raw(__NR_rt_tgsigqueueinfo, thread->pid, thread->tid, info->number, (long)info, 0, 0);
    thread->sent = 0;
}

// The program's own action is the default one, and the kernel asked us only because we need the signal too.
static void fall_back(struct tl_thread *thread, const struct tl_siginfo *info)
{
    struct tl_action action = {0};
    tl_sigset mask = tl_bit(info->number);

    tl_kernel_action(info->number, &action, NULL);
    // A fault is best repeated: a core then shows where it was. Nothing else comes again by itself.
    if (is_fault(info->number, info) && info->code != kernel_code && info->number != SIGTRAP &&
        info->number != SIGSYS)
        return;
    tl_raw(__NR_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, 0, 8, 0, 0);
    tl_send(thread, info);
}

// A fault of the program's that the agent has found: to its handler, or the end.
void tl_force(struct tl_thread *thread, const struct tl_siginfo *info)
{
    tl_block_signals(thread);
    if (tl_mask_seen(thread) & tl_bit(info->number) || thread->handlers->action[info->number].handler <= 1)
        fall_back(thread, info);
    else
        tl_send(thread, info);
}

// A handler runs in the usual code segment, but with the stack segment that it interrupts, if that is any
// good.
static uint64_t handler_segments(uint64_t interrupted)
{
    enum { of_interest = 0xfe00, data = 0xf200, data_expanding_down = 0xf600 }; // ring 3, present, writable
    uint32_t selector = (uint32_t)(interrupted >> 48), rights = 0;

    __asm__("lar %1, %0" : "+r"(rights) : "r"(selector) : "cc");
    rights &= of_interest;
    if (rights != data && rights != data_expanding_down)
        return plain_segments;
    return (plain_segments & 0xffffffffffff) | (uint64_t)selector << 48;
}

// Changes CONTEXT, from which a sigreturn follows, so that it enters the program's handler for a signal that
// found the program with the registers AT. False: there is no handler to enter.
static bool enter_handler(struct tl_thread *thread, int number, const struct tl_siginfo *info,
                          struct tl_context *context, const uint64_t at[registers])
{
    struct tl_action action = thread->handlers->action[number];
    struct tl_frame frame = {.restorer = action.restorer, .info = *info};
    uint64_t sp = at[RSP], vectors;
    size_t size = vector_size(context);

    tl_sigset held = thread->has_temporary_mask ? thread->temporary_held : thread->held_blocked;
    if (is_held(thread, number)) {
        if (info->code > 0) {
            thread->handlers->action[number].handler = 0; // as the kernel does with a fault that is blocked
            fall_back(thread, info);
        } else {
            hold(thread, number, info);
        }
        return false;
    }
    if (action.handler <= 1) {
        if (action.handler == 0 || is_fault(number, info))
            fall_back(thread, info);
        return false;
    }
    if (action.flags & SA_ONSTACK && thread->stack.size && !tl_is_on_stack(&thread->stack, sp))
        sp = thread->stack.sp + thread->stack.size;
    else
        sp -= red_zone;
    vectors = sp = (sp - size) & -(uint64_t)64;
    sp = ((sp - sizeof frame) & -(uint64_t)16) - 8;

    frame.context = *context;
    frame.context.link = 0;
    frame.context.stack = tl_stack_seen(thread, at[RSP]);
    frame.context.fpstate = size ? vectors : 0;
    frame.context.mask = tl_mask_seen(thread);
    __builtin_memcpy(frame.context.regs, at, sizeof frame.context.regs);
    if ((size && !tl_write(vectors, (const void *)context->fpstate, size)) ||
        !tl_write(sp, &frame, sizeof frame)) {
        struct tl_siginfo fault = {.number = SIGSEGV, .code = kernel_code};
        // As the kernel does: a stack that cannot take the frame is a fault, and one at that is the end.
        if (number == SIGSEGV || thread->mask & tl_bit(SIGSEGV))
            thread->handlers->action[number].handler = 0;
        return enter_handler(thread, SIGSEGV, &fault, context, at);
    }
    tl_sigset mask = thread->has_temporary_mask ? thread->temporary_mask : thread->mask;
    mask |= action.mask;
    if (!(action.flags & SA_NODEFER))
        mask |= tl_bit(number);
    thread->held_blocked = held | (mask & tl_held_signals());
    thread->mask = mask & ~tl_held_signals();
    thread->has_temporary_mask = false;
    if (action.flags & SA_RESETHAND) {
        thread->handlers->action[number].handler = 0;
        tl_install_action(number, &thread->handlers->action[number]);
    }
    if ((uint64_t)(uint32_t)thread->stack.flags & SS_AUTODISARM)
        thread->stack = (struct tl_stack){0};

    __builtin_memcpy(context->regs, at, sizeof context->regs);
    context->regs[RIP] = action.handler;
    context->regs[RSP] = sp;
    context->regs[RDI] = (uint64_t)number;
    context->regs[RSI] = sp + offsetof(struct tl_frame, info);
    context->regs[RDX] = sp + offsetof(struct tl_frame, context);
    context->regs[RAX] = 0;
    context->regs[EFLAGS] &= ~(uint64_t)(trap_flag | direction_flag | resume_flag);
    context->segments = handler_segments(context->segments);
    context->fpstate = 0; // a handler begins with a fresh vector state
    context->mask = thread->mask;
    tl_trace_signal(thread, info);
    return true;
}

// Gives the signal back to the kernel, which has it wait, blocked, until a sigreturn sets the program's mask.
static void postpone(struct tl_thread *thread, const struct tl_siginfo *info, struct tl_context *context)
{
    thread->waiting |= tl_bit(info->number);
    context->mask |= tl_bit(info->number);
    tl_raw(__NR_rt_tgsigqueueinfo, thread->pid, thread->tid, info->number, (long)info, 0, 0);
}

// Is the agent in a signal handler, or about to leave by a sigreturn? What the program goes on with is
// settled then. Few signals come there: those that the agent itself may need, when somebody sends them.
static bool is_settled(const struct tl_thread *thread, const struct tl_context *context)
{
    uint64_t on_stack =
        context->regs[RSP] - ((uint64_t)thread + tl_signal_stack); // 0: the agent's own, empty

    return is_within(context->regs[RIP], tl_sigreturn_start, tl_restorer_done) ||
           (on_stack - 1 < tl_thread_size - tl_signal_stack && is_in_agent(context->regs[RIP]));
}

// Keeps the signal until the call is over; nothing else comes meanwhile, but for what the call itself raises.
static void defer(struct tl_thread *thread, const struct tl_siginfo *info, struct tl_context *context)
{
    uint64_t save = (uint64_t)thread + tl_vector_save;
    size_t size = vector_size(context);

    if (thread->pending) {
        postpone(thread, info, context);
        return;
    }
    thread->deferred.context = *context;
    thread->deferred.info = *info;
    if (size > tl_vector_save_end - tl_vector_save)
        size = 0;
    __builtin_memcpy((void *)save, (const void *)context->fpstate, size);
    thread->deferred.context.fpstate = size ? save : 0;
    thread->pending = 1;
    context->mask |= tl_all_signals();
    uint64_t *rip = &context->regs[RIP];
    if (*rip >= (uint64_t)tl_perform_window && *rip <= (uint64_t)tl_perform_call)
        *rip = (uint64_t)tl_perform_window; // sees that a signal is pending
    if (*rip >= (uint64_t)tl_perform_int80_window && *rip <= (uint64_t)tl_perform_int80_call)
        *rip = (uint64_t)tl_perform_int80_window;
}

// A system call of the program: continue in the agent's body, on its stack, outside the handler.
static void trapped(struct tl_thread *thread, const struct tl_siginfo *info, struct tl_context *context)
{
    __builtin_memcpy(thread->regs, context->regs, sizeof thread->regs);
    thread->block = 0;
    thread->arch = info->sys.arch;
    thread->mask = context->mask;
    thread->segments = context->segments;
    thread->exact = thread->arch == arch_i386 || (uint16_t)context->segments != user_code_segment ||
                    context->regs[EFLAGS] & trap_flag;
    context->regs[RIP] = (uint64_t)tl_body;
    context->regs[RSP] = (uint64_t)thread + tl_stack_top;
    context->regs[RDI] = (uint64_t)thread;
    context->regs[EFLAGS] = plain_flags;
    context->segments = plain_segments;
}

void tl_on_signal(int number, struct tl_siginfo *info, struct tl_context *context)
{
    struct tl_thread *thread = tl_this_thread();
    uint64_t at[registers], rip = context->regs[RIP];

    thread->waiting &= ~tl_bit(number);
    bool is_ours_to_do =
        info->code == user_dispatch_code || (info->code == seccomp_code && info->error == tl_trap_data);
    if (number == SIGSYS && is_ours_to_do && !is_in_agent(rip)) {
        trapped(thread, info, context);
        return;
    }
    if (is_within(rip, tl_copy_start, tl_copy_end) && (number == SIGSEGV || number == SIGBUS) &&
        info->code > 0) {
        context->regs[RIP] = (uint64_t)tl_copy_failed;
        return;
    }
    bool is_filtered = number == SIGSYS && info->code == seccomp_code;
    if (is_filtered && is_within(rip, tl_image, tl_blocks_start)) {
        // By a filter of the program's own, which knows the call by the number that it finds in rax.
        if (thread->sleeps || (rip != (uint64_t)tl_perform_done && rip != (uint64_t)tl_perform_int80_done)) {
            context->regs[RAX] = (uint64_t)-ENOSYS; // but the agent makes some that the program does not
            return;
        }
        info->sys.address = thread->regs[RIP];
        thread->is_filtered = true;
        if (tl_mask_seen(thread) & tl_bit(SIGSYS) || thread->handlers->action[SIGSYS].handler <= 1)
            fall_back(thread, info);
        defer(thread, info, context);
        return;
    }
    if (is_unseen(thread, number, info)) {
        if (is_held(thread, number))
            hold(thread, number, info);
        repeat_call(thread, context);
        return;
    }
    if (info->code <= 0 && is_settled(thread, context)) {
        postpone(thread, info, context);
        return;
    }
    __builtin_memcpy(at, context->regs, sizeof at);
    bool is_step = number == SIGTRAP && info->code == trace_code;
    if ((number == SIGTRAP || number == SIGILL) && info->code > 0 && tl_process.patch_count) {
        if (is_step && tl_is_extra_step(rip))
            return;
        if (!is_step && tl_put_right(number, context->regs))
            return;
    }
    if (is_within(rip, tl_entry_start, tl_entry_end)) {
        at[RSP] = is_within(at[RSP], (const char *)thread, (const char *)thread + tl_thread_size)
                      ? thread->regs[RSP]
                      : at[RSP];
        at[RIP] = tl_patch_of_block(thread->block)->site;
    } else if (is_within(rip, tl_leave_start, tl_leave_end)) {
        if (number == SIGTRAP && info->code > 0)
            return; // the program single-steps, and will be back in its own code in a moment
        __builtin_memcpy(at, thread->regs, sizeof at);
        if (!thread->exact) {
            at[RCX] = at[RIP];
            at[R11] = at[EFLAGS];
        }
    } else if (is_within(rip, tl_image, tl_blocks_start)) {
        if (is_fault(number, info) && thread->sent != number)
            fall_back(thread, info); // a bug of ours
        else
            defer(thread, info, context);
        return;
    } else if (tl_process.patch_count && tl_show_program(at) && (is_filtered || is_step)) {
        info->sys.address = at[RIP];
    }
    thread->mask = context->mask;
    enter_handler(thread, number, info, context, at);
}

_Noreturn void tl_deliver(struct tl_thread *thread)
{
    struct tl_context *context = &thread->deferred.context;
    struct tl_siginfo info = thread->deferred.info;

    if (thread->exact)
        context->segments = thread->segments;
    if (!enter_handler(thread, info.number, &info, context, thread->regs)) {
        __builtin_memcpy(context->regs, thread->regs, sizeof context->regs);
        context->mask = thread->mask;
        tl_rules_handled(thread, thread->regs[RIP], thread->regs[RSP]);
    }
    tl_sigreturn(context);
}

// To the program with all of its registers, and with a fresh vector state.
_Noreturn void tl_resume_with(struct tl_thread *thread, tl_sigset mask)
{
    struct tl_context *context = &thread->deferred.context;

    thread->pending = 1; // what comes now waits
    *context = (struct tl_context){.mask = mask, .segments = plain_segments};
    context->flags = 2 | 4; // segments holds ss
    context->stack =
        (struct tl_stack){.sp = (uint64_t)thread + tl_signal_stack, .size = tl_thread_size - tl_signal_stack};
    if (thread->state != TL_THREAD_LIVE) // the agent has left it
        context->stack = (struct tl_stack){.flags = SS_DISABLE};
    __builtin_memcpy(context->regs, thread->regs, sizeof context->regs);
    tl_sigreturn(context);
}

long tl_call_rt_sigreturn(struct tl_thread *thread)
{
    uint64_t at = thread->regs[RSP];
    struct tl_context context;

    tl_block_signals(thread);
    if (!tl_read(&context, at, sizeof context)) {
        const struct tl_siginfo fault = {.number = SIGSEGV, .code = kernel_code};
        tl_force(thread, &fault);
        return 0;
    }
    // From here to the kernel's sigreturn nothing may come in between: what nevertheless does is postponed.
    if (__atomic_exchange_n(&thread->pending, 1, __ATOMIC_RELAXED)) {
        thread->aborted = 1;
        return 0;
    }
    struct tl_stack stack = context.stack;
    context.stack =
        (struct tl_stack){.sp = (uint64_t)thread + tl_signal_stack, .size = tl_thread_size - tl_signal_stack};
    thread->held_blocked = context.mask & tl_held_signals();
    context.mask &= ~(tl_held_signals() | tl_bit(SIGKILL) | tl_bit(SIGSTOP));
    thread->mask = context.mask;
    if (!tl_is_on_stack(&thread->stack, at)) {
        stack.flags &= ~SS_ONSTACK;
        thread->stack = stack.flags & SS_DISABLE ? (struct tl_stack){0} : stack;
    }
    tl_sigset due = thread->held_pending & ~thread->held_blocked;
    if (due) {
        // It comes at the very place where the frame leads to.
        int number = __builtin_ctzll(due) + 1;
        thread->held_pending &= ~tl_bit(number);
        tl_rules_handled(thread, context.regs[RIP], context.regs[RSP]);
        thread->deferred.context = context;
        thread->deferred.info = *tl_held_info(thread, number);
        __builtin_memcpy(thread->regs, context.regs, sizeof thread->regs);
        return (long)context.regs[RAX];
    }
    tl_rules_handled(thread, context.regs[RIP], context.regs[RSP]);
    thread->mask_is_full = false;
    tl_trace_returned(thread, context.mask | thread->held_blocked, (long)context.regs[RAX]);
    thread->deferred.context = context; // the frame is the program's, and may be read-only
    tl_sigreturn(&thread->deferred.context);
}
