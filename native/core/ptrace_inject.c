// Calls that a tracee makes for us. At the entry of a call of its own that one is replaced, and made again
// later; behind one the same instruction is gone through again:
//
//   at entry, first time    number and arguments of another call, on to its return
//   at a return             instruction pointer back by one, on to the entry, on to the return
//   in the end              registers as they were; where the own call is still to happen, back by one and
//                           on to its entry
//
// All this is done in one go: such calls do not block, and signals are blocked meanwhile.
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "ptrace_state.h"

static bool is_stop_signal(int number)
{
    return number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

// Lets T run up to the next stop at a call, of the filter or of ptrace. ENOENT: it is gone.
static int run_to(struct tl_tracer *tracer, struct tracee *t, long request, bool seccomp)
{
    int status, number = 0;

    for (;;) {
        pid_t tid;
        tl_trace(request, t->tid, 0, (unsigned long)number);
        do
            tid = waitpid(t->tid, &status, __WALL | __WNOTHREAD);
        while (tid < 0 && errno == EINTR);
        number = 0;
        if (tid < 0)
            return ENOENT;
        int event = status >> 16;
        if (!WIFSTOPPED(status) || event == PTRACE_EVENT_EXEC) {
            // Its end, or another thread has executed a program and taken over its id.
            tracer->postponed = tid;
            tracer->postponed_status = status;
            tl_tracee_forget_call(tracer, t);
            return ENOENT;
        }
        if (event == PTRACE_EVENT_SECCOMP) {
            if (seccomp)
                return 0;
        } else if (event == PTRACE_EVENT_STOP) {
            t->stop_again = t->stop_again || is_stop_signal(WSTOPSIG(status));
        } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            if (!seccomp)
                return 0;
        } else if (!event && WSTOPSIG(status) == SIGSTOP) {
            t->owes_stop = true; // the only one that cannot be blocked
        } else if (!event) {
            number = WSTOPSIG(status);
        }
    }
}

int tl_inject_begin(struct tl_tracer *tracer, struct tracee *t, bool at_entry, struct injection *injection)
{
    uint64_t all = ~0ULL;

    injection->tracee = t;
    injection->at_entry = at_entry;
    injection->changed = false;
    if (tl_registers_get(t->tid, &injection->before) < 0 ||
        tl_trace(PTRACE_GETSIGMASK, t->tid, sizeof injection->mask, (unsigned long)&injection->mask) < 0 ||
        tl_trace(PTRACE_SETSIGMASK, t->tid, sizeof all, (unsigned long)&all) < 0) {
        tl_tracee_forget_call(tracer, t);
        return ENOENT;
    }
    return 0;
}

int tl_inject_call(struct tl_tracer *tracer, struct injection *injection, int nr, const uint64_t args[6],
                   int64_t *result)
{
    struct tl_registers registers = injection->before;
    struct tracee *t = injection->tracee;
    bool replaces = injection->at_entry && !injection->changed;
    uint32_t arch = t->call.arch;

    if (replaces)
        tl_registers_replace_call(&registers, nr);
    else
        tl_registers_repeat(&registers, nr);
    for (unsigned i = 0; i < 6; i++)
        *tl_registers_argument(&registers, arch, i) = args[i];
    tl_registers_set(t->tid, &registers);
    injection->changed = true;
    int error = replaces ? 0 : run_to(tracer, t, PTRACE_SYSCALL, false);
    if (!error)
        error = run_to(tracer, t, PTRACE_SYSCALL, false);
    if (error)
        return error;
    return tl_tracee_result(t->tid, result) < 0 ? ENOENT : 0;
}

static int restore_mask(struct injection *injection)
{
    return tl_trace(PTRACE_SETSIGMASK, injection->tracee->tid, sizeof injection->mask,
                    (unsigned long)&injection->mask) < 0
               ? ENOENT
               : 0;
}

int tl_inject_end(struct tl_tracer *tracer, struct injection *injection)
{
    struct tl_registers registers = injection->before;
    struct tracee *t = injection->tracee;

    if (!injection->changed)
        return restore_mask(injection);
    if (injection->at_entry)
        tl_registers_repeat(&registers, tl_registers_call(&injection->before));
    tl_registers_set(t->tid, &registers);
    if (injection->at_entry) {
        int error = run_to(tracer, t, t->at_seccomp ? PTRACE_CONT : PTRACE_SYSCALL, t->at_seccomp);
        if (error)
            return error;
    }
    return restore_mask(injection);
}

int tl_inject_end_with(struct tl_tracer *tracer, struct injection *injection, int64_t result)
{
    struct tl_registers registers = injection->before;

    (void)tracer;
    if (!injection->changed)
        tl_tracee_skip(injection->tracee->tid, result);
    tl_registers_set_result(&registers, result);
    if (injection->changed)
        tl_registers_set(injection->tracee->tid, &registers);
    return restore_mask(injection);
}

static bool has_failed(int64_t result)
{
    return result < 0 && result >= -4095;
}

int tl_inject_map(struct tl_tracer *tracer, struct injection *injection, uint64_t size, uint64_t *address)
{
    uint64_t rounded = (size ? size + 4095 : 4096) & ~4095ULL;
    uint64_t args[6] = {0, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0};
    struct tracee *t = injection->tracee;
    int64_t result;
    struct copy *copy = malloc(sizeof *copy);

    if (!copy)
        return ENOMEM;
    int error = tl_inject_call(tracer, injection, tl_tracee_calls(t->call.arch)->mmap, args, &result);
    if (error || has_failed(result)) {
        free(copy);
        return error ? error : (int)-result;
    }
    *address = copy->address = (uint64_t)result;
    copy->size = rounded;
    copy->next = t->copies;
    t->copies = copy;
    return 0;
}

int tl_inject_unmap(struct tl_tracer *tracer, struct injection *injection, struct copy **copies)
{
    int nr = tl_tracee_calls(injection->tracee->call.arch)->munmap;
    int error = 0;

    while (*copies && !error) {
        struct copy *copy = *copies;
        uint64_t args[6] = {copy->address, copy->size};
        int64_t result;
        *copies = copy->next;
        error = tl_inject_call(tracer, injection, nr, args, &result);
        free(copy);
    }
    return error;
}
