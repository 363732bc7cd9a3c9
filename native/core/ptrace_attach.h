// Taking hold of a running process, and letting go.
#ifndef TL_PTRACE_ATTACH_H
#define TL_PTRACE_ATTACH_H

#include "ptrace_state.h"

// Seizes all threads of a process. 0 or an errno.
int tl_tracer_take_process(struct tl_tracer *tracer, pid_t pid);

// Lets them go on.
void tl_tracer_go(struct tl_tracer *tracer);

// Begins to let go of everything: who runs is called to a stop first.
void tl_tracer_leave(struct tl_tracer *tracer);

#endif
