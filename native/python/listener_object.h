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

// Hooks before calls happen, or for their results.
struct hook_table {
    // Per call a tuple of hooks; NULL where only the default is meant.
    PyObject *hooks[arch_count][native_calls];
    bool deferred[arch_count][native_calls];
    PyObject *others; // {(audit_arch, nr): (hooks, deferred)} of numbers beyond the tables
    PyObject *default_hooks;
    bool default_deferred;
    bool used;
};

struct listener_object {
    PyObject_HEAD
    struct tl_listener *core;
    struct tl_rules *rules;
    PyObject *call_type; // what hooks get
    PyObject *spare;     // one that serves again, or NULL
    PyObject *on_error;  // (call, exception) -> errno to fail with, 0 to let the kernel go on, -1 to leave it
    PyObject *defer;     // (call, hooks): decides later and answers by itself
    PyObject *describe;  // (audit_arch, nr) -> places of its paths
    struct hook_table before, returned;
    struct tl_path_places *paths[arch_count]; // native_calls each
    bool meets[arch_count][native_calls];     // execve and execveat, where the vDSO is to be hidden
    pid_t command;
    PyObject *on_unhidden; // (errno): a program has kept its vDSO
    uint64_t counts[arch_count][native_calls];
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

// The hooks of CALL, borrowed, or NULL.
PyObject *tl_hooks_find(const struct hook_table *table, const struct tl_call *call, bool *deferred);
// set_hooks(audit_arch, nr, hooks, deferred, returned)
PyObject *tl_hooks_set(PyObject *listener, PyObject *args);
// Tells the engine what is wanted of a number (-1: all others), by hooks and rules.
void tl_hooks_publish(void *listener_object, uint32_t arch, int nr);
int tl_hooks_traverse(struct hook_table *table, visitproc visit, void *arg);
void tl_hooks_clear(struct hook_table *table);

// Starts a thread that takes calls; its context is the listener object. Called from any thread, without the
// GIL.
bool tl_listener_start_worker(void *listener_object);

#endif
