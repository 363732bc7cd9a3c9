// Starts a command, under a seccomp filter whose listener is brought here, or held before its execve.
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
    const char *cwd;                  // NULL: stay
    int stdio[3];                     // an fd each, or -1 to inherit
    int pass[2], pass_as[2];          // further descriptors, and their numbers there; -1: none
    const sigset_t *mask;             // the signal mask of the program; NULL: the caller's
    const struct sock_filter *filter; // NULL: none
    unsigned short filter_length;
    bool hold; // wait for tl_spawn_release before the filter is installed, which has no listener then
};

struct tl_spawn;

// OPTIONS and all that they point to must stay until tl_spawn_free.
// The child exists and stands before (or in) its execve. It is filtered, and *LISTENER is ours alone; or it
// is held, has every signal blocked, and *LISTENER is -1.
struct tl_error *tl_spawn_start(const struct tl_spawn_options *options, struct tl_spawn **spawn,
                                int *listener);

// Lets a child that is held go on. Its failures from here on are told by tl_spawn_exec_error.
void tl_spawn_release(struct tl_spawn *spawn);

pid_t tl_spawn_pid(const struct tl_spawn *spawn);
int tl_spawn_pidfd(const struct tl_spawn *spawn); // stays owned by SPAWN
bool tl_spawn_waits_killable(const struct tl_spawn *spawn);
bool tl_spawn_no_new_privs(const struct tl_spawn *spawn);

// Readable (end of file) once execve has happened or the child is dead. Someone else must answer the listener
// meanwhile.
int tl_spawn_channel(const struct tl_spawn *spawn);
// Why execve failed, once the channel is readable; 0 when it did not.
int tl_spawn_exec_error(const struct tl_spawn *spawn);
// The same, when it was the filter that could not be installed.
int tl_spawn_filter_error(const struct tl_spawn *spawn);

// Once the channel is readable: until then the child runs on memory that this frees, and reads the options.
void tl_spawn_free(struct tl_spawn *spawn);

#endif
