// The program is met by ptrace for the length of its execve:
//
//   execve waits for our answer     PTRACE_SEIZE its thread, with PTRACE_O_TRACEEXEC
//   CONTINUE                        and PTRACE_INTERRUPT at once:
//   execve succeeds                 stop PTRACE_EVENT_EXEC: edit the auxiliary vector, detach
//   execve fails (PATH lookups)     there is no exec stop, the interrupt stops it on its way out: detach
#include "vdso.h"

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "memory.h"
#include "regs.h"

// Reads the word at *ADDRESS and steps over it.
static bool next_word(pid_t pid, uint64_t *address, unsigned size, uint64_t *word)
{
    size_t done;

    *word = 0;
    if (tl_memory_read(pid, *address, word, size, &done) || done < size)
        return false;
    *address += size;
    return true;
}

// On the new program's stack: argc, argv, 0, envp, 0, pairs of the auxiliary vector.
int tl_vdso_hide(pid_t pid)
{
    uint64_t regs[64], at, word;
    struct iovec iov = {regs, sizeof regs};
    unsigned size;
    size_t done;

    if (ptrace(PTRACE_GETREGSET, pid, (void *)(uintptr_t)NT_PRSTATUS, &iov) < 0)
        return errno;
    if (!tl_regs_stack(regs, iov.iov_len, &at, &size) || !next_word(pid, &at, size, &word))
        return EFAULT;
    at += (word + 1) * size;
    do {
        if (!next_word(pid, &at, size, &word))
            return EFAULT;
    } while (word);
    while (next_word(pid, &at, size, &word) && word != AT_NULL) {
        if (word == AT_SYSINFO_EHDR) {
            uint64_t ignore = AT_IGNORE;
            return tl_memory_write(pid, at - size, &ignore, size, &done);
        }
        at += size;
    }
    return 0; // it has none
}

// Waits for the one tracee of this thread; true when it has stopped.
static bool wait_for_stop(pid_t command, siginfo_t *info)
{
    int result;

    do {
        memset(info, 0, sizeof *info);
        result = waitid(P_ALL, 0, info, WEXITED | WSTOPPED | WNOWAIT | __WALL | __WNOTHREAD);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return false;
    if (info->si_code == CLD_TRAPPED || info->si_code == CLD_STOPPED)
        return true;
    // Its end is for whoever waits for it. A stranger's parent learns of it only when the tracer has; ours is
    // us.
    if (info->si_pid != command)
        waitid(P_PID, (id_t)info->si_pid, info, WEXITED | __WALL | __WNOTHREAD);
    return false;
}

// Threads that a worker holds by ptrace. After a failed execve the next one of the same thread can be here
// before the worker of the first has let go; that worker then meets it as well.
struct hold {
    pid_t tid;
    struct hold *next;
};

static pthread_mutex_t holds_lock = PTHREAD_MUTEX_INITIALIZER;
static struct hold *holds;

static int seize(struct hold *hold)
{
    int error = 0;

    pthread_mutex_lock(&holds_lock);
    for (struct hold *other = holds; other; other = other->next)
        if (other->tid == hold->tid)
            error = EALREADY;
    if (!error && ptrace(PTRACE_SEIZE, hold->tid, NULL, (void *)(uintptr_t)PTRACE_O_TRACEEXEC) < 0)
        error = errno;
    if (!error) {
        hold->next = holds;
        holds = hold;
    }
    pthread_mutex_unlock(&holds_lock);
    return error;
}

static void release(struct hold *hold)
{
    pthread_mutex_lock(&holds_lock);
    struct hold **at = &holds;
    while (*at != hold)
        at = &(*at)->next;
    *at = hold->next;
    pthread_mutex_unlock(&holds_lock);
}

int tl_vdso_hide_at_exec(struct tl_listener *l, const struct tl_call *call, pid_t command)
{
    struct hold hold = {call->tid, NULL};
    siginfo_t info;
    int error = seize(&hold);

    if (error) {
        tl_listener_continue(l, call->id);
        return error == ESRCH || error == EALREADY ? 0 : error;
    }
    // If the thread was not the caller any more, the answer goes nowhere and the interrupt below releases it.
    tl_listener_continue(l, call->id);
    ptrace(PTRACE_INTERRUPT, call->tid, NULL, NULL);
    bool stopped = wait_for_stop(command, &info);
    release(&hold);
    if (!stopped)
        return 0;
    int event = info.si_status >> 8, number = info.si_status & 0xff;
    if (event == PTRACE_EVENT_EXEC)
        error = tl_vdso_hide(info.si_pid);
    ptrace(PTRACE_DETACH, info.si_pid, NULL, (void *)(uintptr_t)(event ? 0 : number));
    return error;
}
