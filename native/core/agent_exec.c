// An execve is met by ptrace:
//
//   the caller waits for us (in its agent, or held by tl_spawn)     PTRACE_SEIZE, with PTRACE_O_TRACEEXEC
//   with an agent: PTRACE_INTERRUPT, and from stop to stop by PTRACE_SYSCALL, so that a failed execve stops
//   too the beginning of execve                                         the program's signal mask, till then
//   all blocked PTRACE_EVENT_EXEC                                                inject the agent, detach the
//   end of an execve that failed, or anything else              detach
#include "agent_transport.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory.h"

void tl_mailbox_answer(struct tl_mailbox *box, enum tl_answer answer)
{
    box->answer = answer;
    __atomic_store_n(&box->state, TL_MAILBOX_ANSWERED, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&box->sleeping, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &box->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

// Waits for this thread's one tracee, whose id is another one after an execve; false when it has ended. The
// end of a process is left for whoever waits for it, and so are the children that are not traced.
static bool next_stop(const struct tl_exec *exec, siginfo_t *info)
{
    const int options = WEXITED | WSTOPPED | __WALL | __WNOTHREAD;
    idtype_t which = exec->box ? P_ALL : P_PID;
    int result;

    do {
        memset(info, 0, sizeof *info);
        result = waitid(which, (id_t)exec->pid, info, options | WNOWAIT);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return false;
    if (info->si_code == CLD_TRAPPED || info->si_code == CLD_STOPPED) {
        siginfo_t taken;
        return waitid(P_PID, (id_t)info->si_pid, &taken, WSTOPPED | __WALL | __WNOTHREAD) == 0;
    }
    if (info->si_pid != exec->command)
        waitid(P_PID, (id_t)info->si_pid, info, WEXITED | __WALL | __WNOTHREAD);
    return false;
}

enum step { step_go_on, step_detach };

// At a stop of a system call: is this still the way to execve, or has that failed?
static enum step judge_call(const struct tl_exec *exec, bool *inside)
{
    struct __ptrace_syscall_info info;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, exec->pid, (void *)sizeof info, &info) < 0)
        return step_detach;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        *inside = info.entry.nr == SYS_execve || info.entry.nr == SYS_execveat;
        if (*inside && exec->box)
            ptrace(PTRACE_SETSIGMASK, exec->pid, (void *)sizeof(uint64_t), &exec->box->args[2]);
        // With a signal pending the agent gives up the execve for its handler.
        return info.entry.nr == SYS_rt_sigreturn ? step_detach : step_go_on;
    }
    return info.op == PTRACE_SYSCALL_INFO_EXIT && *inside ? step_detach : step_go_on;
}

// What nobody but the kernel handles, as our own process has it: a command that is held has inherited it.
static uint64_t ignored_here(void)
{
    static const int numbers[] = {SIGILL, SIGTRAP, SIGBUS, SIGSEGV, SIGSYS};
    uint64_t set = 0;

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action;
        if (sigaction(numbers[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            set |= (uint64_t)1 << (numbers[i] - 1);
    }
    return set;
}

static struct tl_entry entry_of(const struct tl_agent *agent, const struct tl_exec *exec)
{
    const struct tl_mailbox *box = exec->box;

    if (box)
        return (struct tl_entry){(int)box->args[0], (int)box->args[1], box->args[3]};
    return (struct tl_entry){agent->socket_number, agent->memory_number, ignored_here()};
}

// The caller may have been killed, by an execve of another thread, and its id be that of the new program's
// first.
static bool is_waiting_in(pid_t pid, const struct tl_mailbox *box)
{
    uint64_t pointer;
    size_t done;

    return tl_memory_read(pid, box->args[5], &pointer, sizeof pointer, &done) == 0 &&
           done == sizeof pointer && pointer == box->sp;
}

struct tl_error *tl_agent_follow_exec(const struct tl_agent *agent, const struct tl_exec *exec,
                                      enum tl_unhooked *reason)
{
    const long options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;
    struct tl_mailbox *box = exec->box;
    struct tl_entry entry = entry_of(agent, exec);
    enum __ptrace_request resume = box ? PTRACE_SYSCALL : PTRACE_CONT;
    struct tl_error *error = NULL;
    bool inside = false, executed = false;
    siginfo_t info;

    *reason = TL_HOOKED;
    if (ptrace(PTRACE_SEIZE, exec->pid, NULL, (void *)options) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SEIZE)");
    if (box)
        ptrace(PTRACE_INTERRUPT, exec->pid, NULL, NULL);
    else
        exec->release(exec->context);
    while (!executed && next_stop(exec, &info)) {
        int event = info.si_status >> 8, number = info.si_status & 0xff;
        if (event == PTRACE_EVENT_EXEC) {
            error = tl_agent_inject(agent, info.si_pid, &entry, reason);
            // The command itself: better not at all. Under a filter: it would not live anyway.
            if (error && (!box || agent->session->flags & TL_ENGINE_TRAP))
                kill(info.si_pid, SIGKILL);
            ptrace(PTRACE_DETACH, info.si_pid, NULL, NULL);
            executed = true;
            continue;
        }
        if (number == (SIGTRAP | 0x80) && judge_call(exec, &inside) == step_detach) {
            ptrace(PTRACE_DETACH, exec->pid, NULL, NULL);
            break;
        }
        if (box && event == PTRACE_EVENT_STOP && box->state == TL_MAILBOX_POSTED) {
            if (!is_waiting_in(exec->pid, box)) {
                ptrace(PTRACE_DETACH, exec->pid, NULL, NULL);
                break;
            }
            tl_mailbox_answer(box, TL_ANSWER_GO_ON);
        }
        if (event == PTRACE_EVENT_STOP && number != SIGTRAP) {
            ptrace(PTRACE_LISTEN, exec->pid, NULL, NULL); // it was told to stop, and stays so
            continue;
        }
        bool is_signal = !event && number != (SIGTRAP | 0x80);
        ptrace(resume, exec->pid, NULL, (void *)(uintptr_t)(is_signal ? number : 0));
    }
    // Whoever had it is no more; somebody may have swept it up already.
    uint32_t answered = TL_MAILBOX_ANSWERED;
    if (box && executed && box->tid == exec->pid)
        __atomic_compare_exchange_n(&box->state, &answered, TL_MAILBOX_FREE, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED);
    return error;
}

// -- on behalf of a transport
// --------------------------------------------------------------------------------------

static void name_of(pid_t pid, char *name, size_t size)
{
    char path[40];

    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(name, (int)size, file))
        name[0] = '\0';
    if (file)
        fclose(file);
    name[strcspn(name, "\n")] = '\0';
}

// With a mailbox the execve is still to come, and its path says more than the name of the old program.
static void tell(const struct agent_transport *a, pid_t pid, const struct tl_mailbox *box,
                 enum tl_unhooked reason, int error)
{
    char name[4096] = "";
    size_t length;

    if (!box || tl_memory_read_string(pid, box->args[4], name, sizeof name, &length) || !length)
        name_of(pid, name, sizeof name);
    name[sizeof name - 1] = '\0';
    a->events.unhooked(a->events.context, pid, reason, error, name);
}

void tl_agent_warn(struct agent_transport *a, const struct tl_mailbox *box, enum tl_unhooked reason,
                   int error)
{
    tell(a, box->tid, box, reason, error);
}

// The thread that traces another one, or 0.
static pid_t tracer_of(pid_t pid)
{
    char path[40], line[128];
    pid_t tracer = 0;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "TracerPid: %d", &tracer) != 1)
        continue;
    if (file)
        fclose(file);
    return tracer;
}

