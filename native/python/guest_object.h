// What the files about guests share.
#ifndef TL_GUEST_OBJECT_H
#define TL_GUEST_OBJECT_H

#include "module.h"

#include "filter.h"
#include "guest.h"

struct guest_object {
    PyObject_HEAD
    struct tl_guest *core;
    PyObject *listener;          // _native.Listener
    struct sock_filter *program; // which calls it is asked about
    unsigned program_length;
    PyObject *handlers; // {(audit_arch, nr): what does the call}, nr -1: all others
    PyObject *on_kick, *on_hot;
};

static inline struct guest_object *as_guest(PyObject *object)
{
    return (struct guest_object *)(void *)object;
}

extern PyObject *tl_guest_type;

// What tl_guest.perform is here.
int tl_guest_perform_call(struct tl_guest_thread *thread, int64_t *result);
int tl_guest_thread_add_to(PyObject *module);

#endif
