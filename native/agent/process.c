// Beginning and end of programs and threads.
#include "inside.h"

#include <asm/unistd.h>

enum {
    PROT_RW = 3,
    PROT_RX = 5,
    MAP_SHARED = 1,
    MAP_PRIVATE = 2,
    MAP_FIXED = 0x10,
    MAP_ANONYMOUS = 0x20,
    MAP_FIXED_NOREPLACE = 0x100000,
    highest_low = 0x7fe00000,
    low_step = 0x10000,
    PR_SET_SYSCALL_USER_DISPATCH = 59,
    PR_SET_NO_NEW_PRIVS = 38,
    PR_GET_TSC = 25,
    PR_TSC_SIGSEGV = 2,
    SECCOMP_SET_MODE_FILTER = 1,
    verdict_trap = 0x00030000,
    verdict_allow = 0x7fff0000,
    EACCES = 13,
    CLONE_VM = 0x100,
    CLONE_SIGHAND = 0x800,
    CLONE_VFORK = 0x4000,
    CLONE_NEWPID = 0x20000000,
    page = 4096,
    segment_slot = 14, // the last of the three that a thread has in the GDT
    set_thread_area_by_int80 = 243,
};
static const uint64_t CLONE_CLEAR_SIGHAND = 0x100000000;

// A segment of this thread's own whose limit is its index: code in blocks finds the record by it.
__attribute__((noinline, noclone)) void tl_set_segment(struct tl_thread *thread)
{
    enum { is_32_bit = 1, is_read_only = 1 << 3, is_absent = 1 << 5, is_usable = 1 << 6 };
    struct tl_process *process = &tl_process;
    bool is_used = thread->state == TL_THREAD_LIVE;
    long result;

    if (!process->low_page)
        return;
    tl_lock(&process->lock);
    process->low_page[0] = segment_slot;
    process->low_page[1] = 0;
    process->low_page[2] = is_used ? thread->index : 0;
    process->low_page[3] = is_used ? is_32_bit | is_usable : is_read_only | is_absent;
    __asm__ volatile("int $0x80\n"
                     ".globl tl_segment_done\n.hidden tl_segment_done\ntl_segment_done:"
                     : "=a"(result)
                     : "a"(set_thread_area_by_int80), "b"(process->low_page)
                     : "r8", "r9", "r10", "r11", "memory");
    tl_unlock(&process->lock);
    process->has_segment = result == 0;
    process->segment = segment_slot << 3 | 3;
}

// May the time stamp counter be read? New threads and programs inherit that.
void tl_find_clock(struct tl_thread *thread)
{
    int32_t mode = 0;

    tl_raw(__NR_prctl, PR_GET_TSC, (long)&mode, 0, 0, 0, 0);
    thread->has_no_clock = mode == PR_TSC_SIGSEGV;
}

void tl_set_signal_stack(struct tl_thread *thread)
{
    struct tl_stack stack = {.sp = (uint64_t)thread + tl_signal_stack,
                             .size = tl_thread_size - tl_signal_stack};

    tl_call3(__NR_sigaltstack, (long)&stack, 0, 0);
}

// Everything that the kernel keeps per thread and that a new thread does not inherit.
static long arm(struct tl_thread *thread)
{
    tl_set_signal_stack(thread);
    if (tl_session.flags & TL_ENGINE_TRAP)
        return 0;
    return tl_raw(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, 1, (long)tl_image, tl_data, 0, 0);
}

