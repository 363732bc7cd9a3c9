// What the files about _native.Call share.
#ifndef TL_CALL_OBJECT_H
#define TL_CALL_OBJECT_H

#include "module.h"

struct call_object {
    PyObject_HEAD
    PyObject *listener;
    PyObject *name, *arguments; // set by trapline.call.Call when they are first asked for
    struct tl_call call;
    enum tl_decision decision;
    bool close_on_exec;
    bool answered;
    bool performed; // the hook has had the kernel perform the call
    int fd;         // ours, for TL_REPLY_FD
    int64_t value;
};

static inline struct call_object *as_call(PyObject *object)
{
    return (struct call_object *)(void *)object;
}

static inline struct tl_listener *tl_call_core(struct call_object *self)
{
    return tl_listener_core(self->listener);
}

// Whatever was read by a thread id counts only if that thread still waits: the id may be somebody else's by
// now.
static inline bool tl_call_waits(struct call_object *self)
{
    return tl_listener_is_waiting(tl_call_core(self), self->call.id);
}

static inline PyObject *tl_call_raise_gone(struct call_object *self)
{
    return PyErr_Format(tl_call_gone_error, "thread %d does not wait for its call any more", self->call.tid);
}

// What a hook asks of an engine that not every one can do: call_result.c.
PyObject *tl_call_get_result(PyObject *call, void *closure);
PyObject *tl_call_perform(PyObject *call, PyObject *unused);
PyObject *tl_call_set_arg(PyObject *call, PyObject *args);
PyObject *tl_call_copy_arg(PyObject *call, PyObject *args);

// Methods and attributes that look into the caller: call_memory.c.
PyObject *tl_call_read(PyObject *call, PyObject *args);
PyObject *tl_call_write(PyObject *call, PyObject *args);
PyObject *tl_call_read_str(PyObject *call, PyObject *args);
PyObject *tl_call_get_path(PyObject *call, void *closure);
PyObject *tl_call_get_paths(PyObject *call, void *closure);
PyObject *tl_call_fd_path(PyObject *call, PyObject *args);
PyObject *tl_call_open(PyObject *call, PyObject *args);
PyObject *tl_call_take_fd(PyObject *call, PyObject *number);

#endif
