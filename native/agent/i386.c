// Calls by the 32-bit convention, int 0x80, from a 64-bit program. What the agent does itself is done as for
// the native call of the same kind; where the kernel is asked, it is by int 0x80 too. Structures differ.
#include "inside.h"

#include <asm/unistd.h>

enum {
    CLONE_SETTLS = 0x80000,
    none = -1, // no native call that the agent would have to see
};

static const struct {
    int16_t nr, native;
} kinds[] = {
    {1, __NR_exit},
    {2, __NR_fork},
    {6, __NR_close},
    {11, __NR_execve},
    {41, __NR_dup},
    {55, __NR_fcntl},
    {63, __NR_dup2},
    {91, __NR_munmap},
    {120, __NR_clone},
    {125, __NR_mprotect},
    {126, __NR_rt_sigprocmask},
    {163, __NR_mremap},
    {174, __NR_rt_sigaction},
    {175, __NR_rt_sigprocmask},
    {176, __NR_rt_sigpending},
    {186, __NR_sigaltstack},
    {190, __NR_vfork},
    {192, __NR_mmap},
    {219, __NR_madvise},
    {221, __NR_fcntl},
    {330, __NR_dup3},
    {358, __NR_execveat},
    {380, __NR_pkey_mprotect},
    {435, __NR_clone3},
    {436, __NR_close_range},
};

enum { old_sigprocmask = 126 };

struct action32 {
    uint32_t handler, flags, restorer, mask[2];
};

struct stack32 {
    uint32_t sp;
    int32_t flags;
    uint32_t size;
};

static long change_action(struct tl_thread *thread)
{
    uint64_t new_at = thread->args[1], old_at = thread->args[2];
    struct action32 short_action;
    struct tl_action action, old;

    if (new_at && !tl_read(&short_action, new_at, sizeof short_action))
        return -EFAULT;
    action = (struct tl_action){short_action.handler, short_action.flags, short_action.restorer,
                                short_action.mask[0] | (tl_sigset)short_action.mask[1] << 32};
    long result = tl_change_action(thread, (int)thread->args[0], new_at ? &action : NULL, &old);
    if (result || !old_at)
        return result;
    short_action = (struct action32){(uint32_t)old.handler,
                                     (uint32_t)old.flags,
                                     (uint32_t)old.restorer,
                                     {(uint32_t)old.mask, (uint32_t)(old.mask >> 32)}};
    return tl_write(old_at, &short_action, sizeof short_action) ? 0 : -EFAULT;
}

static long change_stack(struct tl_thread *thread)
{
    uint64_t new_at = thread->args[0], old_at = thread->args[1];
    struct tl_stack old = tl_stack_seen(thread, thread->regs[RSP]);
    struct stack32 wanted, seen = {(uint32_t)old.sp, old.flags, (uint32_t)old.size};

    if (new_at) {
        if (!tl_read(&wanted, new_at, sizeof wanted))
            return -EFAULT;
        const struct tl_stack stack = {.sp = wanted.sp, .flags = wanted.flags, .size = wanted.size};
        long result = tl_change_stack(thread, &stack);
        if (result)
            return result;
    }
    return old_at && !tl_write(old_at, &seen, sizeof seen) ? -EFAULT : 0;
}

// The mask of the first 32 signals.
static long change_mask32(struct tl_thread *thread)
{
    uint64_t new_at = thread->args[1], old_at = thread->args[2];
    tl_sigset old = tl_mask_seen(thread), set = 0;
    uint32_t low = (uint32_t)old;

    if (new_at && !tl_read(&set, new_at, sizeof low))
        return -EFAULT;
    if (new_at) {
        if ((int)thread->args[0] == 2) // SIG_SETMASK leaves the others as they are
            set |= old >> 32 << 32;
        long result = tl_change_mask(thread, (int)thread->args[0], set);
        if (result)
            return result;
    }
    return old_at && !tl_write(old_at, &low, sizeof low) ? -EFAULT : 0;
}

// The new task is made by the native call, since it begins in the agent.
static long clone(struct tl_thread *thread)
{
    int64_t nr = thread->nr;
    uint64_t last = thread->args[4];
    uint32_t arch = thread->arch;
    long result;

    if (thread->kind == __NR_clone) {
        if (thread->args[0] & CLONE_SETTLS)
            return -EINVAL; // a descriptor of a segment: nobody does so from 64-bit code
        thread->args[4] = thread->args[3];
        thread->args[3] = last;
    }
    thread->nr = thread->kind;
    thread->arch = 0;
    result = tl_call_clone(thread);
    thread->nr = nr;
    thread->arch = arch;
    return result;
}

bool tl_do_i386(struct tl_thread *thread, long *result)
{
    thread->kind = none;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].nr == (int32_t)thread->nr)
            thread->kind = kinds[i].native;
    switch (thread->kind) {
    case __NR_rt_sigaction:
        *result = thread->args[3] == sizeof(tl_sigset) ? change_action(thread) : -EINVAL;
        return true;
    case __NR_sigaltstack:
        *result = change_stack(thread);
        return true;
    case __NR_fork:
    case __NR_vfork:
    case __NR_clone:
    case __NR_clone3:
        *result = clone(thread);
        return true;
    case __NR_rt_sigprocmask:
        if ((int32_t)thread->nr != old_sigprocmask)
            return false;
        *result = change_mask32(thread);
        return true;
    }
    return false;
}
