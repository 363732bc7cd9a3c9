// What happens to a system call of the program.
#include "inside.h"

#include <asm/unistd.h>

enum {
    arch_i386 = 0x40000003,
    arch_x86_64 = (int)0xc000003e,
    // SECCOMP_RET_*: what the session's program says
    verdict_hook = 0x7fc00000,
    verdict_errno = 0x00050000,
    verdict_action = 0x7fff0000,
    verdict_data = 0xffff,
};

// What the agent must do itself for the program not to notice it.
long tl_do_call(struct tl_thread *thread)
{
    thread->kind = (int)thread->nr;
    if (thread->arch == arch_i386) {
        long result;
        if (tl_do_i386(thread, &result))
            return result;
    }
    switch (thread->kind) {
    case __NR_rt_sigaction:
        return tl_call_rt_sigaction(thread);
    case __NR_rt_sigprocmask:
        return tl_call_rt_sigprocmask(thread);
    case __NR_rt_sigpending:
        return tl_call_rt_sigpending(thread);
    case __NR_rt_sigtimedwait:
        return tl_call_rt_sigtimedwait(thread);
    case __NR_rt_sigreturn:
        return tl_call_rt_sigreturn(thread);
    case __NR_sigaltstack:
        return tl_call_sigaltstack(thread);
    case __NR_rt_sigsuspend:
    case __NR_ppoll:
    case __NR_pselect6:
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
    case __NR_io_pgetevents:
        return tl_call_masked(thread);
    case __NR_fork:
    case __NR_vfork:
    case __NR_clone:
    case __NR_clone3:
        return tl_call_clone(thread);
    case __NR_exit:
        return tl_call_exit(thread);
    case __NR_exit_group:
        return tl_call_exit_group(thread);
    case __NR_execve:
    case __NR_execveat:
        return tl_call_execve(thread);
    case __NR_getdents64:
        return tl_call_getdents64(thread);
    case __NR_seccomp:
        return tl_call_seccomp(thread);
    case __NR_ptrace:
        return tl_call_ptrace(thread);
    case __NR_membarrier:
        return tl_call_membarrier(thread);
    case __NR_prctl:
        return tl_call_prctl(thread);
    case __NR_unshare:
    case __NR_setns:
        return tl_call_namespace(thread);
    case __NR_fcntl:
    case __NR_dup:
    case __NR_fstat:
    case __NR_ioctl:
        return tl_call_probing(thread);
    case __NR_newfstatat:
    case __NR_statx:
        return tl_call_stat_at(thread);
    case __NR_close:
        return tl_call_close(thread);
    case __NR_close_range:
        return tl_call_close_range(thread);
    case __NR_dup2:
    case __NR_dup3:
        return tl_call_dup2(thread);
    case __NR_munmap:
    case __NR_mprotect:
    case __NR_pkey_mprotect:
    case __NR_madvise:
    case __NR_mremap:
    case __NR_mmap:
    case __NR_shmat:
        return tl_call_memory(thread);
    default:
        return tl_perform(thread);
    }
}

// What the session's program says. Native calls that it does not leave alone are of interest to somebody.
static uint32_t verdict_of(const struct tl_thread *thread)
{
    uint32_t nr = (uint32_t)thread->nr;

    if (!tl_session.program_length ||
        (thread->arch != arch_i386 && nr < tl_calls && !tl_session.interest[nr]))
        return 0;
    return tl_bpf_run(thread);
}

static bool is_constant(const struct tl_thread *thread)
{
    uint32_t nr = (uint32_t)thread->nr;

    return thread->arch != arch_i386 && nr < tl_calls && tl_session.constant[nr];
}

// Hooks and the kernel, for a call that no rule has decided or whose result somebody wants.
static long decide(struct tl_thread *thread, bool decided, long result)
{
    uint32_t verdict = verdict_of(thread);
    bool wanted = verdict == verdict_hook;

    if (!decided && (verdict & verdict_action) == verdict_errno)
        return -(long)(verdict & verdict_data);
    // What is decided there has been shown to those who want results.
    if (!decided && wanted && tl_is_wanted(thread, TL_WANTS_BEFORE) &&
        tl_ask_hooks(thread, TL_REQUEST_CALL, &result))
        return result;
    if (!decided)
        result = tl_do_call(thread);
    if (thread->aborted)
        tl_rules_aborted(thread);
    else
        tl_rules_after(thread, result);
    if (wanted && !thread->aborted && !thread->is_filtered && tl_is_wanted(thread, TL_WANTS_RESULT))
        tl_ask_hooks(thread, TL_REQUEST_RESULT, &result);
    return result;
}

static void handle(struct tl_thread *thread)
{
    static const uint8_t x86_64[6] = {RDI, RSI, RDX, R10, R8, R9}, i386[6] = {RBX, RCX, RDX, RSI, RDI, RBP};
    const uint8_t *order = thread->arch == arch_i386 ? i386 : x86_64;

    thread->nr = (int64_t)thread->regs[RAX];
    for (int i = 0; i < 6; i++)
        thread->args[i] = thread->regs[order[i]];
    thread->aborted = 0;
    thread->is_filtered = false;
    if (thread->dispatch_mode && tl_is_dispatched(thread))
        return;
    if (thread->is_strict)
        tl_check_strict(thread);
    long result = 0;
    thread->is_recorded = false;
    if (tl_session.capture.on)
        tl_trace_before(thread);
    if (is_constant(thread)) {
        result = tl_session.constants[(uint32_t)thread->nr];
    } else {
        bool decided = tl_rules_before(thread, &result);
        if (!thread->aborted)
            result = decide(thread, decided, result);
    }
    if (thread->aborted) {
        thread->regs[RIP] -= 2; // the instruction is made again after the handler
        tl_trace_aborted(thread);
    } else {
        thread->regs[RAX] = (uint64_t)result;
        tl_trace_after(thread, result);
    }
}

void tl_from_trap(struct tl_thread *thread)
{
    if (tl_session.flags & TL_ENGINE_REWRITES && thread->arch != arch_i386 && tl_process.has_segment)
        tl_site_trapped(thread->regs[RIP] - 2);
    handle(thread);
    if (thread->mailbox)
        tl_mailbox_leave(thread); // there may be more threads than mailboxes
    thread->leave_to = thread->regs[RIP];
}

void tl_from_block(struct tl_thread *thread)
{
    thread->regs[RCX] = thread->regs[RIP] = tl_patch_of_block(thread->block)->site + 2;
    thread->regs[R11] = thread->regs[EFLAGS];
    thread->arch = arch_x86_64;
    thread->exact = 0;
    handle(thread);
    if (thread->mailbox)
        tl_mailbox_leave(thread); // there may be more threads than mailboxes
    // The block goes on behind the site, with what it stands for there.
    thread->leave_to = thread->block + (uint64_t)(tl_gate_after - tl_gate);
}
