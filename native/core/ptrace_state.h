// What the files of the ptrace engine share; ptrace.h tells what it is.
//
//   ptrace.c            the thread: requests of workers, events of tracees, waiting for both
//   ptrace_tracee.c     the table of tracees
//   ptrace_attach.c     processes that run already, and letting go
//   ptrace_event.c      what a stop means, and how its tracee goes on
//   ptrace_signal.c     signals that interrupt calls, or would end who waits
//   ptrace_call.c       calls: reporting them, carrying out answers, results, restarts
//   ptrace_inject.c     calls that a tracee makes for us, at the entry or the return of its own
//   ptrace_fd.c         a descriptor for a tracee
//   ptrace_transport.c  the workers' side
#ifndef TL_PTRACE_STATE_H
#define TL_PTRACE_STATE_H

#include <errno.h>
#include <linux/ptrace.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ptrace.h"
#include "tracee.h"

enum place {
    AT_LARGE,   // runs, or does not stop for long
    AT_BIRTH,   // new, until the call that made it is known; or just attached to
    AT_ENTRY,   // stopped there; its call was reported and waits for the answer
    AT_RETURN,  // the same behind the call
    AT_HANDLER, // the same, at the handler of the signal that interrupted the call
    AT_STOP,    // stopped by a signal, as without us
};

enum request_kind {
    REQUEST_REPLY,
    REQUEST_GO_ON,
    REQUEST_ADD_FD,
    REQUEST_REPLY_FD,
    REQUEST_COPY,
    REQUEST_PERFORM,
    REQUEST_SEIZE,
    REQUEST_ATTACH,
    REQUEST_BEGIN,
    REQUEST_DETACH,
};

// Something that a worker, or the session, has the tracer do. Answers are in their tracee and nobody waits
// for them; others are on the stack of who waits.
struct request {
    struct request *next;
    enum request_kind kind;
    uint64_t id;   // of the call; not for the last four
    int64_t value; // in: result; out: result, address, or descriptor
    int fd;
    bool close_on_exec;
    unsigned index;
    const void *data;
    size_t size;
    pid_t pid;
    int error;
    _Atomic(int) done; // 0, 1; a futex
};

// Memory that a tracee has mapped for us, for the length of its call.
struct copy {
    struct copy *next;
    uint64_t address, size;
};

struct tracee {
    struct tracee *next; // in its bucket
    pid_t tid;
    enum place at;

    // Under the lock.
    uint64_t id; // of the call that waits for an answer, or 0
    bool queued; // in tracer->calls
    struct tracee *next_call;
    struct request answer;
    unsigned changed; // arguments to be changed, a bit each
    uint64_t arguments[6];

    // Only for the tracer.
    struct tl_call call; // the last one reported or in progress
    bool at_seccomp;     // the entry where it stopped is one that the filter reported
    bool known;          // it has stopped once
    bool has_maker;      // the call that made it is known, or there is none
    int birth_signal;
    bool wants_result;
    bool in_call;     // we want to see it return
    unsigned applied; // arguments that are not the caller's while the kernel works on them
    bool executed;    // the call in progress was a successful execve
    int restart;     // how its call was interrupted (-ERESTART...), while it is open what comes of that; or 0
    bool stepping;   // into a handler
    bool owes_stop;  // a SIGSTOP came while it was busy for us
    bool stop_again; // likewise a group stop
    bool gone;       // to be freed
    struct registers_of_maker {
        unsigned changed;
        uint32_t arch;
        uint64_t arguments[6];
    } maker; // what its maker's registers were before we changed them
    struct copy *copies, *garbage;
    pid_t borrowed_from; // whose memory a child of vfork has
    struct request *performing;
};

enum { tracee_buckets = 256, interest_calls = 1024, tid_bits = 22 };

enum { INTEREST_KNOWN = 1, INTEREST_BEFORE = 2, INTEREST_RETURNED = 4 };

struct other_interest {
    struct other_interest *next;
    uint32_t arch;
    int nr;
    unsigned char what;
};

// Where the tracer is, for who wants its attention.
enum doze { AWAKE, IN_WAIT, IN_PIPE };

struct tl_tracer {
    struct tl_transport transport;
    _Atomic(int) references;
    struct sock_filter *filter;
    unsigned short filter_length;
    bool filtered, kill, hide_vdso;
    void (*on_unhidden)(void *, int);
    void (*on_signal)(void *, pid_t, const siginfo_t *);
    void *context;
    int stop_signal;
    pid_t thread; // the tracer's thread id
    int calls_in; // tokens for calls that were queued; transport.fd is the other end
    int bell[2];  // tokens for requests
    int stop_fd;

    pthread_mutex_t lock;
    // Under the lock.
    pthread_cond_t change;
    struct tracee *table[tracee_buckets];
    unsigned tracees;
    uint64_t sequence;
    struct tracee *calls, **calls_tail;
    struct request *requests, **requests_tail;
    enum doze doze;
    bool over;  // the thread ends, or has ended
    bool begun; // there was a tracee
    struct other_interest *others;
    int exit_status, stopped_by;
    bool exited;

    int attention; // what tl_wait_unless looks at
    _Atomic(unsigned char) interest[2][interest_calls];
    _Atomic(unsigned char) default_interest;

    // Only for the tracer.
    pid_t command;
    bool has_transport;    // somebody has taken it
    bool is_parent;        // this process is the command's
    unsigned long options; // of all but the command
    bool leaving;
    bool paused;   // who is attached to waits for tl_tracer_begin
    unsigned held; // tracees that wait for an answer
    timer_t timer; // ticks while some do
    bool has_timer, ticks;
    uint64_t last_tick;
    pid_t postponed; // an event that came where it could not be handled
    int postponed_status;
    struct tracee *graveyard;
};

