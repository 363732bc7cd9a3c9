// What a stop means, and how its tracee goes on.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "ptrace_state.h"
#include "vdso.h"

static bool is_held(enum place at)
{
    return at == AT_ENTRY || at == AT_RETURN || at == AT_HANDLER;
}

void tl_tracee_place(struct tl_tracer *tracer, struct tracee *t, enum place at)
{
    tracer->held += is_held(at);
    tracer->held -= is_held(t->at);
    t->at = at;
}

static void let_go(struct tl_tracer *tracer, struct tracee *t, int number)
{
    tl_trace(PTRACE_DETACH, t->tid, 0, (unsigned long)number);
    tl_tracee_remove(tracer, t);
}

// Errors are ignored: what does not stand there any more was killed, and its end is an event to come.
void tl_tracee_resume(struct tl_tracer *tracer, struct tracee *t, int number)
{
    tl_tracee_place(tracer, t, AT_LARGE);
    if (t->owes_stop)
        syscall(SYS_tkill, t->tid, SIGSTOP);
    if (t->stop_again)
        tl_trace(PTRACE_INTERRUPT, t->tid, 0, 0);
    t->owes_stop = t->stop_again = false;
    if (tracer->leaving && !t->in_call) {
        let_go(tracer, t, number);
        return;
    }
    bool every_call = !tracer->filtered || t->in_call || t->restart || t->garbage;
    tl_trace(every_call ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, 0, (unsigned long)number);
}

static void tell(int fd)
{
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);

    (void)ignored;
}

static void note_stop(struct tl_tracer *tracer, const struct tracee *t, int number)
{
    if (t->tid != tracer->command)
        return;
    pthread_mutex_lock(&tracer->lock);
    bool news = tracer->stopped_by != number;
    tracer->stopped_by = number;
    pthread_mutex_unlock(&tracer->lock);
    if (news)
        tell(tracer->stop_fd);
}

static bool is_group_stop(int number)
{
    return number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

static void on_group_stop(struct tl_tracer *tracer, struct tracee *t, int number)
{
    if (tracer->leaving) {
        let_go(tracer, t, 0);
        return;
    }
    tl_tracee_place(tracer, t, AT_STOP);
    tl_trace(PTRACE_LISTEN, t->tid, 0, 0);
    note_stop(tracer, t, number);
}

void tl_tracer_born(struct tl_tracer *tracer, struct tracee *t)
{
    struct tl_registers registers;

    if (tracer->command != t->tid)
        tl_trace(PTRACE_SETOPTIONS, t->tid, 0, tracer->options); // not those of its maker
    // It has a copy of its maker's registers, with the arguments that we put there.
    if (t->maker.changed && tl_registers_get(t->tid, &registers) == 0) {
        for (unsigned i = 0; i < 6; i++)
            if (t->maker.changed & 1U << i)
                *tl_registers_argument(&registers, t->maker.arch, i) = t->maker.arguments[i];
        tl_registers_set(t->tid, &registers);
    }
    if (is_group_stop(t->birth_signal))
        on_group_stop(tracer, t, t->birth_signal);
    else
        tl_tracee_resume(tracer, t, 0);
}

static void on_event_stop(struct tl_tracer *tracer, struct tracee *t, int number)
{
    if (!t->known) {
        t->known = true;
        t->birth_signal = number;
        if (t->has_maker && !tracer->paused)
            tl_tracer_born(tracer, t);
        else
            tl_tracee_place(tracer, t, AT_BIRTH);
    } else if (is_group_stop(number)) {
        on_group_stop(tracer, t, number);
    } else {
        note_stop(tracer, t, 0);
        tl_tracee_resume(tracer, t, 0);
    }
}

static unsigned long event_message(const struct tracee *t)
{
    unsigned long message = 0;

    tl_trace(PTRACE_GETEVENTMSG, t->tid, 0, (unsigned long)&message);
    return message;
}

static void on_new(struct tl_tracer *tracer, struct tracee *t, bool vfork)
{
    pid_t tid = (pid_t)event_message(t);
    struct tracee *child = tid > 0 ? tl_tracee_find(tracer, tid) : NULL;

    if (tid > 0 && !child)
        child = tl_tracee_add(tracer, tid);
    if (child && !child->has_maker) {
        child->has_maker = true;
        child->borrowed_from = vfork ? t->tid : 0;
        if (t->applied) {
            child->maker.changed = t->applied;
            child->maker.arch = t->call.arch;
            memcpy(child->maker.arguments, t->call.args, sizeof child->maker.arguments);
        }
        if (child->at == AT_BIRTH && !tracer->paused)
            tl_tracer_born(tracer, child);
    }
    tl_tracee_resume(tracer, t, 0);
}

static void free_copies(struct copy **copies)
{
    while (*copies) {
        struct copy *next = (*copies)->next;
        free(*copies);
        *copies = next;
    }
}

// What a child of vfork had mapped in its parent's memory is the parent's to take away.
static void return_copies(struct tl_tracer *tracer, struct tracee *t)
{
    struct tracee *lender = t->borrowed_from ? tl_tracee_find(tracer, t->borrowed_from) : NULL;
    struct copy **end = &t->copies;

    t->borrowed_from = 0;
    while (*end)
        end = &(*end)->next;
    *end = t->garbage;
    t->garbage = NULL;
    while (*end)
        end = &(*end)->next;
    if (!lender) {
        free_copies(&t->copies);
        return;
    }
    *end = lender->garbage;
    lender->garbage = t->copies;
    t->copies = NULL;
}

// TID is the process's id. The thread that called execve has it from now on, whatever its own was.
static void on_exec(struct tl_tracer *tracer, struct tracee *t)
{
    pid_t former = (pid_t)event_message(t);
    struct tracee *caller = former > 0 && former != t->tid ? tl_tracee_find(tracer, former) : NULL;

    if (caller) {
        pid_t tid = t->tid;
        tl_tracee_remove(tracer, t);
        tl_tracee_rename(tracer, caller, tid);
        t = caller;
    }
    t->known = t->has_maker = t->executed = true;
    t->restart = 0;
    return_copies(tracer, t);
    if (tracer->command == t->tid)
        tl_trace(PTRACE_SETOPTIONS, t->tid, 0, tl_tracer_command_options(tracer));
    int error = tracer->hide_vdso ? tl_vdso_hide(t->tid) : 0;
    if (error && error != ESRCH)
        tracer->on_unhidden(tracer->context, error);
    tl_tracee_resume(tracer, t, 0);
}

static void on_syscall(struct tl_tracer *tracer, struct tracee *t)
{
    struct ptrace_syscall_info info;

    if (tl_trace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof info, (unsigned long)&info) <= 0)
        return; // killed
    if (info.op == PTRACE_SYSCALL_INFO_EXIT)
        tl_tracee_returns(tracer, t);
    else if (info.op == PTRACE_SYSCALL_INFO_ENTRY || info.op == PTRACE_SYSCALL_INFO_SECCOMP)
        tl_tracee_enters(tracer, t, &info);
    else
        tl_tracee_resume(tracer, t, 0);
}

