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

struct thread_object {
    PyObject_HEAD
    PyObject *guest;
    struct tl_guest_thread *core;
    bool runs;
};

static inline struct thread_object *as_thread(PyObject *object)
{
    return (struct thread_object *)(void *)object;
}

extern PyObject *tl_guest_type;

// What tl_guest.perform is here.
int tl_guest_perform_call(struct tl_guest_thread *thread, int64_t *result);
int tl_guest_thread_add_to(PyObject *module);
int tl_guest_memory_add_to(PyObject *module); // guest_memory.c

// guest_registers.c
extern PyGetSetDef tl_guest_thread_getset[];
PyObject *tl_guest_thread_perform(PyObject *thread, PyObject *args);
PyObject *tl_guest_thread_interrupt(PyObject *thread, PyObject *unused);
PyObject *tl_guest_thread_write_memory(PyObject *thread, PyObject *args);
PyObject *tl_guest_thread_get(PyObject *thread, PyObject *index);
PyObject *tl_guest_thread_set(PyObject *thread, PyObject *args);
PyObject *tl_guest_thread_copy_from(PyObject *thread, PyObject *other);
PyObject *tl_guest_thread_fault(PyObject *thread, PyObject *unused);
PyObject *tl_guest_thread_vectors(PyObject *thread, PyObject *unused);
PyObject *tl_guest_thread_set_vectors(PyObject *thread, PyObject *args);

#endif
