// The calls that the agent must see for the program not to notice it; dispatch.c does each. None may be let
// through by a block.
#ifndef TL_OWN_CALLS_H
#define TL_OWN_CALLS_H

#include <asm/unistd.h>

static const unsigned short tl_own_calls[] = {
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_rt_sigreturn,
    __NR_sigaltstack,
    __NR_rt_sigpending,
    __NR_rt_sigtimedwait,
    // with a signal mask of their own
    __NR_rt_sigsuspend,
    __NR_ppoll,
    __NR_pselect6,
    __NR_epoll_pwait,
    __NR_epoll_pwait2,
    __NR_io_pgetevents,
    // new tasks and programs
    __NR_fork,
    __NR_vfork,
    __NR_clone,
    __NR_clone3,
    __NR_exit,
    __NR_exit_group,
    __NR_execve,
    __NR_execveat,
    __NR_unshare,
    __NR_setns,
    // the agent's descriptors and memory
    __NR_close,
    __NR_close_range,
    __NR_dup,
    __NR_dup2,
    __NR_dup3,
    __NR_fcntl,
    __NR_fstat,
    __NR_ioctl,
    __NR_newfstatat,
    __NR_statx,
    __NR_munmap,
    __NR_mprotect,
    __NR_pkey_mprotect,
    __NR_madvise,
    __NR_mremap,
    __NR_mmap,
    __NR_shmat,
    __NR_prctl,
    __NR_seccomp,
    __NR_ptrace,
    __NR_membarrier,
    __NR_getdents64,
};

#endif
