// Starts a command under a seccomp filter and brings its listener here.
#ifndef TL_SPAWN_H
#define TL_SPAWN_H

#include <linux/filter.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

struct tl_spawn_options {
    const char *path; // what execve gets: no search in PATH here
    char *const *argv;
    char *const *envp;
    const char *cwd;      // NULL: stay
    int stdio[3];         // an fd each, or -1 to inherit
    const sigset_t *mask; // the signal mask of the program; NULL: the caller's
    const struct sock_filter *filter;
    unsigned short filter_length;
};

struct tl_spawn;

// OPTIONS and all that they point to must stay until tl_spawn_free.
// The child exists, is filtered, and stands before (or in) its execve; *LISTENER is ours alone.
struct tl_error *tl_spawn_start(const struct tl_spawn_options *options, struct tl_spawn **spawn,
                                int *listener);

pid_t tl_spawn_pid(const struct tl_spawn *spawn);
int tl_spawn_pidfd(const struct tl_spawn *spawn); // stays owned by SPAWN
bool tl_spawn_waits_killable(const struct tl_spawn *spawn);
bool tl_spawn_no_new_privs(const struct tl_spawn *spawn);

// Readable (end of file) once execve has happened or the child is dead. Someone else must answer the listener
// meanwhile.
int tl_spawn_channel(const struct tl_spawn *spawn);
// Why execve failed, once the channel is readable; 0 when it did not.
int tl_spawn_exec_error(const struct tl_spawn *spawn);

// Once the channel is readable: until then the child runs on memory that this frees, and reads the options.
void tl_spawn_free(struct tl_spawn *spawn);

#endif
