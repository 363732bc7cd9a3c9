// Memory of another task, by thread id. A transfer may be partial: *DONE says how much.
#ifndef TL_MEMORY_H
#define TL_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Return 0 or an errno: EFAULT when nothing is mapped there, ESRCH when the task is gone, EPERM when it may
// not be read. *DONE bytes were transferred in either case; less than SIZE with 0 means that the rest is not
// mapped.
int tl_memory_read(pid_t tid, uint64_t address, void *buffer, size_t size, size_t *done);
int tl_memory_write(pid_t tid, uint64_t address, const void *buffer, size_t size, size_t *done);

// Reads up to and without a NUL into BUFFER (at most SIZE bytes); *LENGTH is its length.
// ENAMETOOLONG when there is no NUL within SIZE bytes; *LENGTH is SIZE then.
int tl_memory_read_string(pid_t tid, uint64_t address, char *buffer, size_t size, size_t *length);

#endif
