// The ptrace engine: one thread traces a whole program and is the kernel's side of a transport.
//
//   program's thread          tracer thread                       worker
//   ----------------          -------------                       ------
//   hooked call: stops -----> reads it, posts it -------------->  receive(), rules, hooks
//                             carries the answer out <----------  reply(), go_on(), perform(), ...
//   goes on            <----- PTRACE_CONT, or _SYSCALL where somebody wants the result
//
// Only the thread that seized a tracee may do anything to it, so every answer goes through that one; it never
// runs hooks, and never waits for somebody who does.
#ifndef TL_PTRACE_H
#define TL_PTRACE_H

#include <linux/filter.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "error.h"
#include "transport.h"

struct tl_tracer;

struct tl_tracer_options {
    const struct sock_filter *filter; // copied
    unsigned short filter_length;
    // The program is under that filter. Otherwise all its calls stop, and the filter is evaluated here: one
    // that was attached to, which could never be rid of a filter again.
    bool filtered;
    bool hide_vdso;
    void (*on_unhidden)(void *context, int error); // a program has kept its vDSO; called by the tracer
    // A thread is about to enter a handler; called by the tracer. NULL: nobody wants to know.
    void (*on_signal)(void *context, pid_t tid, const siginfo_t *info);
    void *context;
};

// Starts the thread. What is created is freed by tl_tracer_release, and by the end of its transport, whatever
// comes last.
struct tl_error *tl_tracer_new(const struct tl_tracer_options *options, struct tl_tracer **tracer);
void tl_tracer_release(struct tl_tracer *tracer);

// Gives back STOP_FD, and all else when there is no transport, for who keeps TRACER longer than it wants to
// know.
void tl_tracer_close(struct tl_tracer *tracer);

// To be taken once. It ends when the last tracee is gone.
struct tl_transport *tl_tracer_transport(struct tl_tracer *tracer);

// Traces PID, which has one thread that makes no call of interest yet, and dies with the tracer. 0 or an
// errno.
int tl_tracer_seize(struct tl_tracer *tracer, pid_t pid);
// Traces a running process, all its threads and what it starts from now on. They stop, until tl_tracer_begin.
// 0 or an errno.
int tl_tracer_attach(struct tl_tracer *tracer, pid_t pid);
void tl_tracer_begin(struct tl_tracer *tracer);
// Lets go of everything. What waits for an answer: its call is performed, or fails with ENOSYS as all later
// ones do where there is a filter. False: some are still in the middle of a call after so long.
bool tl_tracer_detach(struct tl_tracer *tracer, unsigned milliseconds);

// The process that was seized or attached to. Where this process is its parent it is let go when it is about
// to end, and can be waited for as ever. Otherwise, and should it come to its end without that stop, its
// tracer is the one who is told: this is its wait status then. False: not known.
bool tl_tracer_exit_status(struct tl_tracer *tracer, int *status);
// Its parent is not told of its stops by signals in a way that could be told from those by ptrace. STOP_FD is
// readable when it has been stopped by one, or goes on; it stays owned by TRACER.
int tl_tracer_stop_fd(const struct tl_tracer *tracer);
// The signal that stops it now, or 0; and the same when that is news, which empties STOP_FD.
int tl_tracer_stopped_by(struct tl_tracer *tracer);
int tl_tracer_take_stop(struct tl_tracer *tracer);

#endif
