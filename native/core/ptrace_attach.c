#include "ptrace_attach.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

// Seizes the threads that are there now and were not before; how many, or minus an errno.
static int take_threads(struct tl_tracer *tracer, pid_t pid)
{
    char path[64];
    int taken = 0, error = 0;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (!threads)
        return errno == ENOENT ? -ESRCH : -errno;
    for (struct dirent *entry; !error && (entry = readdir(threads));) {
        pid_t tid = atoi(entry->d_name);
        if (tid <= 0 || tl_tracee_find(tracer, tid))
            continue;
        // A thread that a seized one has made since then is ours by itself.
        if (tl_trace(PTRACE_SEIZE, tid, 0, tid == pid ? tl_tracer_command_options(tracer) : tracer->options) <
            0) {
            if (errno != ESRCH && !(errno == EPERM && tid != pid))
                error = errno;
            continue;
        }
        struct tracee *t = tl_tracee_add(tracer, tid);
        if (!t)
            error = ENOMEM;
        else
            t->has_maker = true;
        // From this stop on it goes on in a way that has its calls stop.
        tl_trace(PTRACE_INTERRUPT, tid, 0, 0);
        taken++;
    }
    closedir(threads);
    return error ? -error : taken;
}

int tl_tracer_take_process(struct tl_tracer *tracer, pid_t pid)
{
    int taken, total = 0;
    siginfo_t info;

    tracer->command = pid;
    tracer->options = tl_tracer_trace_options;
    tracer->is_parent = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
    tracer->paused = true;
    do {
        taken = take_threads(tracer, pid);
        total += taken > 0 ? taken : 0;
    } while (taken > 0);
    if (taken < 0 && total)
        tl_tracer_leave(tracer);
    return taken < 0 ? -taken : total ? 0 : ESRCH;
}

void tl_tracer_go(struct tl_tracer *tracer)
{
    tracer->paused = false;
    tl_tracer_free_births(tracer);
}

void tl_tracer_leave(struct tl_tracer *tracer)
{
    tracer->leaving = true;
    tracer->paused = false;
    for (unsigned i = 0; i < tracee_buckets; i++) {
        for (struct tracee *t = tracer->table[i], *next; t; t = next) {
            next = t->next;
            if (t->at == AT_LARGE || t->at == AT_STOP)
                tl_trace(PTRACE_INTERRUPT, t->tid, 0, 0);
            else if (t->at == AT_BIRTH)
                tl_tracer_born(tracer, t);
            else
                tl_tracee_abandon(tracer, t);
        }
    }
}