// For the trap engine: what is not in the allowed range traps, in this thread and all that come from it, for
// ever. The region is at the same place in every program of the session, so that an execve can be survived:
// the supervisor puts the agent into a new one by calls of mmap that bear the session's secret. What is in
// the vsyscall page makes no system call.
static long install_filter(void)
{
    const uint64_t image = (uint64_t)tl_image;
    const uint32_t low = (uint32_t)image, high = (uint32_t)(image >> 32);
    const struct tl_bpf filter[] = {
        {0x20, 0, 0, 12},                          //  0 upper half of the instruction pointer
        {0x15, 4, 0, 0xffffffff},                  //  1 perhaps the vsyscall page: 6
        {0x15, 0, 5, high},                        //  2 elsewhere: 8
        {0x20, 0, 0, 8},                           //  3 lower half
        {0x35, 0, 3, low},                         //  4 below the image: 8
        {0x35, 2, 7, low + tl_data},               //  5 behind what is allowed: 8, else 13
        {0x20, 0, 0, 8},                           //  6
        {0x35, 5, 0, 0xff600000},                  //  7 the vsyscall page: 13
        {0x20, 0, 0, 0},                           //  8 the number
        {0x15, 0, 2, __NR_mmap},                   //  9 else 12
        {0x20, 0, 0, 52},                          // 10 the descriptor's upper half, which the kernel ignores
        {0x15, 1, 0, tl_session.secret},           // 11 the supervisor: 13
        {0x06, 0, 0, verdict_trap | tl_trap_data}, // 12
        {0x06, 0, 0, verdict_allow},               // 13
    };
    const struct {
        uint16_t length;
        const struct tl_bpf *filter;
    } program = {sizeof filter / sizeof *filter, filter};

    long result = tl_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program);
    if (result == -EACCES) {
        // Without CAP_SYS_ADMIN a filter needs no_new_privs; with it, set-user-ID programs are not touched.
        tl_raw(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
        result = tl_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program);
    }
    return result;
}

// Once for each record: by the thread that ends, or by whoever finds that it has ended otherwise.
static void handlers_leave(struct tl_thread *thread)
{
    struct tl_handlers *handlers = __atomic_exchange_n(&thread->handlers, NULL, __ATOMIC_ACQ_REL);

    if (handlers)
        __atomic_sub_fetch(&handlers->users, 1, __ATOMIC_RELEASE);
}

// Processes that share this memory may end without a call of theirs.
static void reap(struct tl_process *process)
{
    for (uint32_t i = 0; i < process->thread_count; i++) {
        struct tl_thread *thread = process->threads[i];
        if (thread->state == TL_THREAD_LIVE && thread->tid && thread->pid != process->pid &&
            tl_call3(__NR_tgkill, thread->pid, thread->tid, 0) == -ESRCH) {
            handlers_leave(thread);
            thread->state = TL_THREAD_UNUSED;
        }
    }
}

struct tl_thread *tl_thread_new(void)
{
    struct tl_process *process = &tl_process;
    struct tl_thread *thread = NULL;

    tl_lock(&process->lock);
    if (process->thread_count % 64 == 63)
        reap(process);
    for (uint32_t i = 0; i < process->thread_count && !thread; i++) {
        struct tl_thread *old = process->threads[i];
        if (old->state == TL_THREAD_ENDING && tl_call3(__NR_tgkill, old->pid, old->tid, 0) == -ESRCH)
            old->state = TL_THREAD_UNUSED;
        if (old->state == TL_THREAD_UNUSED)
            thread = old;
    }
    if (!thread && process->thread_count < threads_max) {
        long area = tl_raw(__NR_mmap, 0, 2 * tl_thread_size, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!tl_is_error(area)) {
            long aligned = (area + tl_thread_size - 1) & -(long)tl_thread_size;
            if (aligned > area)
                tl_call3(__NR_munmap, area, aligned - area, 0);
            if (area + tl_thread_size > aligned)
                tl_call3(__NR_munmap, aligned + tl_thread_size, area + tl_thread_size - aligned, 0);
            thread = (struct tl_thread *)aligned;
            thread->self = thread;
            thread->index = process->thread_count;
            process->threads[process->thread_count++] = thread;
        }
    }
    if (thread) {
        thread->state = TL_THREAD_LIVE;
        tl_mailbox_leave(thread); // of who had this record before
    }
    tl_unlock(&process->lock);
    return thread;
}

static struct tl_handlers *handlers_copy(const struct tl_handlers *from)
{
    struct tl_process *process = &tl_process;
    struct tl_handlers *copy = NULL;

    tl_lock(&process->lock);
    for (int tries = 0; tries < 2 && !copy; tries++) {
        for (size_t i = 0; i < sizeof process->handlers / sizeof *process->handlers && !copy; i++)
            if (!process->handlers[i].users)
                copy = &process->handlers[i];
        if (!copy)
            reap(process);
    }
    if (copy) {
        *copy = *from;
        copy->users = 1;
    }
    tl_unlock(&process->lock);
    return copy;
}

