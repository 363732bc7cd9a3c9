// _native.Job: a context in which this process stands in for a command at its terminal.
#include "module.h"

#include <stddef.h>
#include <structmember.h>

#include "job.h"

struct job_object {
    PyObject_HEAD
    struct tl_job job;
};

static struct job_object *as_job(PyObject *object)
{
    return (struct job_object *)(void *)object;
}

const sigset_t *tl_job_mask(PyObject *job)
{
    return &as_job(job)->job.before;
}

static PyObject *job_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)keywords;
    if (!PyArg_ParseTuple(args, ":Job"))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    struct tl_error *error = object ? tl_job_begin(&as_job(object)->job) : NULL;
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    return object;
}

static void job_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    tl_job_end(&as_job(object)->job);
    release(object);
    Py_DECREF(type);
}

static PyObject *job_end(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_job_end(&as_job(object)->job);
    Py_RETURN_NONE;
}

static PyObject *job_early_signal(PyObject *object, PyObject *unused)
{
    int number;

    (void)unused;
    tl_job_early_signal(&as_job(object)->job, &number);
    return PyLong_FromLong(number);
}

static PyObject *job_pass_early(PyObject *object, PyObject *argument)
{
    long pidfd = PyLong_AsLong(argument);

    if (pidfd == -1 && PyErr_Occurred())
        return NULL;
    tl_job_pass_early(&as_job(object)->job, (int)pidfd);
    Py_RETURN_NONE;
}

// wait(pid, pidfd, tracer or None, listener, wake, milliseconds) -> (event, value)
static PyObject *job_wait(PyObject *object, PyObject *args)
{
    enum tl_job_event event = TL_JOB_WOKEN;
    int listener, wake, milliseconds, value = 0;
    struct tl_command command = {0};
    struct tl_error *error;
    PyObject *tracer;

    if (!PyArg_ParseTuple(args, "iiOiii:wait", &command.pid, &command.pidfd, &tracer, &listener, &wake,
                          &milliseconds))
        return NULL;
    if (tracer != Py_None) {
        if (!PyObject_TypeCheck(tracer, (PyTypeObject *)(void *)tl_tracer_type)) {
            PyErr_SetString(PyExc_TypeError, "wait: tracer must be a Tracer or None");
            return NULL;
        }
        command.tracer = tl_tracer_core(tracer);
    }
    Py_BEGIN_ALLOW_THREADS;
    error = tl_job_wait(&as_job(object)->job, &command, listener, wake, milliseconds, &event, &value);
    Py_END_ALLOW_THREADS;
    if (error)
        return tl_raise(error);
    return Py_BuildValue("(ii)", (int)event, value);
}

static PyMemberDef job_members[] = {
    {"interrupted", T_BOOL, offsetof(struct job_object, job.interrupted), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef job_methods[] = {
    {"wait", job_wait, METH_VARARGS, NULL},
    {"early_signal", job_early_signal, METH_NOARGS, NULL},
    {"pass_early", job_pass_early, METH_O, NULL},
    {"end", job_end, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot job_slots[] = {
    {Py_tp_new, job_new},
    {Py_tp_dealloc, job_dealloc},
    {Py_tp_methods, job_methods},
    {Py_tp_members, job_members},
    {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "trapline._native.Job",
    .basicsize = sizeof(struct job_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = job_slots,
};

PyObject *tl_job_type;

int tl_job_add_to(PyObject *module)
{
    tl_job_type = PyType_FromSpec(&job_spec);
    return tl_job_type ? PyModule_AddObjectRef(module, "Job", tl_job_type) : -1;
}
