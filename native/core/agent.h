// The supervisor's part of the in-process engines: the memory that a session shares with its program, and
// putting the agent into a process.
#ifndef TL_AGENT_H
#define TL_AGENT_H

#include <sys/types.h>

#include "error.h"
#include "session.h"

struct tl_agent {
    struct tl_session *session;
    int memory; // memfd: the agent's image, then struct tl_session
    int socket; // ours; hangs up when the last process of the program has gone
    int peer;   // the program's end
    int socket_number,
        memory_number; // of these two in the program: high, since programs use and close low ones
    size_t image_size;
};

// What the supervisor does for the agents of one program, and tells.
struct tl_agent_events {
    // A program, NAME, runs without hooks. Called from any thread.
    void (*unhooked)(void *context, pid_t pid, enum tl_unhooked reason, int error, const char *name);
    void *context;
};

// FLAGS: enum tl_engine. An error when this kernel, or what confines us, cannot catch calls in that way.
struct tl_error *tl_agent_new(struct tl_agent *agent, uint32_t flags);
// Has the agent see what it must.
void tl_agent_classify_own(struct tl_agent *agent);
// The image, and what it says of itself.
const unsigned char *tl_agent_header(struct tl_image_header *header);
// A place for the region that is free in most programs: far from what the kernel and allocators use.
void tl_agent_fix_place(struct tl_agent *agent);
void tl_agent_free(struct tl_agent *agent);
// Its descriptors; what is in memory stays.
void tl_agent_close(struct tl_agent *agent);
// Once the program has it: only then can its end be noticed.
void tl_agent_close_peer(struct tl_agent *agent);

// Where a new program finds what its agent needs.
struct tl_entry {
    int socket_fd, memory_fd; // numbers in the program
    uint64_t ignored;         // signals that it ignores, whatever the kernel says
};

// Puts the agent into a process that the calling thread traces and that has stopped after its execve. It
// still has to be detached, and then begins in the agent; or, where that cannot be, as if we had never been
// there.
struct tl_error *tl_agent_inject(const struct tl_agent *agent, pid_t pid, const struct tl_entry *entry,
                                 enum tl_unhooked *reason);

struct tl_exec {
    pid_t pid;              // the thread that is about to call execve
    pid_t command;          // the process that our own waitpid is for
    struct tl_mailbox *box; // where its agent waits for permission; NULL: call release()
    void (*release)(void *context);
    void *context;
};

// Follows a thread that is about to call execve, and injects the agent when that has succeeded. The calling
// thread becomes its tracer meanwhile. Without an error and with TL_HOOKED it may also have been killed, or
// have failed to execute. With an error and TL_HOOKED it could not be traced, and still waits.
struct tl_error *tl_agent_follow_exec(const struct tl_agent *agent, const struct tl_exec *exec,
                                      enum tl_unhooked *reason);

// Takes the agent out of the process of a thread, all of it; FOR_GOOD: with its memory and its descriptors.
// The calling thread becomes its tracer meanwhile. COMMAND as above. False: it had none, or nothing could be
// done.
bool tl_agent_release(pid_t tid, pid_t command, bool for_good);

// Puts the agent into a process that runs already, and into each of its threads, which stay stopped until
// tl_agent_go().
struct tl_attachment;
struct tl_error *tl_agent_attach(struct tl_agent *agent, pid_t pid, struct tl_attachment **attachment);
void tl_agent_go(struct tl_attachment *attachment);
// Takes it out of every process that has it. How many could not be left.
unsigned tl_agent_detach(const struct tl_agent *agent, pid_t command);

// Gives the caller that waits in BOX its answer.
void tl_mailbox_answer(struct tl_mailbox *box, enum tl_answer answer);

// The transport of a session's calls; AGENT stays owned by the caller and must outlive it.
struct tl_transport;
struct tl_error *tl_agent_transport_new(struct tl_agent *agent, const struct tl_agent_events *events,
                                        struct tl_transport **transport);
// Waits, once it is closed, until no agent is on its way into a program any more.
void tl_agent_transport_settle(struct tl_transport *transport);
void tl_agent_transport_set_command(struct tl_transport *transport, pid_t command);

// Waits for the next question about a site, for at most so long (-1: as long as it takes): its number, or -1.
// Once the transport is closed, or questions have been ended: -2.
int tl_agent_next_plan(struct tl_transport *transport, int milliseconds);
void tl_agent_end_plans(struct tl_transport *transport);

#endif
