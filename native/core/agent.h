// The supervisor's part of the in-process engines: the memory that a session shares with its program, and
// putting the agent into a process.
#ifndef TL_AGENT_CORE_H
#define TL_AGENT_CORE_H

#include <sys/types.h>

#include "error.h"
#include "session.h"

struct tl_agent {
    struct tl_session *session;
    int memory;    // memfd: the agent's image, then struct tl_session
    int socket;    // ours; hangs up when the last process of the program has gone
    int peer;      // the program's end
    size_t image_size;
};

struct tl_error *tl_agent_new(struct tl_agent *agent);
void tl_agent_free(struct tl_agent *agent);

enum tl_injection {
    TL_INJECTED,
    TL_NOT_INJECTED_32_BIT,
};

// Puts the agent into a process that the calling thread traces and that has stopped after its execve. It still
// has to be detached, and then begins in the agent. SOCKET_FD and MEMORY_FD are the program's numbers.
struct tl_error *tl_agent_inject(const struct tl_agent *agent, pid_t pid, int socket_fd, int memory_fd,
                                 enum tl_injection *outcome);

#endif
