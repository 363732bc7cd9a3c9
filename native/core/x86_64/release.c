// Takes the agent out of a running process: because another program is about to trace it, or for good. Each
// thread is stopped where its own code runs, or where the agent waits for the result of its call.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "hold.h"
#include "memory.h"

enum {
    restart_first = 512, // -ERESTARTSYS and its like: the kernel is going to make the call again
    restart_last = 516,
    user_dispatch_code = 2,
};

// A call has trapped, or a patched place, and the signal is yet to be delivered.
static bool is_trapping(pid_t tid)
{
    struct __ptrace_peeksiginfo_args which = {0, 0, 1};
    siginfo_t info;

    for (; ptrace(PTRACE_PEEKSIGINFO, tid, &which, &info) == 1; which.off++)
        if ((info.si_signo == SIGSYS && info.si_code == user_dispatch_code) ||
            ((info.si_signo == SIGTRAP || info.si_signo == SIGILL) && info.si_code > 0))
            return true;
    return false;
}

// May the agent leave a thread that has stopped like this?
static bool is_safe(const struct tl_hold *hold, const struct tl_held *held)
{
    const struct user_regs_struct *regs = &held->regs;
    uint64_t at = regs->rip - held->base, record = regs->rsp & -(uint64_t)tl_thread_size;
    uint32_t pending = 1;
    size_t done;

    if (!held->base) // a new thread of the program begins in the agent
        return regs->rip - hold->region >= tl_region_size;
    if (at >= tl_region_size || (at >= tl_blocks && at < tl_data))
        return !is_trapping(held->tid);
    if (at != hold->header.performed && at != hold->header.performed_int80)
        return false;
    long long error = -(long long)regs->rax;
    if (!held->was_told_to_stop && !held->is_returning && (error < restart_first || error > restart_last))
        return false;
    return tl_memory_read(held->tid, record + hold->header.pending, &pending, sizeof pending, &done) == 0 &&
           !pending;
}

// A part of a program's code that a patch was in differs from the rest of it for the kernel, which counts it
// as memory of the process's own, and keeps it apart. Once all of a file's code is counted, it is one mapping
// again.
static void join_code(struct tl_hold *hold, struct tl_held *held)
{
    unsigned long long start, end, offset, inode, from = 0, to = 0, next = 0, file = 0;
    char path[32], line[512], access[5];
    unsigned parts = 0;
    int64_t result;

    snprintf(path, sizeof path, "/proc/%d/maps", held->tid);
    FILE *maps = fopen(path, "re");
    for (bool is_open = maps; is_open;) {
        is_open = fgets(line, sizeof line, maps);
        bool is_code =
            is_open &&
            sscanf(line, "%llx-%llx %4s %llx %*s %llu", &start, &end, access, &offset, &inode) == 5 &&
            inode && strcmp(access, "r-xp") == 0;
        if (is_code && parts && start == to && inode == file && offset == next) {
            parts++;
        } else {
            for (int writable = 1; parts > 1 && writable >= 0; writable--) {
                int access_bits = PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0);
                const uint64_t args[6] = {from, to - from, (uint64_t)access_bits};
                tl_held_call(hold, held, SYS_mprotect, args, &result);
            }
            parts = is_code;
            from = start;
            file = inode;
        }
        to = end;
        next = offset + (end - start);
    }
    if (maps)
        fclose(maps);
}

bool tl_hold_leave(struct tl_hold *hold, bool for_good)
{
    struct tl_visit visit = {.is_first = true};
    struct tl_held *last = NULL;
    uint64_t base = 0;
    int64_t result;

    for (size_t i = 0; i < hold->count; i++)
        if (hold->held[i].base && !hold->held[i].is_gone)
            last = &hold->held[i];
    for (size_t i = 0; i < hold->count; i++) {
        struct tl_held *held = &hold->held[i];
        if (!held->base || held->is_gone)
            continue;
        visit.is_last = for_good && held == last;
        if (tl_held_take(held) == 0 && tl_held_visit(hold, held, hold->header.leave, &visit, &result) == 0) {
            visit.is_first = false;
            base = held->base;
            held->dispatch = (struct tl_dispatch){visit.dispatch[0], visit.dispatch[3], visit.dispatch[1],
                                                  visit.dispatch[2]};
        }
        if (visit.is_last && base && !visit.is_shared && tl_hold_find_call(hold, held->tid)) {
            tl_held_call(hold, held, SYS_munmap, (const uint64_t[6]){base, tl_region_size}, &result);
            join_code(hold, held);
        }
        tl_held_put_back(hold, held);
    }
    return base;
}

bool tl_agent_release(pid_t tid, pid_t command, bool for_good)
{
    struct tl_hold hold = {.command = command, .is_safe = is_safe};
    struct tl_error *error = tl_hold_all(&hold, tid);
    bool released = false;

    if (!error)
        released = tl_hold_leave(&hold, for_good);
    tl_error_free(error);
    tl_hold_end(&hold);
    return released;
}
