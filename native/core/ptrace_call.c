// Calls: reporting them, carrying out answers, results, restarts.
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "filter.h"
#include "memory.h"
#include "ptrace_state.h"
#include "seccomp_abi.h"

// What a call that was interrupted leaves for the kernel, which never shows it to the caller.
enum { ERESTARTSYS_ = 512, ERESTARTNOINTR_, ERESTARTNOHAND_, ENOIOCTLCMD_, ERESTART_RESTARTBLOCK_ };

static bool is_restart(int64_t result)
{
    return result == -ERESTARTSYS_ || result == -ERESTARTNOINTR_ || result == -ERESTARTNOHAND_ ||
           result == -ERESTART_RESTARTBLOCK_;
}

static unsigned interest_in(struct tl_tracer *tracer, uint32_t arch, int nr)
{
    int index = arch_index(arch);
    unsigned what = 0;

    if (index >= 0 && nr >= 0 && nr < interest_calls) {
        what = atomic_load_explicit(&tracer->interest[index][nr], memory_order_relaxed);
    } else {
        pthread_mutex_lock(&tracer->lock);
        for (struct other_interest *other = tracer->others; other; other = other->next)
            if (other->arch == arch && other->nr == nr)
                what = other->what;
        pthread_mutex_unlock(&tracer->lock);
    }
    if (!what)
        what = atomic_load_explicit(&tracer->default_interest, memory_order_relaxed);
    return what ? what : INTEREST_BEFORE;
}

void tl_tracee_report(struct tl_tracer *tracer, struct tracee *t, enum place at)
{
    tl_tracee_place(tracer, t, at);
    t->call.returned = at != AT_ENTRY;
    pthread_mutex_lock(&tracer->lock);
    t->id = ++tracer->sequence << tid_bits | (unsigned)t->tid;
    t->call.id = t->id;
    tl_tracer_queue_call(tracer, t);
    pthread_mutex_unlock(&tracer->lock);
    // Outside of the lock, which the worker wants as soon as it wakes.
    ssize_t ignored = write(tracer->calls_in, "", 1);
    (void)ignored;
}

static void collect_garbage(struct tl_tracer *tracer, struct tracee *t, bool at_entry)
{
    struct injection injection;

    if (tl_inject_begin(tracer, t, at_entry, &injection) == 0 &&
        tl_inject_unmap(tracer, &injection, &t->garbage) == 0)
        tl_inject_end(tracer, &injection);
}

// A call through the vsyscall page has no return to stop at, so it is made here, for its caller.
static int64_t make_vsyscall(struct tracee *t)
{
    const uint64_t *args = t->call.args;
    struct {
        struct timeval time;
        struct timezone zone;
        unsigned cpu[2];
    } out;
    struct {
        uint64_t to;
        void *from;
        size_t size;
    } parts[2] = {{args[0], &out.time, sizeof out.time}, {args[1], &out.zone, sizeof out.zone}};
    int64_t result = 0;
    size_t done;

    switch (t->call.ip >> 10 & 3) {
    case 0:
        syscall(SYS_gettimeofday, &out.time, &out.zone);
        break;
    case 1:
        syscall(SYS_gettimeofday, &out.time, NULL);
        result = out.time.tv_sec;
        parts[0].size = sizeof out.time.tv_sec;
        parts[1].to = 0;
        break;
    default:
        syscall(SYS_getcpu, &out.cpu[0], &out.cpu[1], NULL);
        parts[0].from = &out.cpu[0];
        parts[1].from = &out.cpu[1];
        parts[0].size = parts[1].size = sizeof out.cpu[0];
    }
    for (int i = 0; i < 2; i++)
        if (parts[i].to && tl_memory_write(t->tid, parts[i].to, parts[i].from, parts[i].size, &done))
            result = -EFAULT;
    return result;
}

static void finish_vsyscall(struct tl_tracer *tracer, struct tracee *t)
{
    t->call.result = make_vsyscall(t);
    tl_tracee_skip(t->tid, t->call.result);
    struct request *performing = t->performing;
    t->performing = NULL;
    if (performing) {
        performing->value = t->call.result;
        tl_tracee_place(tracer, t, AT_RETURN);
        tl_request_complete(performing, 0);
    } else {
        tl_tracee_report(tracer, t, AT_RETURN);
    }
}

// Nobody would trace the new task, and the kernel refuses what the filter reports of it.
static void keep_traced(struct tracee *t)
{
    if (arch_index(t->call.arch) != 0 || t->call.nr != SYS_clone)
        return;
    if (!(t->changed & 1))
        t->arguments[0] = t->call.args[0];
    if (t->arguments[0] & CLONE_UNTRACED) {
        t->arguments[0] &= ~(uint64_t)CLONE_UNTRACED;
        t->changed |= 1;
    }
}

