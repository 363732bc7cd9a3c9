// Registers of a stopped tracee: the only place that the tracer names them. A 64-bit tracer sees 64-bit
// registers of every program, so one layout serves for x86-64 calls, int 0x80 and 32-bit programs.
#ifndef TL_TRACEE_H
#define TL_TRACEE_H

#include <linux/audit.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

struct tl_registers {
    struct user_regs_struct user;
};

// The calls that the tracer has a program make, for each convention.
struct tl_tracee_calls {
    int mmap, munmap, socketpair, recvmsg, close, fcntl, restart_syscall;
    bool is_32bit;
};

static inline const struct tl_tracee_calls *tl_tracee_calls(uint32_t arch)
{
    static const struct tl_tracee_calls native = {SYS_mmap,  SYS_munmap, SYS_socketpair,      SYS_recvmsg,
                                                  SYS_close, SYS_fcntl,  SYS_restart_syscall, false};
    static const struct tl_tracee_calls i386 = {192, 91, 360, 372, 6, 221, 0, true};

    return arch == AUDIT_ARCH_I386 ? &i386 : &native;
}

// What stops in its entry has made a call through the vsyscall page: no instruction, and no return.
static inline bool tl_tracee_is_emulated_by_kernel(uint64_t ip)
{
    return (ip & ~0xfffULL) == 0xffffffffff600000;
}

static inline int tl_registers_get(pid_t tid, struct tl_registers *registers)
{
    return syscall(SYS_ptrace, PTRACE_GETREGS, tid, 0, &registers->user) == 0 ? 0 : -1;
}

static inline int tl_registers_set(pid_t tid, const struct tl_registers *registers)
{
    return syscall(SYS_ptrace, PTRACE_SETREGS, tid, 0, &registers->user) == 0 ? 0 : -1;
}

static inline unsigned long long *tl_registers_argument(struct tl_registers *registers, uint32_t arch,
                                                        unsigned index)
{
    struct user_regs_struct *r = &registers->user;
    unsigned long long *native[] = {&r->rdi, &r->rsi, &r->rdx, &r->r10, &r->r8, &r->r9};
    unsigned long long *i386[] = {&r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi, &r->rbp};

    return arch == AUDIT_ARCH_I386 ? i386[index] : native[index];
}

// At the entry of a call: another one takes its place; number -1 is none at all.
static inline void tl_registers_replace_call(struct tl_registers *registers, long nr)
{
    registers->user.orig_rax = (unsigned long long)nr;
}

// At the entry of a call: its number.
static inline int tl_registers_call(const struct tl_registers *registers)
{
    return (int)registers->user.orig_rax;
}

// Behind a call: go back to its instruction and make call NR there.
static inline void tl_registers_repeat(struct tl_registers *registers, int nr)
{
    registers->user.rip -= 2;
    registers->user.rax = (unsigned long long)nr;
    registers->user.orig_rax = (unsigned long long)-1;
}

static inline void tl_registers_set_result(struct tl_registers *registers, int64_t result)
{
    registers->user.rax = (unsigned long long)result;
}

static inline int64_t tl_registers_result(const struct tl_registers *registers)
{
    return (int64_t)registers->user.rax;
}

// The same for one register, without moving all of them.
static inline int tl_tracee_result(pid_t tid, int64_t *result)
{
    long value;

    if (syscall(SYS_ptrace, PTRACE_PEEKUSR, tid, offsetof(struct user_regs_struct, rax), &value) < 0)
        return -1;
    *result = value;
    return 0;
}

static inline int tl_tracee_set_result(pid_t tid, int64_t result)
{
    return (int)syscall(SYS_ptrace, PTRACE_POKEUSR, tid, offsetof(struct user_regs_struct, rax), result);
}

// At the entry of a call: it does not happen, and this is what the caller gets.
static inline int tl_tracee_skip(pid_t tid, int64_t result)
{
    if (syscall(SYS_ptrace, PTRACE_POKEUSR, tid, offsetof(struct user_regs_struct, orig_rax), -1L) < 0)
        return -1;
    return tl_tracee_set_result(tid, result);
}

// At the first instruction of a signal's handler: where the frame keeps the result and the instruction
// pointer of what was interrupted, and how wide both are.
static inline bool tl_tracee_frame(const struct tl_registers *registers, uint32_t word_after_number,
                                   uint64_t *result, uint64_t *ip, unsigned *width)
{
    const struct user_regs_struct *r = &registers->user;
    const unsigned compat_code = 0x23;

    if (r->cs == compat_code) {
        // rt_sigframe has pointers to its own parts where sigframe has its saved segment registers.
        bool with_info = word_after_number == (uint32_t)r->rsp + 16;
        *result = r->rsp + (with_info ? 208 : 52);
        *ip = *result + 12;
        *width = 4;
    } else {
        *result = r->rsp + 8 + 40 + 13 * 8; // return address, head of the ucontext, rax
        *ip = *result + 3 * 8;
        *width = 8;
    }
    return true;
}

// Where the word is that tl_tracee_frame() wants to be told.
static inline uint64_t tl_tracee_frame_word(const struct tl_registers *registers)
{
    return registers->user.rsp + 8;
}

// The length of the instruction that makes a call.
enum { tl_tracee_call_length = 2 };

#endif
