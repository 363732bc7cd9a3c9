// Facts about another task that the kernel tells by its thread id.
#ifndef TL_TASK_H
#define TL_TASK_H

#include <sys/types.h>

// The process (thread group) that thread TID belongs to; 0 when it is gone.
pid_t tl_task_process(pid_t tid);

// State letter of a thread as /proc tells it: 'R' runs or waits for a CPU, 'T' is stopped; 0 when it is gone.
char tl_task_state(pid_t tid);

#endif