static void apply_arguments(struct tracee *t)
{
    struct tl_registers registers;

    keep_traced(t);
    t->applied = t->changed;
    if (!t->applied || tl_registers_get(t->tid, &registers) < 0)
        return;
    for (unsigned i = 0; i < 6; i++)
        if (t->applied & 1U << i)
            *tl_registers_argument(&registers, t->call.arch, i) = t->arguments[i];
    tl_registers_set(t->tid, &registers);
}

static void restore_arguments(struct tracee *t)
{
    struct tl_registers registers;

    if (t->applied && !t->executed && tl_registers_get(t->tid, &registers) == 0) {
        for (unsigned i = 0; i < 6; i++)
            if (t->applied & 1U << i)
                *tl_registers_argument(&registers, t->call.arch, i) = t->call.args[i];
        tl_registers_set(t->tid, &registers);
    }
    t->applied = t->changed = 0;
}

static void let_happen(struct tl_tracer *tracer, struct tracee *t)
{
    if (tl_tracee_is_emulated_by_kernel(t->call.ip) && (t->wants_result || t->performing)) {
        finish_vsyscall(tracer, t);
        return;
    }
    apply_arguments(t);
    t->executed = false;
    t->in_call = t->wants_result || t->performing || t->applied || t->copies;
    tl_tracee_resume(tracer, t, 0);
}

// At the entry of the call that follows an interrupted one. True: it is that one, which goes on.
static bool is_continued(struct tracee *t, int nr, uint32_t arch)
{
    int restart = t->restart;

    if (t->in_call) // it has been found out already; now the filter has reported it
        return true;
    t->restart = 0;
    if (restart == -ERESTART_RESTARTBLOCK_ && nr == tl_tracee_calls(arch)->restart_syscall) {
        t->in_call = true;
        return true;
    }
    // A handler has run instead, or the call is made again from its beginning.
    while (t->copies) {
        struct copy *next = t->copies->next;
        t->copies->next = t->garbage;
        t->garbage = t->copies;
        t->copies = next;
    }
    return false;
}

