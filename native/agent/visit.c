// A running program that the agent enters or leaves. The supervisor has stopped all its threads, each where
// the program is at work or waits in a call, and runs this in one after the other.
#include "inside.h"

#include <asm/unistd.h>

enum {
    SS_DISABLE = 2,
    SS_ONSTACK = 1,
    dispatch_on = 1,
    arch_x86_64 = (int)0xc000003e,
    page = 4096,
};

static void set_dispatch(uint64_t dispatch[4], uint64_t mode, uint64_t offset, uint64_t size,
                         uint64_t selector)
{
    dispatch[0] = mode;
    dispatch[1] = offset;
    dispatch[2] = size;
    dispatch[3] = selector;
}

// The kernel goes on with a call only where it was made, or from the one instruction that stands for that
// here: a signal frame, which is how a call of the program gets here, would end it.
static void take_over_call(struct tl_thread *thread, uint64_t at[registers])
{
    uint64_t *stack = (uint64_t *)((uint64_t)thread + tl_stack_top);

    *--stack = (uint64_t)tl_restarted;
    *--stack = 0; // rbx there
    thread->nr = __NR_restart_syscall;
    thread->arch = (uint32_t)arch_x86_64;
    at[RIP] = (uint64_t)tl_perform_done;
    at[RSP] = (uint64_t)stack;
    at[RBX] = (uint64_t)thread;
}

static struct tl_thread *first_record(void)
{
    struct tl_thread *thread = (struct tl_thread *)(tl_image + tl_first);

    return tl_begin_process(thread) ? thread : NULL;
}

static struct tl_thread *further_record(void)
{
    struct tl_thread *thread = tl_thread_new();

    if (!thread)
        return NULL;
    uint32_t index = thread->index;
    __builtin_memset(thread, 0, sizeof *thread);
    thread->self = thread;
    thread->index = index;
    thread->state = TL_THREAD_LIVE;
    thread->pid = tl_process.pid;
    thread->tid = (int32_t)tl_call3(__NR_gettid, 0, 0, 0);
    thread->handlers = &tl_process.handlers[0];
    thread->handlers->users++;
    tl_set_segment(thread);
    return thread;
}

const uint64_t *tl_enter_thread(void)
{
    struct tl_visit *visit = &tl_process.visit;
    struct tl_thread *thread = visit->is_first ? first_record() : further_record();

    if (!thread) {
        visit->has_failed = 1;
        return visit->dispatch;
    }
    thread->outer_pid = visit->pid;
    thread->outer_tid = visit->tid;
    if (visit->is_first)
        tl_process.outer_pid = visit->pid;
    if (thread->outer_tid != thread->tid)
        tl_session.namespaces = 1;
    thread->dispatch_mode = visit->dispatch[0];
    thread->dispatch_offset = visit->dispatch[1];
    thread->dispatch_size = visit->dispatch[2];
    thread->dispatch_selector = visit->dispatch[3];
    if (thread->dispatch_mode)
        tl_process.no_patches = 1;
    __builtin_memcpy(thread->regs, visit->registers, sizeof thread->regs);
    thread->mask = visit->mask & ~tl_held_signals();
    thread->held_blocked = visit->mask & tl_held_signals();
    visit->mask = thread->mask;
    tl_call3(__NR_sigaltstack, 0, (long)&thread->stack, 0);
    if (thread->stack.flags & SS_DISABLE)
        thread->stack = (struct tl_stack){0};
    thread->stack.flags &= ~SS_ONSTACK;
    tl_find_clock(thread);
    tl_set_signal_stack(thread);
    if (visit->is_restarted)
        take_over_call(thread, visit->registers);
    set_dispatch(visit->dispatch, dispatch_on, (uint64_t)tl_image, tl_data, 0);
    return visit->dispatch;
}

// A handler ends such a call; nobody but the kernel knows how it would be made anew.
void tl_go_on(struct tl_thread *thread, long result)
{
    thread->regs[RAX] = (uint64_t)(thread->aborted ? -EINTR : result);
    thread->leave_to = thread->regs[RIP];
}

static struct tl_thread *find_thread(int32_t tid)
{
    struct tl_process *process = &tl_process;

    for (uint32_t i = 0; i < process->thread_count; i++)
        if (process->threads[i]->state == TL_THREAD_LIVE && process->threads[i]->tid == tid)
            return process->threads[i];
    return NULL;
}

// Makes of the registers of a thread that waits for the result of its call what they are in the program.
static struct tl_thread *show_call(uint64_t at[registers])
{
    struct tl_thread *thread = (struct tl_thread *)(at[RSP] & -(uint64_t)tl_thread_size);
    uint64_t result = at[RAX];

    __builtin_memcpy(at, thread->regs, sizeof thread->regs);
    if (thread->sleeps == TL_SLEEPS_BEFORE)
        at[RIP] -= 2; // its call is made without us
    else
        at[RAX] = thread->sleeps ? (uint64_t)thread->result : result;
    if (!thread->exact) {
        at[RCX] = at[RIP];
        at[R11] = at[EFLAGS];
    }
    return thread;
}

static void unmap(uint64_t start, uint64_t size)
{
    if (start)
        tl_call3(__NR_munmap, (long)start, (long)size, 0);
}

// All but the region, from which this runs; with no thread of this process in it any more. One that has come
// by vfork shares its memory with its parent.
static void give_back_all(struct tl_visit *visit)
{
    struct tl_process *process = &tl_process;
    int32_t pid = (int32_t)tl_call3(__NR_getpid, 0, 0, 0);

    for (uint32_t i = 0; i < process->thread_count; i++) {
        const struct tl_thread *thread = process->threads[i];
        if (thread->state == TL_THREAD_LIVE && thread->pid != pid &&
            tl_call3(__NR_tgkill, thread->pid, thread->tid, 0) == 0)
            visit->is_shared = 1;
    }
    if (visit->is_shared)
        return;
    for (uint32_t i = 0; i < process->thread_count; i++) {
        struct tl_thread *thread = process->threads[i];
        unmap(thread->room, thread->room_size);
        unmap((uint64_t)thread->ring_at, 2 * tl_ring_size);
        if (i)
            unmap((uint64_t)thread, tl_thread_size);
    }
    for (uint32_t i = 0; i < process->near_count; i++)
        unmap(process->nears[i].page, tl_near_size);
    unmap((uint64_t)process->low_page, page);
    tl_call3(__NR_close, process->start.socket_fd, 0, 0);
    tl_call3(__NR_close, process->start.memory_fd, 0, 0);
}

const uint64_t *tl_leave_thread(void)
{
    struct tl_visit *visit = &tl_process.visit;
    uint64_t *at = visit->registers, rip = at[RIP];
    struct tl_thread *thread = find_thread((int32_t)tl_call3(__NR_gettid, 0, 0, 0));

    if (rip == (uint64_t)tl_perform_done || rip == (uint64_t)tl_perform_int80_done)
        thread = show_call(at);
    else
        tl_show_program(at);
    if (visit->is_first)
        tl_give_back_process();
    set_dispatch(visit->dispatch, 0, 0, 0, 0);
    if (thread) {
        visit->mask |= thread->held_blocked;
        set_dispatch(visit->dispatch, thread->dispatch_mode, thread->dispatch_offset, thread->dispatch_size,
                     thread->dispatch_selector);
        if (visit->is_first)
            tl_give_back_handlers(thread->handlers);
        tl_release_held(thread, 0);
        thread->state = TL_THREAD_UNUSED;
        tl_give_back_thread(thread);
    }
    if (visit->is_last)
        give_back_all(visit);
    return visit->dispatch;
}
