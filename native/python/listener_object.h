// What the files about _native.Listener share.
#ifndef TL_LISTENER_OBJECT_H
#define TL_LISTENER_OBJECT_H

#include <linux/audit.h>

#include "module.h"
#include "rules.h"

enum { native_calls = 1024, arch_count = 2 };

#if defined(__x86_64__)
static const uint32_t tl_arches[arch_count] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386};
#elif defined(__aarch64__)
static const uint32_t tl_arches[arch_count] = {AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM};
#endif

struct listener_object {
    PyObject_HEAD
    struct tl_listener *core;
    struct tl_rules *rules;
    PyObject *call_type; // what hooks get
    PyObject *spare;     // one that serves again, or NULL
    PyObject *on_error;  // (call, exception) -> errno to fail with, 0 to let the kernel go on, -1 to leave it
    PyObject *defer;     // (call, hooks): decides later and answers by itself
    PyObject *describe;  // (audit_arch, nr) -> places of its paths
    // Per call a tuple of hooks; NULL where only the default is meant.
    PyObject *hooks[arch_count][native_calls];
    bool deferred[arch_count][native_calls];
    PyObject *default_hooks;
    bool default_deferred;
    struct tl_path_places *paths[arch_count]; // native_calls each
    bool meets[arch_count][native_calls];     // execve and execveat, where the vDSO is to be hidden
    pid_t command;
    PyObject *on_unhidden; // (errno): a program has kept its vDSO
    uint64_t counts[arch_count][native_calls];
    PyObject *other_hooks;  // {(audit_arch, nr): (hooks, deferred)} of numbers beyond the tables
    PyObject *other_counts; // {(audit_arch, nr): how many}
};

static inline struct listener_object *as_listener(PyObject *object)
{
    return (struct listener_object *)(void *)object;
}

static inline int tl_arch_index(uint32_t arch)
{
    for (int i = 0; i < arch_count; i++)
        if (tl_arches[i] == arch)
            return i;
    return -1;
}

// Starts a thread that takes calls; its context is the listener object. Called from any thread, without the
// GIL.
bool tl_listener_start_worker(void *listener_object);

#endif