void tl_tracee_enters(struct tl_tracer *tracer, struct tracee *t, const struct ptrace_syscall_info *info)
{
    int nr = (int)info->entry.nr;

    if (is_continued(t, nr, info->arch)) {
        tl_tracee_resume(tracer, t, 0);
        return;
    }
    t->at_seccomp = info->op == PTRACE_SYSCALL_INFO_SECCOMP;
    t->call.nr = nr;
    t->call.arch = info->arch;
    t->call.ip = info->instruction_pointer;
    t->call.tid = t->tid;
    t->call.stage = 0;
    t->call.result = 0;
    t->call.emulated = false;
    memcpy(t->call.args, info->entry.args, sizeof t->call.args);
    if (t->garbage && !tl_tracee_is_emulated_by_kernel(t->call.ip))
        collect_garbage(tracer, t, true);
    if (tracer->filtered && !t->at_seccomp) {
        tl_tracee_resume(tracer, t, 0);
        return;
    }
    if (!tracer->filtered) {
        uint32_t verdict = tl_filter_run(tracer->filter, tracer->filter_length, &t->call);
        if ((verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO && nr != -1)
            tl_tracee_skip(t->tid, -(int64_t)(verdict & SECCOMP_RET_DATA));
        if ((verdict & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_TRACE) {
            tl_tracee_resume(tracer, t, 0);
            return;
        }
    }
    unsigned interest = interest_in(tracer, t->call.arch, nr);
    t->wants_result = interest & INTEREST_RETURNED;
    if (interest & INTEREST_BEFORE && !tracer->leaving)
        tl_tracee_report(tracer, t, AT_ENTRY);
    else
        let_happen(tracer, t);
}

// A handler may see EINTR, or the call is made again: only then can be said which.
static void interrupted(struct tl_tracer *tracer, struct tracee *t, int64_t result)
{
    bool open = t->wants_result || t->copies;

    tl_tracee_forget_call(tracer, t);
    t->restart = open ? (int)result : 0;
    tl_tracee_resume(tracer, t, 0);
}

void tl_tracee_returns(struct tl_tracer *tracer, struct tracee *t)
{
    int64_t result;

    if (!t->in_call || tl_tracee_result(t->tid, &result) < 0) {
        tl_tracee_resume(tracer, t, 0);
        return;
    }
    t->in_call = false;
    restore_arguments(t);
    if (is_restart(result)) {
        interrupted(tracer, t, result);
        return;
    }
    t->call.result = result;
    if (t->copies) {
        t->garbage = t->copies;
        t->copies = NULL;
        // A signal mask that is to be restored with EINTR does not survive an injection.
        if (result != -EINTR)
            collect_garbage(tracer, t, false);
    }
    struct request *performing = t->performing;
    t->performing = NULL;
    if (performing) {
        performing->value = result;
        tl_tracee_place(tracer, t, AT_RETURN);
        tl_request_complete(performing, 0);
    } else if (t->wants_result && !tracer->leaving) {
        tl_tracee_report(tracer, t, AT_RETURN);
    } else {
        tl_tracee_resume(tracer, t, 0);
    }
}

// Copies for a call that does not happen after all are taken away in its place.
static void skip_call(struct tl_tracer *tracer, struct tracee *t, int64_t result)
{
    struct injection injection;

    if (!t->copies)
        tl_tracee_skip(t->tid, result);
    else if (tl_inject_begin(tracer, t, true, &injection) == 0 &&
             tl_inject_unmap(tracer, &injection, &t->copies) == 0)
        tl_inject_end_with(tracer, &injection, result);
}

void tl_tracee_reply(struct tl_tracer *tracer, struct tracee *t, int64_t result)
{
    if (t->at == AT_ENTRY)
        skip_call(tracer, t, result);
    else if (t->at == AT_RETURN)
        tl_tracee_set_result(t->tid, result);
    else
        tl_tracee_set_interrupted_result(t, result);
    t->changed = 0;
    tl_tracee_resume(tracer, t, 0);
}

void tl_tracee_go_on(struct tl_tracer *tracer, struct tracee *t)
{
    if (t->at == AT_ENTRY)
        let_happen(tracer, t);
    else
        tl_tracee_resume(tracer, t, 0);
}

void tl_tracee_perform(struct tl_tracer *tracer, struct tracee *t, struct request *request)
{
    if (t->at != AT_ENTRY) {
        request->value = t->call.result;
        tl_request_complete(request, 0);
        return;
    }
    t->performing = request;
    let_happen(tracer, t);
}

static int make_copy(struct tl_tracer *tracer, struct tracee *t, struct request *request)
{
    struct injection injection;
    uint64_t address;
    size_t done;

    if (t->at != AT_ENTRY || tl_tracee_is_emulated_by_kernel(t->call.ip))
        return EINVAL;
    int error = tl_inject_begin(tracer, t, true, &injection);
    if (!error)
        error = tl_inject_map(tracer, &injection, request->size, &address);
    if (error == ENOENT)
        return error;
    int ended = tl_inject_end(tracer, &injection);
    if (error || ended)
        return error ? error : ended;
    error = tl_memory_write(t->tid, address, request->data, request->size, &done);
    request->value = (int64_t)address;
    return error;
}

void tl_tracee_copy(struct tl_tracer *tracer, struct tracee *t, struct request *request)
{
    int error = make_copy(tracer, t, request);

    if (!error) {
        pthread_mutex_lock(&tracer->lock);
        t->changed |= 1U << request->index;
        t->arguments[request->index] = (uint64_t)request->value;
        pthread_mutex_unlock(&tracer->lock);
    }
    tl_request_complete(request, error);
}

static int give_fd(struct tl_tracer *tracer, struct tracee *t, struct request *request)
{
    struct injection injection;
    int number = -1, ended;

    if (t->at == AT_HANDLER || tl_tracee_is_emulated_by_kernel(t->call.ip))
        return EINVAL;
    int error = tl_inject_begin(tracer, t, t->at == AT_ENTRY, &injection);
    if (!error)
        error = tl_inject_fd(tracer, &injection, request->fd, request->close_on_exec, &number);
    if (error == ENOENT)
        return error;
    if (!error && request->kind == REQUEST_REPLY_FD) {
        error = t->copies ? tl_inject_unmap(tracer, &injection, &t->copies) : 0;
        ended = error ? 0 : tl_inject_end_with(tracer, &injection, number);
    } else {
        ended = tl_inject_end(tracer, &injection);
    }
    request->value = number;
    return error ? error : ended;
}

void tl_tracee_give_fd(struct tl_tracer *tracer, struct tracee *t, struct request *request)
{
    bool answers = request->kind == REQUEST_REPLY_FD;
    int error = give_fd(tracer, t, request);

    if (!error && answers)
        tl_tracee_forget_call(tracer, t);
    tl_request_complete(request, error);
    if (!error && answers)
        tl_tracee_resume(tracer, t, 0);
}

void tl_tracee_give_up(struct tl_tracer *tracer, struct tracee *t)
{
    tl_tracee_forget_call(tracer, t);
    if (t->at == AT_ENTRY)
        skip_call(tracer, t, -EINTR);
    tl_tracee_resume(tracer, t, 0);
}

void tl_tracee_abandon(struct tl_tracer *tracer, struct tracee *t)
{
    tl_tracee_forget_call(tracer, t);
    if (t->at == AT_ENTRY && tracer->filtered)
        skip_call(tracer, t, -ENOSYS);
    else if (t->copies) {
        t->garbage = t->copies;
        t->copies = NULL;
        collect_garbage(tracer, t, t->at == AT_ENTRY);
    }
    t->wants_result = false;
    tl_tracee_resume(tracer, t, 0);
}
