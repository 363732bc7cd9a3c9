// Hiding the vDSO from new programs, so that asking the time is a system call again.
#ifndef TL_VDSO_H
#define TL_VDSO_H

#include <sys/types.h>

#include "listener.h"

// Takes AT_SYSINFO_EHDR out of the auxiliary vector of PID, which is at its PTRACE_EVENT_EXEC stop under the
// calling thread. 0 or an errno.
int tl_vdso_hide(pid_t pid);

// Lets an execve go on, and takes AT_SYSINFO_EHDR out of the new program's auxiliary vector before its first
// instruction. Blocks until the execve has succeeded or failed. COMMAND is the process that our own waitpid
// is for. 0, or an errno: the call went on, but its program has its vDSO (EPERM: it may not be traced, or is
// already).
int tl_vdso_hide_at_exec(struct tl_listener *listener, const struct tl_call *call, pid_t command);

#endif
