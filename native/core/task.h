// Facts about another task that the kernel tells by its thread id.
#ifndef TL_TASK_H
#define TL_TASK_H

#include <sys/types.h>

// The process (thread group) that thread TID belongs to; 0 when it is gone.
pid_t tl_task_process(pid_t tid);

#endif
