#include "hold.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif

enum {
    nap_ns = 50 * 1000,
    short_naps = 20,
    patience_seconds = 5, // for all threads together
    not_restarted = EINTR,
    restarted_without_handler = 514, // -ERESTARTNOHAND
};

// Calls that end with EINTR when their thread is stopped, and have done nothing by then. Every other call
// that waits is made again by the kernel.
static const int ended_by_stop[] = {
    SYS_epoll_wait,      SYS_epoll_pwait,  SYS_epoll_pwait2,  SYS_semop,   SYS_semtimedop,
    SYS_accept,          SYS_accept4,      SYS_recvfrom,      SYS_recvmsg, SYS_recvmmsg,
    SYS_rt_sigtimedwait, SYS_io_getevents, SYS_io_pgetevents,
};

static void nap(void)
{
    const struct timespec time = {0, nap_ns};

    nanosleep(&time, NULL);
}

static time_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

static bool is_too_late(const struct tl_hold *hold)
{
    return now() > hold->until;
}

int tl_held_wait(const struct tl_hold *hold, struct tl_held *held, bool is_ours)
{
    const int options = WEXITED | WSTOPPED | WNOWAIT | __WALL | __WNOTHREAD;
    siginfo_t info;
    int naps = 0;

    for (;;) {
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)held->tid, &info, options | (is_ours ? 0 : WNOHANG)) < 0) {
            if (errno == EINTR)
                continue;
            held->is_gone = true;
            return tl_has_ended;
        }
        if (info.si_pid && info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) {
            if (held->tid != hold->command)
                waitid(P_PID, (id_t)held->tid, &info, WEXITED | __WALL | __WNOTHREAD);
            held->is_gone = true;
            return tl_has_ended;
        }
        if (info.si_pid) {
            int status = info.si_status;
            waitid(P_PID, (id_t)held->tid, &info, WSTOPPED | __WALL | __WNOTHREAD);
            return status;
        }
        if (!is_ours && naps++ == short_naps)
            return tl_is_running;
        if (!is_ours)
            nap();
    }
}

static bool get_registers(pid_t tid, struct user_regs_struct *regs)
{
    struct iovec iov = {regs, sizeof *regs};

    return tl_held_trace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &iov) == 0 &&
           iov.iov_len == sizeof *regs;
}

// What a thread has calls trapped by: our agent, or the program itself.
static void find_dispatch(struct tl_held *held)
{
    held->base = 0;
    held->knows_dispatch = tl_held_trace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, held->tid,
                                         (void *)sizeof held->dispatch, &held->dispatch) == 0;
    if (!held->knows_dispatch)
        held->dispatch = (struct tl_dispatch){0};
    if (held->dispatch.mode && held->dispatch.size == tl_data) {
        held->base = held->dispatch.offset;
        held->dispatch = (struct tl_dispatch){0};
    }
}

// It is the stop that has ended the call, unless a handler is about to run.
static void repeat_call(struct user_regs_struct *regs)
{
    if ((long long)regs->rax != -not_restarted)
        return;
    for (size_t i = 0; i < sizeof ended_by_stop / sizeof *ended_by_stop; i++)
        if ((long long)regs->orig_rax == ended_by_stop[i])
            regs->rax = (unsigned long long)-(long long)restarted_without_handler;
}

enum outcome { is_held, is_no_more, is_busy, is_32_bit };

static bool is_at_return(const struct tl_held *held)
{
    struct __ptrace_syscall_info info;

    return tl_held_trace(PTRACE_GET_SYSCALL_INFO, held->tid, (void *)sizeof info, &info) > 0 &&
           info.op == PTRACE_SYSCALL_INFO_EXIT;
}

// Stops a thread at a place where it may be changed. From any other it goes on from call to call, which takes
// it to such a place; where it does not come to a stop, it waits in a call.
static enum outcome hold_one(const struct tl_hold *hold, struct tl_held *held)
{
    tl_held_trace(PTRACE_INTERRUPT, held->tid, NULL, NULL);
    for (;;) {
        int status = tl_held_wait(hold, held, false);
        if (status == tl_has_ended)
            return is_no_more;
        if (is_too_late(hold))
            return is_busy;
        if (status == tl_is_running) {
            tl_held_trace(PTRACE_INTERRUPT, held->tid, NULL, NULL);
            continue;
        }
        bool is_event = status >> 8, is_call = status == (SIGTRAP | 0x80);
        if (!get_registers(held->tid, &held->regs))
            return is_32_bit;
        repeat_call(&held->regs);
        find_dispatch(held);
        held->was_told_to_stop |= is_event && (status & 0xff) != SIGTRAP;
        held->is_returning = is_call && is_at_return(held);
        if ((is_event || held->is_returning) && hold->is_safe(hold, held))
            return is_held;
        tl_held_trace(PTRACE_SYSCALL, held->tid, NULL, (void *)(uintptr_t)(is_event || is_call ? 0 : status));
    }
}