static bool is_our_thread(pid_t tid)
{
    return syscall(SYS_tgkill, getpid(), tid, 0) == 0;
}

struct follower {
    struct agent_transport *transport;
    struct tl_mailbox *box;
};

static void follow(struct agent_transport *a, struct tl_mailbox *box)
{
    struct tl_exec exec = {.pid = box->tid, .command = a->command, .box = box};
    enum tl_unhooked reason;
    struct tl_error *error = tl_agent_follow_exec(a->agent, &exec, &reason);

    if (error && reason == TL_HOOKED && error->code == EPERM && !tracer_of(exec.pid)) {
        // There may be means to permit it that only the caller has.
        tl_error_free(error);
        error = NULL;
        if (tl_agent_ask_back(a, box, TL_ANSWER_PERMIT) == 0)
            error = tl_agent_follow_exec(a->agent, &exec, &reason);
    }
    if (!error)
        return;
    if (reason != TL_HOOKED) {
        tell(a, exec.pid, NULL, reason, error->code);
    } else if (error->code != ESRCH) {
        pid_t tracer = tracer_of(exec.pid);
        if (tracer && is_our_thread(tracer)) {
            tl_error_free(error);
            return; // killed by the execve of another thread, which now has its id
        }
        reason = error->code != EPERM ? TL_UNHOOKED_FAILED
                 : tracer             ? TL_UNHOOKED_TRACED
                                      : TL_UNHOOKED_REFUSED;
        tell(a, exec.pid, box, reason, error->code);
        tl_mailbox_answer(box, TL_ANSWER_UNFOLLOWED);
    }
    tl_error_free(error);
}

// Another program is about to trace one of ours: the agent leaves it alone.
static void release(struct agent_transport *a, struct tl_mailbox *box)
{
    pid_t traced = (pid_t)box->args[0];

    if (tl_agent_release(traced, a->command, false))
        tell(a, traced, NULL, TL_UNHOOKED_TRACED, 0);
    tl_mailbox_answer(box, TL_ANSWER_GO_ON);
}

static void *follower_main(void *argument)
{
    struct follower follower = *(struct follower *)argument;
    struct agent_transport *a = follower.transport;

    free(argument);
    if (follower.box->request == TL_REQUEST_RELEASE)
        release(a, follower.box);
    else
        follow(a, follower.box);
    pthread_mutex_lock(&a->lock);
    a->execs--;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

void tl_agent_start_exec(struct agent_transport *a, struct tl_mailbox *box)
{
    struct follower *follower = malloc(sizeof *follower);
    pthread_t thread;
    int error = ENOMEM;

    if (follower) {
        *follower = (struct follower){a, box};
        pthread_mutex_lock(&a->lock);
        a->execs++;
        pthread_mutex_unlock(&a->lock);
        error = pthread_create(&thread, NULL, follower_main, follower);
        if (!error) {
            pthread_detach(thread);
            return;
        }
        pthread_mutex_lock(&a->lock);
        a->execs--;
        pthread_mutex_unlock(&a->lock);
        free(follower);
    }
    box->result = -error;
    tl_mailbox_answer(box, TL_ANSWER_REPLY);
}
