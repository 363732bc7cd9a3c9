// What the files share that make up the transport of the in-process engines.
#ifndef TL_AGENT_TRANSPORT_H
#define TL_AGENT_TRANSPORT_H

#include <pthread.h>

#include "agent.h"
#include "transport.h"

struct agent_transport {
    struct tl_transport transport;
    struct tl_agent *agent;
    struct tl_session *session;
    pid_t command;
    struct tl_agent_events events;
    bool closed;
    uint64_t swept;                              // when, in nanoseconds
    pid_t senders[tl_mailboxes];                 // of messages that say who waits there
    uint64_t room_used[tl_mailboxes];            // of the copies of arguments
    bool is_set[2][tl_calls];                    // by architecture: x86-64, i386
    uint8_t wanted[2][tl_calls], others, beyond; // beyond: numbers that no table has

    pthread_mutex_t lock; // of what follows
    pthread_cond_t change;
    unsigned execs;
    uint64_t plans; // bit per question that waits for an answer
    bool no_plans;  // nobody answers them any more
};

// Answers, and waits until the caller has come back for more. 0 or an errno.
int tl_agent_ask_back(struct agent_transport *a, struct tl_mailbox *box, enum tl_answer answer);

// agent_who.c: answers a mailbox that asks who posts in it
void tl_agent_find_out(struct agent_transport *a, struct tl_mailbox *box);

// agent_exec.c
void tl_agent_start_exec(struct agent_transport *a, struct tl_mailbox *box);
// Tells that a program runs without hooks. Without a BOX: the one that PID executes.
void tl_agent_warn(struct agent_transport *a, const struct tl_mailbox *box, enum tl_unhooked reason,
                   int error);

// agent_sweep.c: gives back mailboxes of threads that are gone, if there is want of them.
void tl_agent_sweep(struct agent_transport *a);

#endif
