// Syscall User Dispatch of the program itself: the kernel knows only ours, so the program's is done here.
#include "inside.h"

#include <asm/unistd.h>

enum {
    PR_SET_SECCOMP = 22,
    PR_SET_TSC = 26,
    PR_SET_SYSCALL_USER_DISPATCH = 59,
    off = 0,
    exclusive = 1,
    inclusive = 2,
    allow = 0,
    block = 1,
    user_dispatch_code = 2,
};

long tl_call_prctl(struct tl_thread *thread)
{
    uint64_t mode = thread->args[1], offset = thread->args[2], size = thread->args[3],
             selector = thread->args[4];
    uint8_t byte;

    if (thread->args[0] == PR_SET_SECCOMP)
        return tl_call_seccomp(thread);
    if (thread->args[0] == PR_SET_TSC) {
        long result = tl_perform(thread);
        tl_find_clock(thread);
        return result;
    }
    if (thread->args[0] != PR_SET_SYSCALL_USER_DISPATCH)
        return tl_perform(thread);
    switch (mode) {
    case off:
        if (offset || size || selector)
            return -EINVAL;
        break;
    case exclusive:
        if (offset && offset + size <= offset)
            return -EINVAL;
        break;
    case inclusive:
        if (!size || offset + size <= offset)
            return -EINVAL;
        break;
    default:
        return -EINVAL;
    }
    if (mode != off && selector && !tl_read(&byte, selector, 1))
        return -EFAULT;
    if (mode != off)
        tl_patches_stop();
    thread->dispatch_mode = mode;
    thread->dispatch_offset = offset;
    thread->dispatch_size = size;
    thread->dispatch_selector = selector;
    return 0;
}

bool tl_is_dispatched(struct tl_thread *thread)
{
    bool is_inside = thread->regs[RIP] - thread->dispatch_offset < thread->dispatch_size;
    uint8_t selector = block;

    if (is_inside == (thread->dispatch_mode == exclusive))
        return false;
    if (thread->dispatch_selector && !tl_read(&selector, thread->dispatch_selector, 1)) {
        struct tl_siginfo fault = {.number = SIGSEGV, .code = 0x80};
        tl_force(thread, &fault);
        return true;
    }
    if (selector == allow)
        return false;
    struct tl_siginfo info = {.number = SIGSYS, .code = user_dispatch_code};
    if (selector != block)
        thread->handlers->action[SIGSYS].handler = 0; // as the kernel does: that is the end
    info.sys.address = thread->regs[RIP];
    info.sys.call = (int32_t)thread->nr;
    info.sys.arch = thread->arch;
    tl_force(thread, &info);
    return true;
}
