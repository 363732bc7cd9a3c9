// Signals that interrupt calls, or would end who waits.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "ptrace_state.h"

struct signal_sets {
    uint64_t pending, blocked, ignored, caught;
};

static uint64_t bit(int number)
{
    return 1ULL << (number - 1);
}

static uint64_t set_in(const char *text, const char *name)
{
    const char *line = strstr(text, name);

    return line ? strtoull(line + strlen(name), NULL, 16) : 0;
}

static struct signal_sets sets(pid_t tid)
{
    struct signal_sets found = {0};
    char path[64], text[4096];

    snprintf(path, sizeof path, "/proc/%d/status", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return found;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    found.pending = set_in(text, "\nSigPnd:") | set_in(text, "\nShdPnd:");
    found.blocked = set_in(text, "\nSigBlk:");
    found.ignored = set_in(text, "\nSigIgn:");
    found.caught = set_in(text, "\nSigCgt:");
    return found;
}

// The stop that PTRACE_SINGLESTEP gives when a handler has been set up, in front of its first instruction.
static bool is_at_handler(struct tracee *t)
{
    siginfo_t info;

    return tl_trace(PTRACE_GETSIGINFO, t->tid, 0, (unsigned long)&info) == 0 && info.si_code == SIGTRAP;
}

static bool find_frame(struct tracee *t, uint64_t *result, uint64_t *ip, unsigned *width)
{
    struct tl_registers registers;
    uint32_t word = 0;
    size_t done;

    if (tl_registers_get(t->tid, &registers) < 0)
        return false;
    tl_memory_read(t->tid, tl_tracee_frame_word(&registers), &word, sizeof word, &done);
    return tl_tracee_frame(&registers, word, result, ip, width);
}

static void at_handler(struct tl_tracer *tracer, struct tracee *t)
{
    uint64_t result_at, ip_at;
    unsigned width;
    size_t done;
    int64_t result = 0;
    int32_t narrow = 0;

    t->restart = 0;
    if (find_frame(t, &result_at, &ip_at, &width)) {
        if (width == sizeof narrow) {
            tl_memory_read(t->tid, result_at, &narrow, sizeof narrow, &done);
            result = narrow;
        } else {
            tl_memory_read(t->tid, result_at, &result, sizeof result, &done);
        }
    }
    if (result != -EINTR || !t->wants_result) {
        tl_tracee_resume(tracer, t, 0);
        return;
    }
    t->call.result = result;
    tl_tracee_report(tracer, t, AT_HANDLER);
}

void tl_tracee_set_interrupted_result(struct tracee *t, int64_t result)
{
    uint64_t result_at, ip_at;
    unsigned width;
    size_t done;

    if (find_frame(t, &result_at, &ip_at, &width))
        tl_memory_write(t->tid, result_at, &result, width, &done);
}

void tl_tracee_signal(struct tl_tracer *tracer, struct tracee *t, int number)
{
    if (t->stepping && number == SIGTRAP && is_at_handler(t)) {
        t->stepping = false;
        at_handler(tracer, t);
        return;
    }
    t->stepping = false;
    siginfo_t info;
    bool is_of_interest = tracer->on_signal || t->restart;
    bool is_caught = is_of_interest && !tracer->leaving && sets(t->tid).caught & bit(number);
    if (is_caught && tracer->on_signal && tl_trace(PTRACE_GETSIGINFO, t->tid, 0, (unsigned long)&info) == 0)
        tracer->on_signal(tracer->context, t->tid, &info);
    // Whether an interrupted call is made again, or fails with EINTR, is decided while a handler is set up.
    if (t->restart && is_caught) {
        t->stepping = true;
        tl_trace(PTRACE_SINGLESTEP, t->tid, 0, (unsigned long)number);
        return;
    }
    tl_tracee_resume(tracer, t, number);
}

// A signal that ends a process does not get through to a thread that we keep stopped.
static bool is_to_die(pid_t tid)
{
    const uint64_t harmless = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH) | bit(SIGSTOP) |
                              bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
    struct signal_sets s = sets(tid);

    return s.pending & ~s.blocked & ~s.ignored & ~s.caught & ~harmless;
}

void tl_tracer_tick(struct tl_tracer *tracer)
{
    for (unsigned i = 0; i < tracee_buckets; i++) {
        for (struct tracee *t = tracer->table[i], *next; t; t = next) {
            next = t->next;
            if ((t->at == AT_ENTRY || t->at == AT_RETURN || t->at == AT_HANDLER) && is_to_die(t->tid))
                tl_tracee_give_up(tracer, t);
        }
    }
}
