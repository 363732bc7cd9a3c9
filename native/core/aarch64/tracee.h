// Registers of a stopped tracee: the only place that the tracer names them.
#ifndef TL_TRACEE_H
#define TL_TRACEE_H

#include <linux/audit.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

// Not <elf.h>: its names for the auxiliary vector are ours for other things.
#ifndef NT_PRSTATUS
#define NT_PRSTATUS 1
#endif
#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif

struct tl_registers {
    struct user_regs_struct user;
    int nr; // of the call that is being entered
    bool nr_changed;
};

struct tl_tracee_calls {
    int mmap, munmap, socketpair, recvmsg, close, fcntl, restart_syscall;
    bool is_32bit;
};

static inline const struct tl_tracee_calls *tl_tracee_calls(uint32_t arch)
{
    static const struct tl_tracee_calls native = {SYS_mmap,  SYS_munmap, SYS_socketpair,      SYS_recvmsg,
                                                  SYS_close, SYS_fcntl,  SYS_restart_syscall, false};
    static const struct tl_tracee_calls arm = {192, 91, 288, 297, 6, 221, 0, true};

    return arch == AUDIT_ARCH_ARM ? &arm : &native;
}

static inline bool tl_tracee_is_emulated_by_kernel(uint64_t ip)
{
    (void)ip;
    return false;
}

static inline int tl_registers_get(pid_t tid, struct tl_registers *registers)
{
    struct iovec iov = {&registers->user, sizeof registers->user};

    registers->nr_changed = false;
    return syscall(SYS_ptrace, PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) == 0 ? 0 : -1;
}

static inline int tl_registers_set(pid_t tid, const struct tl_registers *registers)
{
    struct iovec iov = {(void *)&registers->user, sizeof registers->user};
    struct iovec nr = {(void *)&registers->nr, sizeof registers->nr};

    if (syscall(SYS_ptrace, PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0)
        return -1;
    if (!registers->nr_changed)
        return 0;
    return syscall(SYS_ptrace, PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &nr) == 0 ? 0 : -1;
}

static inline unsigned long long *tl_registers_argument(struct tl_registers *registers, uint32_t arch,
                                                        unsigned index)
{
    (void)arch;
    return (unsigned long long *)&registers->user.regs[index];
}

static inline void tl_registers_replace_call(struct tl_registers *registers, long nr)
{
    registers->nr = (int)nr;
    registers->nr_changed = true;
}

// At the entry of a call: its number.
static inline int tl_registers_call(const struct tl_registers *registers)
{
    return (int)registers->user.regs[8];
}

// x0 is argument and result in one: who repeats a call gives its first argument anew.
static inline void tl_registers_repeat(struct tl_registers *registers, int nr)
{
    registers->user.pc -= 4;
    registers->user.regs[8] = (unsigned long long)nr;
}

static inline void tl_registers_set_result(struct tl_registers *registers, int64_t result)
{
    registers->user.regs[0] = (unsigned long long)result;
}

static inline int64_t tl_registers_result(const struct tl_registers *registers)
{
    return (int64_t)registers->user.regs[0];
}

static inline int tl_tracee_result(pid_t tid, int64_t *result)
{
    struct tl_registers registers;

    if (tl_registers_get(tid, &registers))
        return -1;
    *result = tl_registers_result(&registers);
    return 0;
}

static inline int tl_tracee_set_result(pid_t tid, int64_t result)
{
    struct tl_registers registers;

    if (tl_registers_get(tid, &registers))
        return -1;
    tl_registers_set_result(&registers, result);
    return tl_registers_set(tid, &registers);
}

static inline int tl_tracee_skip(pid_t tid, int64_t result)
{
    struct tl_registers registers;

    if (tl_registers_get(tid, &registers))
        return -1;
    tl_registers_replace_call(&registers, -1);
    tl_registers_set_result(&registers, result);
    return tl_registers_set(tid, &registers);
}

// struct rt_sigframe is siginfo (128), ucontext up to its mcontext (176), fault_address, regs[31], sp, pc.
static inline bool tl_tracee_frame(const struct tl_registers *registers, uint32_t word_after_number,
                                   uint64_t *result, uint64_t *ip, unsigned *width)
{
    (void)word_after_number;
    *result = registers->user.sp + 128 + 176 + 8;
    *ip = *result + 32 * 8;
    *width = 8;
    return !(registers->user.pstate & 0x10); // not for 32-bit programs
}

static inline uint64_t tl_tracee_frame_word(const struct tl_registers *registers)
{
    return registers->user.sp;
}

enum { tl_tracee_call_length = 4 };

#endif