static inline long tl_trace(long request, pid_t tid, unsigned long address, unsigned long data)
{
    return syscall(SYS_ptrace, request, (long)tid, address, data);
}

// What this process is to wait for as its parent is let go before it ends: the tracer would be told of that
// in the parent's place.
static inline unsigned long tl_tracer_command_options(const struct tl_tracer *tracer)
{
    return tracer->options | (tracer->is_parent ? PTRACE_O_TRACEEXIT : 0);
}

static inline int arch_index(uint32_t arch)
{
    return arch == AUDIT_ARCH_X86_64 || arch == AUDIT_ARCH_AARCH64 ? 0
           : arch == AUDIT_ARCH_I386 || arch == AUDIT_ARCH_ARM     ? 1
                                                                   : -1;
}

extern const unsigned long tl_tracer_trace_options;

// ptrace.c: once its thread is over
void tl_tracer_close_pipes(struct tl_tracer *tracer);

// ptrace_tracee.c; tl_tracee_find wants the lock, or to be called by the tracer.
struct tracee *tl_tracee_find(struct tl_tracer *tracer, pid_t tid);
struct tracee *tl_tracee_of_call(struct tl_tracer *tracer, uint64_t id);
struct tracee *tl_tracee_add(struct tl_tracer *tracer, pid_t tid);
// Takes it out of every list; it is freed when the event that it is about has been dealt with.
void tl_tracee_remove(struct tl_tracer *tracer, struct tracee *t);
void tl_tracee_rename(struct tl_tracer *tracer, struct tracee *t, pid_t tid);
// Nobody is answered any more: the call is over, or will be made again.
void tl_tracee_forget_call(struct tl_tracer *tracer, struct tracee *t);
void tl_tracee_empty_graveyard(struct tl_tracer *tracer);

// ptrace_event.c
void tl_tracer_event(struct tl_tracer *tracer, pid_t tid, int status);
void tl_tracee_place(struct tl_tracer *tracer, struct tracee *t, enum place at);
void tl_tracee_resume(struct tl_tracer *tracer, struct tracee *t, int signal);
// Calls whose callers are to die of a signal are given up.
void tl_tracer_tick(struct tl_tracer *tracer);
void tl_tracer_free_births(struct tl_tracer *tracer);
void tl_tracer_born(struct tl_tracer *tracer, struct tracee *t);

// ptrace_signal.c; the second for a caller that is AT_HANDLER
void tl_tracee_signal(struct tl_tracer *tracer, struct tracee *t, int number);
void tl_tracee_set_interrupted_result(struct tracee *t, int64_t result);

// ptrace_call.c
void tl_tracee_enters(struct tl_tracer *tracer, struct tracee *t, const struct ptrace_syscall_info *info);
void tl_tracee_returns(struct tl_tracer *tracer, struct tracee *t);
// The caller waits for an answer from here on.
void tl_tracee_report(struct tl_tracer *tracer, struct tracee *t, enum place at);
void tl_tracee_reply(struct tl_tracer *tracer, struct tracee *t, int64_t result);
void tl_tracee_go_on(struct tl_tracer *tracer, struct tracee *t);
// Has the kernel perform the call, and REQUEST completed with its result.
void tl_tracee_perform(struct tl_tracer *tracer, struct tracee *t, struct request *request);
void tl_tracee_copy(struct tl_tracer *tracer, struct tracee *t, struct request *request);
void tl_tracee_give_fd(struct tl_tracer *tracer, struct tracee *t, struct request *request);
// The call that waits will not happen, and its thread goes on to die.
void tl_tracee_give_up(struct tl_tracer *tracer, struct tracee *t);
// We let go of a caller that waits: its call fails as all later ones do under a filter, or is performed.
void tl_tracee_abandon(struct tl_tracer *tracer, struct tracee *t);
void tl_request_complete(struct request *request, int error);

// ptrace_inject.c: T stands at the entry or at the return of a call. ENOENT: it is gone, and whatever its end
// is comes as an event.
struct injection {
    struct tracee *tracee;
    struct tl_registers before;
    uint64_t mask;
    bool at_entry; // of its own call, not behind
    bool changed;  // its own call has been replaced
};
int tl_inject_begin(struct tl_tracer *tracer, struct tracee *t, bool at_entry, struct injection *injection);
int tl_inject_call(struct tl_tracer *tracer, struct injection *injection, int nr, const uint64_t args[6],
                   int64_t *result);
// Back to where it was, at the entry of its own call again.
int tl_inject_end(struct tl_tracer *tracer, struct injection *injection);
// Behind its own call, which never happens, with this result.
int tl_inject_end_with(struct tl_tracer *tracer, struct injection *injection, int64_t result);
int tl_inject_map(struct tl_tracer *tracer, struct injection *injection, uint64_t size, uint64_t *address);
int tl_inject_unmap(struct tl_tracer *tracer, struct injection *injection, struct copy **copies);

// ptrace_fd.c: *NUMBER is the descriptor in the tracee; an errno otherwise.
int tl_inject_fd(struct tl_tracer *tracer, struct injection *injection, int fd, bool close_on_exec,
                 int *number);

// ptrace_transport.c
extern const struct tl_transport_ops tl_tracer_ops;
// Under the lock: tells the workers of a call.
void tl_tracer_queue_call(struct tl_tracer *tracer, struct tracee *t);
int tl_tracer_ask(struct tl_tracer *tracer, struct request *request);

#endif
