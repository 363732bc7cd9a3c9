// Standing in for a command at a terminal: whoever started us sees what they would see of the command itself.
#ifndef TL_JOB_H
#define TL_JOB_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "error.h"
#include "ptrace.h"

// Signals that are meant for the command are taken by a descriptor from here to tl_job_end.
struct tl_job {
    int signals;      // signalfd
    sigset_t before;  // the caller's mask, which is the command's
    bool interrupted; // the terminal sent SIGINT to all of us
    bool quiet;       // SIGCHLD does not tell of stops
};

// What is waited for. Once it has exited PIDFD is -1.
struct tl_command {
    pid_t pid;
    int pidfd;
    struct tl_tracer *tracer; // who is told of its end and its stops in our place, or NULL
};

enum tl_job_event {
    TL_JOB_EXITED, // the command; *VALUE is its wait status
    TL_JOB_EMPTY,  // the last task under the listener is gone
    TL_JOB_WOKEN,  // WAKE is readable
    TL_JOB_SIGNAL, // *VALUE arrived when there was no command any more to pass it to
    TL_JOB_TIMEOUT,
};

struct tl_error *tl_job_begin(struct tl_job *job);
void tl_job_end(struct tl_job *job);

// What came before there was a command: *NUMBER is a signal that would have ended it, or 0.
void tl_job_early_signal(struct tl_job *job, int *number);
// Passes on what came while the command was being created, and may have missed it.
void tl_job_pass_early(struct tl_job *job, int pidfd);

// Waits for one event, passing signals on and stopping and continuing with the command meanwhile. LISTENER is
// -1 when nobody wants to know.
struct tl_error *tl_job_wait(struct tl_job *job, const struct tl_command *command, int listener, int wake,
                             int milliseconds, enum tl_job_event *event, int *value);

#endif
