// The receiving side of a transport: calls come out, answers go in, for any number of worker threads.
//
// At most one thread receives (a seccomp listener would wake every one that waits for each call).
// The worker that received a call decides it right there, with no hand-over, so a quick hook costs one round
// trip. A slow one must not hold up the other threads of the program, so somebody else receives meanwhile:
//
//   calls of a kind that takes long to decide    the worker wakes the next receiver before it starts to
//   decide all others                                   nobody is woken; should the worker stay away for a
//   tick (1 ms) all
//                                                the same, the sentinel thread takes over receiving
//
// What is received while every worker is busy waits in a queue here: out of the kernel's, where a signal to
// the caller would cancel it. More workers are started when a call waits there for a tick and every worker is
// blocked.
#ifndef TL_LISTENER_H
#define TL_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "transport.h"

struct tl_listener;

struct tl_listener_counts {
    uint64_t received;
    uint64_t replied;      // answers that reached the caller
    uint64_t gone;         // calls whose caller was killed or interrupted before the answer
    uint32_t workers;      // threads started so far
    uint32_t most_waiting; // longest queue
    int32_t failure;       // errno that ended the receiving, or 0
};

// START_WORKER starts one thread that runs tl_listener_work's loop; it is called without locks, from any
// thread, and returns false when it cannot. At most WORKERS are started, one at once and more when all are
// busy. The listener is the owner of TRANSPORT from here on, whatever is returned.
struct tl_error *tl_listener_new(struct tl_transport *transport, unsigned workers,
                                 bool (*start_worker)(void *context), void *context,
                                 struct tl_listener **listener);
struct tl_error *tl_listener_start(struct tl_listener *listener);

// First and last thing that a worker thread does. True from leave: no worker is left, and none will be
// started.
void tl_listener_enter(struct tl_listener *listener);
bool tl_listener_leave(struct tl_listener *listener);

// Waits for the next call. False when there will be none: the last task is gone, or tl_listener_stop was
// called.
bool tl_listener_next(struct tl_listener *listener, struct tl_call *call);

// Delivers CALL again after so many nanoseconds, without a thread that waits for it. EALREADY: the time has
// passed.
int tl_listener_delay(struct tl_listener *listener, const struct tl_call *call, uint64_t nanoseconds);

// Answers. 0, or ENOENT when the caller does not wait any more, or another errno.
int tl_listener_reply(struct tl_listener *listener, uint64_t id, int64_t value, int error_number);
int tl_listener_continue(struct tl_listener *listener, uint64_t id);
// The caller gets a copy of FD as a new descriptor, whose number is the result.
int tl_listener_reply_fd(struct tl_listener *listener, uint64_t id, int fd, bool close_on_exec);
// As above, but the call goes on waiting: *NUMBER is the descriptor in the caller.
int tl_listener_add_fd(struct tl_listener *listener, uint64_t id, int fd, bool close_on_exec, int *number);

// What not every engine can (ENOTSUP); transport.h says what they do.
int tl_listener_set_interest(struct tl_listener *listener, uint32_t arch, int nr, bool before, bool returned);
int tl_listener_set_arg(struct tl_listener *listener, uint64_t id, unsigned index, uint64_t value);
int tl_listener_copy_arg(struct tl_listener *listener, uint64_t id, unsigned index, const void *data,
                         size_t size, uint64_t *address);
int tl_listener_perform(struct tl_listener *listener, uint64_t id, int64_t *result);
int tl_listener_kill(struct tl_listener *listener, uint64_t id, int number);
struct tl_rule_table *tl_listener_rule_table(const struct tl_listener *listener);
const char *tl_listener_engine(const struct tl_listener *listener);

// Does the caller still wait? Ask after anything was read by its thread id, and before acting on it.
bool tl_listener_is_waiting(struct tl_listener *listener, uint64_t id);

// Nothing is received any more; workers that wait return, calls that were received are still delivered.
void tl_listener_stop(struct tl_listener *listener);
// Stops, and closes the listener as soon as no answer is on its way: the program's later calls fail with
// ENOSYS.
void tl_listener_close(struct tl_listener *listener);
// Waits until no worker is left, and then gives back the descriptor of a closed listener; false when a worker
// still decides a call after so long. Nobody else may answer any more either.
bool tl_listener_wait_idle(struct tl_listener *listener, unsigned milliseconds);
void tl_listener_free(struct tl_listener *listener);

// For a call that nobody could answer any more, found out by other means than an answer.
void tl_listener_note_gone(struct tl_listener *listener);

int tl_listener_fd(const struct tl_listener *listener);
struct tl_listener_counts tl_listener_counts(struct tl_listener *listener);

#endif
