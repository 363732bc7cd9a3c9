// What probes share. All of it runs in the probe's child, which was cloned from a process that may have
// threads: nothing here takes a lock or allocates.
#ifndef TL_PROBE_CHILD_H
#define TL_PROBE_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe.h"

typedef void tl_probe_function(struct tl_probe_result *out);

struct tl_probe {
    const char *name;
    tl_probe_function *run;
};

// The families, each ended by an entry without a name.
extern const struct tl_probe tl_probes_sud[];
extern const struct tl_probe tl_probes_seccomp[];
extern const struct tl_probe tl_probes_notify[];
extern const struct tl_probe tl_probes_addfd[];
extern const struct tl_probe tl_probes_ptrace[];
extern const struct tl_probe tl_probes_process[];
extern const struct tl_probe tl_probes_memory[];
extern const struct tl_probe tl_probes_host[];
extern const struct tl_probe tl_probes_machine[];
extern const struct tl_probe tl_probes_self_test[];

// The three answers. The format is the detail.
void tl_probe_works(struct tl_probe_result *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tl_probe_missing(struct tl_probe_result *out, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tl_probe_untested(struct tl_probe_result *out, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Missing, because WHAT has just failed with errno.
void tl_probe_refused(struct tl_probe_result *out, const char *what);
// Missing, because a subject ended with wait STATUS where it should not have.
void tl_probe_died(struct tl_probe_result *out, int status, const char *what);

// Runs BODY in a new process, whose exit status is what it returns; -1 with errno when there is none to be
// had. SHARED_FILES keeps one file table for both, so that a listener that the subject makes is the prober's
// as well.
pid_t tl_probe_spawn(int (*body)(void *), void *argument, int shared_files);
// A body for subjects that are only there; never returns.
int tl_probe_pause(void *argument) __attribute__((noreturn));
// Waits until PID has ended, or stopped where OPTIONS has WUNTRACED; the wait status, or -1.
int tl_probe_wait(pid_t pid, int options);
// Ends PID and reaps it.
void tl_probe_end(pid_t pid);

// Anonymous memory that the prober and its subjects see alike; NULL when there is none.
void *tl_probe_shared(size_t size);
// Reads at most SIZE - 1 bytes of a file and ends them; -1 with errno.
ssize_t tl_probe_read_file(const char *path, char *buffer, size_t size);

// The call that filters of probes act on: harmless, and nothing else makes it.
#define TL_PROBE_CALL __NR_getppid
// Sets no_new_privs and installs a filter that answers TL_PROBE_CALL with ACTION and allows the rest. What
// seccomp(2) returns: 0, a listener, or -1 with errno.
int tl_probe_filter(uint32_t action, unsigned long flags);

// A system call instruction at a known place: between the two symbols there is nothing else.
long tl_probe_stub(long number);
extern const char tl_probe_stub_end[];

#endif
