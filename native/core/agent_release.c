// Takes the agent out of a running process, which another program is about to trace. Each thread is stopped
// where its own code runs, or where the agent waits for the result of its call, and then runs
// tl_leave_thread.
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <elf.h>

#include "memory.h"

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif

enum {
    threads_max = 1024,
    nap_ns = 50 * 1000,
    naps = 60 * 1000, // 3 seconds
    yields = 100,     // before the first nap
    patience = 20,    // naps, for a step; who sleeps in a call is told to stop
    steps_max = 10000,
    restart_first = 512, // -ERESTARTSYS and its like: the kernel is going to make the call again
    restart_last = 516,
    user_dispatch_code = 2,
    trap_flag = 0x100,
    direction_flag = 0x400,
};

struct held {
    pid_t tid;
    uint64_t base;         // of the agent's region; 0: it has none
    bool was_told_to_stop; // by a signal, and stays so
    bool has_stepped;
};

struct release {
    struct tl_image_header header;
    pid_t command;
    unsigned naps;
    size_t count;
    struct held held[threads_max];
};

static bool nap(struct release *r)
{
    const struct timespec time = {0, nap_ns};

    nanosleep(&time, NULL);
    return r->naps++ < naps;
}

// The status of the next stop of a thread; 0: it has ended, or our patience has.
static int wait_for_stop(struct release *r, pid_t tid)
{
    siginfo_t info;
    unsigned tries = 0;

    do {
        if (tries == yields + patience)
            ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)tid, &info, WEXITED | WSTOPPED | WNOWAIT | WNOHANG | __WALL | __WNOTHREAD) <
                0 &&
            errno != EINTR)
            return 0;
        if (info.si_pid && info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) {
            if (tid != r->command)
                waitid(P_PID, (id_t)tid, &info, WEXITED | __WALL | __WNOTHREAD);
            return 0;
        }
        if (info.si_pid) {
            int status = info.si_status;
            waitid(P_PID, (id_t)tid, &info, WSTOPPED | __WALL | __WNOTHREAD);
            return status;
        }
    } while (tries++ < yields ? sched_yield() == 0 : nap(r));
    return 0;
}

static bool get_registers(pid_t tid, struct user_regs_struct *regs)
{
    struct iovec iov = {regs, sizeof *regs};

    return ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov) == 0 &&
           iov.iov_len == sizeof *regs;
}

static bool set_registers(pid_t tid, struct user_regs_struct *regs)
{
    struct iovec iov = {regs, sizeof *regs};

    return ptrace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov) == 0;
}

static uint64_t find_region(pid_t tid)
{
    struct {
        uint64_t mode, selector, offset, size;
    } config;

    if (ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, (void *)sizeof config,
               &config) < 0)
        return 0;
    return config.mode && config.size == tl_data ? config.offset : 0;
}

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
static bool is_safe(const struct release *r, const struct held *held, const struct user_regs_struct *regs)
{
    uint64_t at = regs->rip - held->base, record = regs->rsp & -(uint64_t)tl_thread_size;
    uint32_t pending = 1;
    size_t done;

    if (at >= tl_region_size || (at >= tl_blocks && at < tl_data))
        return !is_trapping(held->tid);
    if (at != r->header.performed && at != r->header.performed_int80)
        return false;
    long long error = -(long long)regs->rax;
    if (!held->was_told_to_stop && (error < restart_first || error > restart_last))
        return false;
    return tl_memory_read(held->tid, record + r->header.pending, &pending, sizeof pending, &done) == 0 &&
           !pending;
}

// Has a thread stopped since it has made a step? The last is how the kernel tells of one into a handler.
static bool is_step(pid_t tid)
{
    siginfo_t info;

    return ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) == 0 && info.si_signo == SIGTRAP &&
           (info.si_code == TRAP_TRACE || info.si_code == TRAP_BRKPT || info.si_code == SIGTRAP);
}

// A step that is blocked would take the handler of SIGTRAP from the whole process. The agent blocks it only
// for a while, and says so anew each time; what the program blocks has to stay.
static bool may_step(pid_t tid, bool is_in_agent)
{
    const uint64_t trap = 1ull << (SIGTRAP - 1);
    uint64_t mask;

    if (ptrace(PTRACE_GETSIGMASK, tid, (void *)sizeof mask, &mask) < 0)
        return false;
    if (!(mask & trap))
        return true;
    mask &= ~trap;
    return is_in_agent && ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof mask, &mask) == 0;
}

// Stops a thread at a place where the agent may leave it: it goes on in steps, since a program that does
// little but calls is hardly ever found elsewhere.
static bool hold(struct release *r, struct held *held)
{
    struct user_regs_struct regs;
    unsigned steps = 0;
    int status = wait_for_stop(r, held->tid);

    for (; status; status = wait_for_stop(r, held->tid)) {
        bool is_event = status >> 8, is_stepping = held->has_stepped;
        int number = is_event || (is_stepping && is_step(held->tid)) ? 0 : status & 0xff;
        if (!get_registers(held->tid, &regs))
            return false;
        held->base = find_region(held->tid);
        held->was_told_to_stop = is_event && (status & 0xff) != SIGTRAP;
        if (!number && (!held->base || is_safe(r, held, &regs)))
            return true;
        bool is_in_agent = regs.rip - held->base < tl_region_size;
        if (++steps < steps_max && may_step(held->tid, is_in_agent)) {
            held->has_stepped = true;
            ptrace(PTRACE_SINGLESTEP, held->tid, NULL, (void *)(uintptr_t)number);
        } else {
            ptrace(PTRACE_CONT, held->tid, NULL, (void *)(uintptr_t)number);
            nap(r);
            ptrace(PTRACE_INTERRUPT, held->tid, NULL, NULL);
        }
    }
    return false;
}

