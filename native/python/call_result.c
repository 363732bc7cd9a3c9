// Results and changed arguments: what a hook can ask of some engines only.
#include "call_object.h"

#include <errno.h>

static PyObject *raise_unsupported(struct call_object *self, const char *capability, const char *what)
{
    const char *engine = tl_listener_engine(tl_call_core(self));
    PyObject *message = PyUnicode_FromFormat("engine '%s' cannot %s", engine, what);
    PyObject *arguments = message ? PyTuple_Pack(1, message) : NULL;
    PyObject *keywords = Py_BuildValue("{ssss}", "engine", engine, "capability", capability);
    PyObject *exception =
        arguments && keywords ? PyObject_Call(tl_unsupported_error, arguments, keywords) : NULL;

    if (exception)
        PyErr_SetObject(tl_unsupported_error, exception);
    Py_XDECREF(exception);
    Py_XDECREF(keywords);
    Py_XDECREF(arguments);
    Py_XDECREF(message);
    return NULL;
}

PyObject *tl_call_get_result(PyObject *object, void *closure)
{
    struct call_object *self = as_call(object);

    (void)closure;
    if (!self->call.returned && !self->performed) {
        PyErr_SetString(PyExc_AttributeError,
                        "this call has no result yet: declare the hook with @on_return, or have the kernel "
                        "perform the call with call.perform()");
        return NULL;
    }
    return PyLong_FromLongLong(self->call.result);
}

PyObject *tl_call_perform(PyObject *object, PyObject *unused)
{
    struct call_object *self = as_call(object);
    int error = 0;

    (void)unused;
    if (self->answered) {
        PyErr_SetString(PyExc_RuntimeError, "this call was answered already");
        return NULL;
    }
    if (!self->call.returned && !self->performed) {
        int64_t result = 0;
        Py_BEGIN_ALLOW_THREADS;
        error = tl_listener_perform(tl_call_core(self), self->call.id, &result);
        Py_END_ALLOW_THREADS;
        if (error == ENOTSUP)
            return raise_unsupported(
                self, "result",
                "tell a result: declare @on(..., performs=True) to have an engine chosen that can");
        if (error == ENOENT)
            return tl_call_raise_gone(self);
        if (error)
            return tl_raise_errno(error);
        self->call.result = result;
        self->performed = true;
    }
    return PyLong_FromLongLong(self->call.result);
}

// What was decoded from the old arguments is decoded anew.
static PyObject *changed(struct call_object *self, unsigned index, uint64_t value, int error)
{
    if (error == ENOTSUP)
        return raise_unsupported(
            self, "change_args",
            "change arguments: declare @on(..., changes_args=True) to have an engine chosen that can");
    if (error == ENOENT)
        return tl_call_raise_gone(self);
    if (error)
        return tl_raise_errno(error);
    self->call.args[index] = value;
    Py_CLEAR(self->name);
    Py_CLEAR(self->arguments);
    Py_RETURN_NONE;
}

static int check_change(struct call_object *self, unsigned index)
{
    if (index > 5)
        PyErr_SetString(PyExc_ValueError, "write_arg: a call has six arguments");
    else if (self->call.returned || self->performed)
        PyErr_SetString(PyExc_RuntimeError, "write_arg: the kernel has performed this call already");
    else if (self->answered)
        PyErr_SetString(PyExc_RuntimeError, "this call was answered already");
    else
        return 0;
    return -1;
}

// _set_arg(index, value): 64 bits, or what a 32-bit program has
PyObject *tl_call_set_arg(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    unsigned long long value;
    unsigned index;

    if (!PyArg_ParseTuple(args, "IK:_set_arg", &index, &value) || check_change(self, index) < 0)
        return NULL;
    return changed(self, index, value, tl_listener_set_arg(tl_call_core(self), self->call.id, index, value));
}

// _copy_arg(index, data)
PyObject *tl_call_copy_arg(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    uint64_t address = 0;
    unsigned index;
    Py_buffer data;
    int error;

    if (!PyArg_ParseTuple(args, "Iy*:_copy_arg", &index, &data))
        return NULL;
    if (check_change(self, index) < 0) {
        PyBuffer_Release(&data);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    error =
        tl_listener_copy_arg(tl_call_core(self), self->call.id, index, data.buf, (size_t)data.len, &address);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&data);
    return changed(self, index, address, error);
}
