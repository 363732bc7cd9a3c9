// The threads of a running process, all stopped: calls made in their name, and the agent's code run in them.
// Everything here is done by one thread, their tracer.
#ifndef TL_HOLD_H
#define TL_HOLD_H

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <time.h>

#include "agent.h"

// As the kernel gives and takes it.
struct tl_dispatch {
    uint64_t mode, selector, offset, size;
};

struct tl_held {
    pid_t tid;
    uint64_t base;         // of the agent's region; 0: it has none
    bool was_told_to_stop; // by a signal, and stays so
    bool is_returning;     // from a call, whose result is in its registers
    bool owes_stop;        // a SIGSTOP has come meanwhile
    bool is_gone;
    struct user_regs_struct regs; // what it goes on with
    uint64_t mask;                // and the signals it blocks
    struct tl_dispatch dispatch;  // its own
    bool knows_dispatch;          // so does the kernel tell it
};

struct tl_hold {
    struct tl_image_header header;
    pid_t command; // whose end is left for our own waitpid
    // May a thread that has stopped like this be changed?
    bool (*is_safe)(const struct tl_hold *hold, const struct tl_held *held);
    uint64_t region;  // of the process's agent, or 0
    uint64_t call_at; // a system call instruction of the program
    time_t until;     // how long threads have to come to a stop
    size_t count, room;
    struct tl_held *held;
};

// Stops every thread of the process of TID. With an error some of them are stopped.
struct tl_error *tl_hold_all(struct tl_hold *hold, pid_t tid);

// Finds an instruction for tl_held_call(), outside of the agent. False: there is none.
bool tl_hold_find_call(struct tl_hold *hold, pid_t pid);

// Lets all of them go on.
void tl_hold_end(struct tl_hold *hold);

static inline long tl_held_trace(int request, pid_t tid, const void *address, const void *data)
{
    return ptrace((enum __ptrace_request)request, tid, (void *)(uintptr_t)address, (void *)(uintptr_t)data);
}

enum { tl_has_ended = 0, tl_is_running = -1 };

// The status of the next stop of a thread. What runs the program's code may take its time; ours does not.
int tl_held_wait(const struct tl_hold *hold, struct tl_held *held, bool is_ours);

// held.c. From here on, with all signals blocked, the thread runs what we want, until it is put back. These
// return 0 or an errno.
int tl_held_take(struct tl_held *held);
int tl_held_call(struct tl_hold *hold, struct tl_held *held, long nr, const uint64_t args[6],
                 int64_t *result);
// Runs an entry of the agent, at this offset, which ends with the call whose RESULT this is.
int tl_held_visit(struct tl_hold *hold, struct tl_held *held, uint32_t entry, struct tl_visit *visit,
                  int64_t *result);
int tl_held_put_back(struct tl_hold *hold, struct tl_held *held);

// release.c: takes the agent out of all threads that have it; FOR_GOOD: and out of the process. False: there
// was none.
bool tl_hold_leave(struct tl_hold *hold, bool for_good);

#endif