// Who is new and waits for its maker may have lost it.
void tl_tracer_free_births(struct tl_tracer *tracer)
{
    if (tracer->paused)
        return;
    for (unsigned i = 0; i < tracee_buckets; i++) {
        for (struct tracee *t = tracer->table[i], *next; t; t = next) {
            next = t->next;
            if (t->at == AT_BIRTH)
                tl_tracer_born(tracer, t);
        }
    }
}

static void on_end(struct tl_tracer *tracer, pid_t tid, int status)
{
    struct tracee *t = tl_tracee_find(tracer, tid);

    if (t)
        tl_tracee_remove(tracer, t);
    tl_tracer_free_births(tracer);
    if (tid != tracer->command)
        return;
    pthread_mutex_lock(&tracer->lock);
    tracer->exit_status = status;
    tracer->exited = true;
    pthread_mutex_unlock(&tracer->lock);
}

void tl_tracer_event(struct tl_tracer *tracer, pid_t tid, int status)
{
    if (!WIFSTOPPED(status)) {
        on_end(tracer, tid, status);
        return;
    }
    struct tracee *t = tl_tracee_find(tracer, tid);
    if (!t)
        t = tl_tracee_add(tracer, tid);
    if (!t) {
        tl_trace(PTRACE_DETACH, tid, 0, 0);
        return;
    }
    int event = status >> 16, number = WSTOPSIG(status);
    switch (event) {
    case PTRACE_EVENT_SECCOMP:
        on_syscall(tracer, t);
        break;
    case PTRACE_EVENT_STOP:
        on_event_stop(tracer, t, number);
        break;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        on_new(tracer, t, event == PTRACE_EVENT_VFORK);
        break;
    case PTRACE_EVENT_EXEC:
        on_exec(tracer, t);
        break;
    case PTRACE_EVENT_EXIT:
        let_go(tracer, t, 0);
        break;
    default:
        if (event)
            tl_tracee_resume(tracer, t, 0);
        else if (number == (SIGTRAP | 0x80))
            on_syscall(tracer, t);
        else
            tl_tracee_signal(tracer, t, number);
    }
}