// As high as 31 bits reach, since heaps grow from below; NULL where all is taken.
static uint32_t *map_low_page(void)
{
    for (long at = highest_low; at > highest_low / 2; at -= low_step) {
        long got =
            tl_raw(__NR_mmap, at, page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == at)
            return (uint32_t *)got;
    }
    return NULL;
}

// With its first thread, whose record is the first one.
bool tl_begin_process(struct tl_thread *thread)
{
    struct tl_process *process = &tl_process;
    long blocks = tl_raw(__NR_mmap, (long)tl_blocks_start, tl_data - tl_blocks, PROT_RX,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    long session = tl_raw(__NR_mmap, (long)&tl_session, tl_shared_size, PROT_RW, MAP_SHARED | MAP_FIXED,
                          process->start.memory_fd, (long)process->start.image_size);

    if (tl_is_error(blocks) || tl_is_error(session))
        return false;
    thread->self = thread;
    thread->state = TL_THREAD_LIVE;
    thread->pid = process->pid = (int32_t)tl_call3(__NR_getpid, 0, 0, 0);
    thread->tid = (int32_t)tl_call3(__NR_gettid, 0, 0, 0);
    thread->handlers = &process->handlers[0];
    thread->handlers->users = 1;
    process->threads[0] = thread;
    process->thread_count = 1;
    process->report = tl_report_new(process->pid);
    if (tl_session.flags & TL_ENGINE_REWRITES) {
        process->low_page = map_low_page();
        tl_set_segment(thread);
    }
    tl_find_clock(thread);
    tl_install_handlers(thread->handlers, true);
    return true;
}

// The first thread of a new program.
_Noreturn void tl_begin(struct tl_thread *thread)
{
    struct tl_process *process = &tl_process;

    tl_begin_process(thread);
    __builtin_memcpy(thread->regs, process->start.registers, sizeof thread->regs);
    thread->mask = process->start.signal_mask & ~tl_held_signals();
    thread->held_blocked = process->start.signal_mask & tl_held_signals();
    for (int number = 1; number <= signals; number++)
        if (process->start.ignored & tl_bit(number))
            thread->handlers->action[number].handler = 1;
    tl_find_out(thread);
    process->outer_pid = thread->outer_pid;
    tl_trace_begin_program(thread);
    // A filter outlives an execve: only the first program of a session installs it.
    bool is_first = !__atomic_exchange_n(&tl_session.begun, 1, __ATOMIC_RELAXED);
    long result = arm(thread);
    if (!result && is_first && tl_session.flags & TL_ENGINE_TRAP)
        result = install_filter();
    if (result) {
        tl_warn(thread, TL_UNHOOKED_UNARMED, result, 0);
        if (is_first)
            tl_raw(__NR_exit_group, 125, 0, 0, 0, 0, 0);
        tl_leave_program(thread);
        tl_resume_with(thread, tl_mask_seen(thread));
    }
    tl_resume_with(thread, thread->mask);
}

// In the child, on its own stack, with every signal blocked.
void tl_child_start(struct tl_thread *thread)
{
    struct tl_process *process = &tl_process;
    bool own_memory = !(thread->clone_flags & CLONE_VM);

    thread->tid = (int32_t)tl_call3(__NR_gettid, 0, 0, 0);
    thread->pid = (int32_t)tl_call3(__NR_getpid, 0, 0, 0);
    if (own_memory) {
        // The other threads were not forked.
        for (uint32_t i = 0; i < process->thread_count; i++) {
            process->threads[i]->state = process->threads[i] == thread ? TL_THREAD_LIVE : TL_THREAD_UNUSED;
            process->threads[i]->mailbox = NULL; // it is the parent's
            tl_trace_forget(process->threads[i]);
        }
        for (size_t i = 0; i < sizeof process->handlers / sizeof *process->handlers; i++)
            process->handlers[i].users = &process->handlers[i] == thread->handlers;
        process->pid = thread->pid;
        process->lock = process->patch_lock = process->is_writing = 0;
        process->report = tl_report_new(process->pid);
        thread->dispatch_mode = 0; // not inherited
        thread->held_pending = 0;
    } else {
        tl_set_segment(thread);
    }
    tl_find_out(thread);
    tl_rules_begin(thread);
    if (own_memory)
        process->outer_pid = thread->outer_pid;
    if (thread->clone_flags & CLONE_CLEAR_SIGHAND) {
        for (int number = 1; number <= signals; number++)
            if (thread->handlers->action[number].handler > 1)
                thread->handlers->action[number] = (struct tl_action){0};
        tl_install_handlers(thread->handlers, false);
    }
    arm(thread);
    thread->regs[RAX] = 0;
    thread->leave_to =
        thread->block ? thread->block + (uint64_t)(tl_gate_after - tl_gate) : thread->regs[RIP];
    tl_restore_signals(thread);
}

static bool clone_arguments(struct tl_thread *thread, uint64_t *flags, uint64_t *stack)
{
    uint64_t fields[8];

    *stack = 0;
    switch (thread->kind) {
    case __NR_fork:
        *flags = 0;
        return true;
    case __NR_vfork:
        *flags = CLONE_VM | CLONE_VFORK;
        return true;
    case __NR_clone:
        *flags = (uint32_t)thread->args[0];
        *stack = thread->args[1];
        return true;
    default:
        if (thread->args[1] < sizeof fields || !tl_read(fields, thread->args[0], sizeof fields))
            return false;
        *flags = fields[0];
        *stack = fields[5] ? fields[5] + fields[6] : 0;
        return true;
    }
}

// fork, vfork, clone, clone3. The kernel gets the arguments as they are; only where the child begins is ours.
long tl_call_clone(struct tl_thread *thread)
{
    struct tl_process *process = &tl_process;
    struct tl_thread *child = thread;
    uint64_t flags, stack;
    long result;

    if (!clone_arguments(thread, &flags, &stack))
        return tl_perform(thread); // it will fail
    tl_block_all(thread);          // a child is not to find one that came to its parent
    if (thread->pending) {
        thread->aborted = 1;
        return 0;
    }
    if (flags & CLONE_VM) {
        child = tl_thread_new();
        if (!child) {
            tl_restore_signals(thread);
            return -EAGAIN;
        }
        struct tl_thread fresh = {
            .self = child,
            .ring_at = child->ring_at,
            .index = child->index,
            .state = TL_THREAD_LIVE,
            .mask = thread->mask,
            .held_blocked = thread->held_blocked,
            .handlers = thread->handlers,
            .arch = thread->arch,
            .block = thread->block,
            .exact = thread->exact,
            .segments = thread->segments,
            .has_no_clock = thread->has_no_clock,
        };
        __builtin_memcpy(fresh.regs, thread->regs, sizeof fresh.regs);
        if (flags & CLONE_VFORK)
            fresh.stack = thread->stack;
        *child = fresh;
        if (flags & CLONE_SIGHAND)
            __atomic_add_fetch(&child->handlers->users, 1, __ATOMIC_RELAXED);
        else
            child->handlers = handlers_copy(thread->handlers);
        if (!child->handlers) {
            child->state = TL_THREAD_UNUSED;
            tl_restore_signals(thread);
            return -EAGAIN;
        }
        if (stack)
            child->regs[RSP] = stack;
    }
    child->clone_flags = flags;
    if (flags & CLONE_NEWPID)
        tl_session.namespaces = 1;
    uint64_t sp = thread->regs[RSP];
    if (!(flags & CLONE_VM)) {
        tl_lock(&process->lock); // so that the child finds what it guards whole
        if (stack)
            thread->regs[RSP] = stack;
    }
    result = tl_clone(thread, child);
    thread->regs[RSP] = sp;
    if (!(flags & CLONE_VM)) {
        tl_unlock(&process->lock);
    } else if (tl_is_error(result) || flags & CLONE_VFORK) {
        handlers_leave(child);
        child->state = TL_THREAD_UNUSED;
    }
    tl_restore_signals(thread);
    return result;
}

// The mailboxes of other threads are found by the supervisor when there is want of them.
long tl_call_exit_group(struct tl_thread *thread)
{
    tl_mailbox_leave(thread);
    return tl_perform(thread);
}

long tl_call_exit(struct tl_thread *thread)
{
    tl_block_all(thread); // its actions are not there for long
    tl_mailbox_leave(thread);
    handlers_leave(thread);
    tl_exit_thread((long)thread->args[0], &thread->state);
}
