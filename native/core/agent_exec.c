// An execve is met by ptrace:
//
//   the caller waits for us (in its agent, or held by tl_spawn)     PTRACE_SEIZE, with PTRACE_O_TRACEEXEC
//   with an agent: PTRACE_INTERRUPT, and from stop to stop by PTRACE_SYSCALL, so that a failed execve stops too
//   PTRACE_EVENT_EXEC                                                inject the agent, detach
//   the end of an execve that failed, or anything else              detach
#include "agent.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void tl_mailbox_answer(struct tl_mailbox *box, enum tl_answer answer)
{
    box->answer = answer;
    __atomic_store_n(&box->state, TL_MAILBOX_ANSWERED, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&box->sleeping, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &box->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

// Waits for this thread's one tracee; false when it has ended. Its end is left for whoever waits for it.
static bool next_stop(pid_t command, siginfo_t *info)
{
    int result;

    do {
        memset(info, 0, sizeof *info);
        result = waitid(P_ALL, 0, info, WEXITED | WSTOPPED | WNOWAIT | __WALL | __WNOTHREAD);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return false;
    if (info->si_code == CLD_TRAPPED || info->si_code == CLD_STOPPED) {
        siginfo_t taken;
        return waitid(P_PID, (id_t)info->si_pid, &taken, WSTOPPED | __WALL | __WNOTHREAD) == 0;
    }
    if (info->si_pid != command)
        waitid(P_PID, (id_t)info->si_pid, info, WEXITED | __WALL | __WNOTHREAD);
    return false;
}

enum step { step_go_on, step_detach };

// At a stop of a system call: is this still the way to execve, or has that failed?
static enum step judge_call(pid_t pid, bool *inside)
{
    struct __ptrace_syscall_info info;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info) < 0)
        return step_detach;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        *inside = info.entry.nr == SYS_execve || info.entry.nr == SYS_execveat;
        // With a signal pending the agent gives up the execve for its handler.
        return info.entry.nr == SYS_rt_sigreturn ? step_detach : step_go_on;
    }
    return info.op == PTRACE_SYSCALL_INFO_EXIT && *inside ? step_detach : step_go_on;
}

struct tl_error *tl_agent_follow_exec(const struct tl_agent *agent, pid_t pid, pid_t command, struct tl_mailbox *box,
                                      void (*release)(void *context), void *context, enum tl_injection *outcome)
{
    const long options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;
    enum __ptrace_request resume = box ? PTRACE_SYSCALL : PTRACE_CONT;
    int socket_fd = box ? (int)box->args[0] : agent->socket_number;
    int memory_fd = box ? (int)box->args[1] : agent->memory_number;
    struct tl_error *error = NULL;
    bool inside = false;
    siginfo_t info;

    *outcome = TL_NOT_EXECUTED;
    if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SEIZE)");
    if (box) {
        ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
    } else {
        release(context);
    }
    while (next_stop(command, &info)) {
        int event = info.si_status >> 8, number = info.si_status & 0xff;
        if (event == PTRACE_EVENT_EXEC) {
            error = tl_agent_inject(agent, info.si_pid, socket_fd, memory_fd, outcome);
            ptrace(PTRACE_DETACH, info.si_pid, NULL, NULL);
            break;
        }
        if (number == (SIGTRAP | 0x80) && judge_call(pid, &inside) == step_detach) {
            ptrace(PTRACE_DETACH, pid, NULL, NULL);
            break;
        }
        if (box && event == PTRACE_EVENT_STOP && box->state == TL_MAILBOX_POSTED)
            tl_mailbox_answer(box, TL_ANSWER_GO_ON);
        if (event == PTRACE_EVENT_STOP && number != SIGTRAP) {
            ptrace(PTRACE_LISTEN, pid, NULL, NULL); // it was told to stop, and stays so
            continue;
        }
        bool is_signal = !event && number != (SIGTRAP | 0x80);
        ptrace(resume, pid, NULL, (void *)(uintptr_t)(is_signal ? number : 0));
    }
    if (box && *outcome == TL_INJECTED)
        __atomic_store_n(&box->state, TL_MAILBOX_FREE, __ATOMIC_RELEASE); // whoever had it is no more
    return error;
}
