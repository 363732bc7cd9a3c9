// Where a path argument leads, as the calling task sees it.
#ifndef TL_PATH_H
#define TL_PATH_H

#include <stdbool.h>
#include <sys/types.h>

enum { TL_PATH_MAX = 8192 }; // a working directory and a name of PATH_MAX each

// Absolute form of NAME for task TID, relative to its DIRFD (AT_FDCWD: its working directory), in OUT of
// TL_PATH_MAX.
// "." and ".." are taken out of the text; symbolic links are not followed. 0 or an errno.
int tl_path_resolve(pid_t tid, int dirfd, const char *name, char *out);

// What /proc/TID/fd/FD points to, seen from the task's own root.
int tl_path_of_fd(pid_t tid, int fd, char *out);

// Would the kernel itself refuse the call for what made resolving fail with ERROR?
bool tl_path_is_refused(int error);

#endif
