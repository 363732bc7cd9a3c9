#include "hold.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "memory.h"

#ifndef PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG 0x4210
#endif
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif

enum {
    trap_flag = 0x100,
    direction_flag = 0x400,
};

static bool set_registers(pid_t tid, struct user_regs_struct *regs)
{
    struct iovec iov = {regs, sizeof *regs};

    return tl_held_trace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov) == 0;
}

static void set_dispatch(const struct tl_held *held, const struct tl_dispatch *dispatch)
{
    if (held->dispatch.mode)
        tl_held_trace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, held->tid, (void *)sizeof *dispatch, dispatch);
}

static uint64_t find_in_range(pid_t pid, uint64_t start, uint64_t end)
{
    static const unsigned char instruction[2] = {0x0f, 0x05};
    unsigned char bytes[65536];
    size_t done;

    for (; start < end; start += sizeof bytes - 1) {
        size_t size = end - start < sizeof bytes ? end - start : sizeof bytes;
        if (tl_memory_read(pid, start, bytes, size, &done))
            break;
        const unsigned char *found = memmem(bytes, done, instruction, sizeof instruction);
        if (found)
            return start + (uint64_t)(found - bytes);
        if (size < sizeof bytes)
            break;
    }
    return 0;
}

bool tl_hold_find_call(struct tl_hold *hold, pid_t pid)
{
    char path[32], line[512], kind;
    unsigned long long start, end;

    hold->call_at = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    while (maps && !hold->call_at && fgets(line, sizeof line, maps))
        if (sscanf(line, "%llx-%llx %*2c%c", &start, &end, &kind) == 3 && kind == 'x' &&
            (!hold->region || start - hold->region >= tl_region_size) && !strstr(line, "[vsyscall]"))
            hold->call_at = find_in_range(pid, start, end);
    if (maps)
        fclose(maps);
    return hold->call_at;
}

// A restartable sequence that is left is aborted. The kernel does so where it sees the thread leave; it will
// find the thread in our code.
static void abort_sequence(struct tl_held *held)
{
    struct {
        uint64_t area;
        uint32_t size, signature, flags, padding;
    } config;
    struct {
        uint32_t version, flags;
        uint64_t start, length, abort;
    } sequence;
    enum { pointer_at = 8 };
    uint64_t pointer;
    size_t done;

    if (tl_held_trace(PTRACE_GET_RSEQ_CONFIGURATION, held->tid, (void *)sizeof config, &config) < 0 ||
        !config.area)
        return;
    if (tl_memory_read(held->tid, config.area + pointer_at, &pointer, sizeof pointer, &done) ||
        done < sizeof pointer || !pointer)
        return;
    if (tl_memory_read(held->tid, pointer, &sequence, sizeof sequence, &done) == 0 &&
        done == sizeof sequence && held->regs.rip - sequence.start < sequence.length)
        held->regs.rip = sequence.abort;
}

int tl_held_take(struct tl_held *held)
{
    const uint64_t all = ~(uint64_t)0;

    abort_sequence(held);
    if (tl_held_trace(PTRACE_GETSIGMASK, held->tid, (void *)sizeof held->mask, &held->mask) < 0 ||
        tl_held_trace(PTRACE_SETSIGMASK, held->tid, (void *)sizeof all, &all) < 0)
        return errno;
    return 0;
}

// Lets a thread run to the return of its next call.
static int run_to_return(const struct tl_hold *hold, struct tl_held *held, struct __ptrace_syscall_info *info)
{
    do {
        if (tl_held_trace(PTRACE_SYSCALL, held->tid, NULL, NULL) < 0)
            return errno;
        int status = tl_held_wait(hold, held, true);
        if (status <= 0)
            return ESRCH;
        held->owes_stop = held->owes_stop || status == SIGSTOP; // the only one that cannot be blocked
        info->op = PTRACE_SYSCALL_INFO_NONE;
        if (status == SIGSEGV || status == SIGBUS || status == SIGILL)
            return EFAULT;
        if (status == (SIGTRAP | 0x80) &&
            tl_held_trace(PTRACE_GET_SYSCALL_INFO, held->tid, (void *)sizeof *info, info) < 0)
            return errno;
    } while (info->op != PTRACE_SYSCALL_INFO_EXIT);
    return 0;
}

int tl_held_call(struct tl_hold *hold, struct tl_held *held, long nr, const uint64_t args[6], int64_t *result)
{
    struct user_regs_struct regs = held->regs;
    struct __ptrace_syscall_info info;

    regs.rip = hold->call_at;
    regs.rax = (unsigned long long)nr;
    regs.orig_rax = (unsigned long long)-1;
    regs.rdi = args[0];
    regs.rsi = args[1];
    regs.rdx = args[2];
    regs.r10 = args[3];
    regs.r8 = args[4];
    regs.r9 = args[5];
    regs.eflags &= ~(unsigned long long)trap_flag;
    set_dispatch(held, &(struct tl_dispatch){0});
    if (!set_registers(held->tid, &regs))
        return errno;
    int error = run_to_return(hold, held, &info);
    *result = error ? -error : info.exit.rval;
    return error;
}

int tl_held_visit(struct tl_hold *hold, struct tl_held *held, uint32_t entry, struct tl_visit *visit,
                  int64_t *result)
{
    const uint64_t place = held->base + hold->header.visit, end = held->base + hold->header.visited;
    const size_t size = offsetof(struct tl_visit, stack);
    struct user_regs_struct *regs = &held->regs, running = held->regs;
    struct __ptrace_syscall_info info;
    size_t done;
    int error;

    unsigned long long *order[18] = {&regs->r8,  &regs->r9,  &regs->r10,   &regs->r11, &regs->r12,
                                     &regs->r13, &regs->r14, &regs->r15,   &regs->rdi, &regs->rsi,
                                     &regs->rbp, &regs->rbx, &regs->rdx,   &regs->rax, &regs->rcx,
                                     &regs->rsp, &regs->rip, &regs->eflags};
    for (int i = 0; i < 18; i++)
        visit->registers[i] = *order[i];
    visit->mask = held->mask;
    if ((error = tl_memory_write(held->tid, place, visit, size, &done)))
        return error;
    running.rip = held->base + entry;
    running.rsp = place + sizeof *visit;
    running.eflags &= ~(unsigned long long)(trap_flag | direction_flag);
    running.orig_rax = (unsigned long long)-1;
    if (!set_registers(held->tid, &running))
        return errno;
    do
        error = run_to_return(hold, held, &info);
    while (!error && info.instruction_pointer != end);
    if (error || (error = tl_memory_read(held->tid, place, visit, size, &done)))
        return error;
    *result = info.exit.rval;
    for (int i = 0; i < 18; i++)
        *order[i] = visit->registers[i];
    held->mask = visit->mask;
    return 0;
}

// At a stop of the same kind as the first, where the kernel makes an interrupted call again.
int tl_held_put_back(struct tl_hold *hold, struct tl_held *held)
{
    int status;

    tl_held_trace(PTRACE_INTERRUPT, held->tid, NULL, NULL);
    do {
        if (tl_held_trace(PTRACE_CONT, held->tid, NULL, NULL) < 0)
            return errno;
        status = tl_held_wait(hold, held, true);
        held->owes_stop = held->owes_stop || status == SIGSTOP;
    } while (status > 0 && !(status >> 8));
    if (status <= 0)
        return ESRCH;
    set_dispatch(held, &held->dispatch);
    if (!set_registers(held->tid, &held->regs) ||
        tl_held_trace(PTRACE_SETSIGMASK, held->tid, (void *)sizeof held->mask, &held->mask) < 0)
        return errno;
    return 0;
}