// Holds the threads of a process that are not held yet. The number of new ones, or -1.
static int hold_all(struct release *r, pid_t tid)
{
    char path[32];
    struct dirent *entry;
    int found = 0;

    snprintf(path, sizeof path, "/proc/%d/task", tid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return -1;
    while (found >= 0 && (entry = readdir(tasks))) {
        pid_t task = (pid_t)strtol(entry->d_name, NULL, 10);
        bool is_known = !task;
        for (size_t i = 0; i < r->count && !is_known; i++)
            is_known = r->held[i].tid == task;
        if (is_known)
            continue;
        if (r->count == threads_max || ptrace(PTRACE_SEIZE, task, NULL, NULL) < 0) {
            found = errno == ESRCH ? found : -1;
            continue;
        }
        struct held *held = &r->held[r->count++];
        *held = (struct held){.tid = task};
        ptrace(PTRACE_INTERRUPT, task, NULL, NULL);
        found = hold(r, held) ? found + 1 : -1;
    }
    closedir(tasks);
    return found;
}

static bool leave(struct release *r, const struct held *held, bool is_first)
{
    // A trap that is blocked loses its handler.
    const uint64_t all = ~(1ull << (SIGTRAP - 1)), base = held->base, place = base + r->header.leaving;
    struct user_regs_struct regs, running;
    struct tl_leaving leaving = {.is_first = is_first};
    const size_t size = offsetof(struct tl_leaving, stack);
    uint64_t mask;
    size_t done;
    int status;

    if (!get_registers(held->tid, &regs))
        return false;
    unsigned long long *order[18] = {&regs.r8,  &regs.r9,  &regs.r10, &regs.r11, &regs.r12, &regs.r13,
                                     &regs.r14, &regs.r15, &regs.rdi, &regs.rsi, &regs.rbp, &regs.rbx,
                                     &regs.rdx, &regs.rax, &regs.rcx, &regs.rsp, &regs.rip, &regs.eflags};
    for (int i = 0; i < 18; i++)
        leaving.registers[i] = *order[i];
    if (ptrace(PTRACE_GETSIGMASK, held->tid, (void *)sizeof mask, &mask) < 0 ||
        ptrace(PTRACE_SETSIGMASK, held->tid, (void *)sizeof all, &all) < 0 ||
        tl_memory_write(held->tid, place, &leaving, size, &done) != 0)
        return false;
    running = regs;
    running.rip = base + r->header.leave;
    running.rsp = place + sizeof leaving;
    running.eflags &= ~(unsigned long long)(trap_flag | direction_flag);
    running.orig_rax = (unsigned long long)-1;
    if (!set_registers(held->tid, &running))
        return false;
    do {
        ptrace(PTRACE_CONT, held->tid, NULL, NULL);
        status = wait_for_stop(r, held->tid);
    } while (status && status != SIGTRAP);
    if (!status || tl_memory_read(held->tid, place, &leaving, size, &done) != 0)
        return false;
    for (int i = 0; i < 18; i++)
        *order[i] = leaving.registers[i];
    // Behind a popf the kernel takes the flag of our steps for the program's; and a pushf has saved it.
    if (held->has_stepped)
        regs.eflags &= ~(unsigned long long)trap_flag;
    mask |= leaving.held_blocked;
    return set_registers(held->tid, &regs) &&
           ptrace(PTRACE_SETSIGMASK, held->tid, (void *)sizeof mask, &mask) == 0;
}

// A thread that is detached stops again by itself, but not at once; who is going to trace it finds it
// stopped.
static void wait_until_stopped(struct release *r, pid_t tid)
{
    char path[64], line[128], state = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", tid, tid);
    do {
        FILE *file = fopen(path, "re");
        if (!file)
            return;
        while (fgets(line, sizeof line, file) && sscanf(line, "State: %c", &state) != 1)
            continue;
        fclose(file);
    } while (state != 'T' && state != 'Z' && nap(r));
}

bool tl_agent_release(pid_t tid, pid_t command)
{
    struct release *r = calloc(1, sizeof *r);
    bool is_first = true;
    int found;

    if (!r)
        return false;
    tl_agent_header(&r->header);
    r->command = command;
    do
        found = hold_all(r, tid);
    while (found > 0);
    for (size_t i = 0; i < r->count && found == 0; i++)
        if (r->held[i].base && leave(r, &r->held[i], is_first))
            is_first = false;
    for (size_t i = 0; i < r->count; i++)
        ptrace(PTRACE_DETACH, r->held[i].tid, NULL, NULL);
    for (size_t i = 0; i < r->count; i++)
        if (r->held[i].was_told_to_stop)
            wait_until_stopped(r, r->held[i].tid);
    free(r);
    return !is_first;
}