static bool is_zombie(pid_t tid)
{
    char path[64], line[256], state = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", tid, tid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "State: %c", &state) != 1)
        continue;
    if (file)
        fclose(file);
    return !file || state == 'Z' || state == 'X';
}

static struct tl_held *add(struct tl_hold *hold, pid_t tid)
{
    if (hold->count == hold->room) {
        size_t room = hold->room ? 2 * hold->room : 64;
        struct tl_held *held = realloc(hold->held, room * sizeof *held);
        if (!held)
            return NULL;
        hold->held = held;
        hold->room = room;
    }
    struct tl_held *held = &hold->held[hold->count++];
    *held = (struct tl_held){.tid = tid};
    return held;
}

static bool is_known(const struct tl_hold *hold, pid_t tid)
{
    for (size_t i = 0; i < hold->count; i++)
        if (hold->held[i].tid == tid)
            return true;
    return false;
}

// Seizes and stops the threads that are not known yet, one after the other: who is on the way to a place
// where it may be changed can need what another one has.
static struct tl_error *hold_new(struct tl_hold *hold, DIR *tasks)
{
    const uintptr_t options = PTRACE_O_TRACESYSGOOD;
    struct dirent *entry;

    while ((entry = readdir(tasks))) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (!tid || is_known(hold, tid))
            continue;
        struct tl_held *held = add(hold, tid);
        if (!held)
            return tl_error_new(ENOMEM, "cannot hold so many threads");
        held->is_gone = true;
        if (tl_held_trace(PTRACE_SEIZE, tid, NULL, (void *)options) < 0) {
            int error = errno;
            if (error != ESRCH && !is_zombie(tid))
                return tl_error_new(error, "ptrace(PTRACE_SEIZE)");
            continue;
        }
        held->is_gone = false;
        enum outcome outcome = hold_one(hold, held);
        if (outcome == is_busy)
            return tl_error_new(EBUSY, "thread %d did not stop within %d seconds", tid, patience_seconds);
        if (outcome == is_32_bit)
            return tl_error_new(ENOEXEC, "it is a 32-bit program");
    }
    return NULL;
}

// Where the process has an agent, or 0.
static uint64_t find_region(pid_t pid)
{
    char path[32], line[512];
    unsigned long long start, offset, region = 0;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    while (maps && !region && fgets(line, sizeof line, maps))
        if (strstr(line, "/memfd:trapline") && sscanf(line, "%llx-%*x %*s %llx", &start, &offset) == 2 &&
            !offset)
            region = start;
    if (maps)
        fclose(maps);
    return region;
}

struct tl_error *tl_hold_all(struct tl_hold *hold, pid_t tid)
{
    char path[32];
    size_t before, living = 0;

    tl_agent_header(&hold->header);
    hold->region = find_region(tid);
    hold->until = now() + patience_seconds;
    snprintf(path, sizeof path, "/proc/%d/task", tid);
    do {
        before = hold->count;
        DIR *tasks = opendir(path);
        if (!tasks)
            return tl_error_new(errno == ENOENT ? ESRCH : errno, "%s", path);
        struct tl_error *error = hold_new(hold, tasks);
        closedir(tasks);
        if (error)
            return error;
    } while (hold->count > before);
    for (size_t i = 0; i < hold->count; i++)
        living += !hold->held[i].is_gone;
    return living ? NULL : tl_error_new(ESRCH, "it has ended");
}

// A thread that is detached stops again by itself, but not at once; who is going to trace it finds it
// stopped.
static void wait_until_stopped(const struct tl_hold *hold, pid_t tid)
{
    char path[64], line[128], state = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", tid, tid);
    for (;; nap()) {
        FILE *file = fopen(path, "re");
        if (!file)
            return;
        while (fgets(line, sizeof line, file) && sscanf(line, "State: %c", &state) != 1)
            continue;
        fclose(file);
        if (state == 'T' || state == 'Z' || is_too_late(hold))
            return;
    }
}

void tl_hold_end(struct tl_hold *hold)
{
    for (size_t i = 0; i < hold->count; i++) {
        struct tl_held *held = &hold->held[i];
        if (held->is_gone)
            continue;
        tl_held_trace(PTRACE_DETACH, held->tid, NULL, NULL);
        if (held->owes_stop)
            syscall(SYS_tkill, held->tid, SIGSTOP);
    }
    for (size_t i = 0; i < hold->count; i++)
        if (!hold->held[i].is_gone && hold->held[i].was_told_to_stop)
            wait_until_stopped(hold, hold->held[i].tid);
    free(hold->held);
    hold->held = NULL;
    hold->count = hold->room = 0;
}
