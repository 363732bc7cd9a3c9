// _native.Tracer: a program that the ptrace engine has hold of.
#include "module.h"

#include <errno.h>

#include "ptrace.h"

struct tracer_object {
    PyObject_HEAD
    struct tl_tracer *tracer;
    PyObject *on_unhidden, *on_signal;
};

static struct tracer_object *as_tracer(PyObject *object)
{
    return (struct tracer_object *)(void *)object;
}

struct tl_tracer *tl_tracer_core(PyObject *tracer)
{
    return as_tracer(tracer)->tracer;
}

static int tracer_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(as_tracer(object)->on_unhidden);
    Py_VISIT(as_tracer(object)->on_signal);
    return 0;
}

static int tracer_clear(PyObject *object)
{
    Py_CLEAR(as_tracer(object)->on_unhidden);
    Py_CLEAR(as_tracer(object)->on_signal);
    return 0;
}

static void tracer_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(object);
    if (as_tracer(object)->tracer) {
        Py_BEGIN_ALLOW_THREADS;
        tl_tracer_release(as_tracer(object)->tracer);
        Py_END_ALLOW_THREADS;
    }
    tracer_clear(object);
    release(object);
    Py_DECREF(type);
}

// On the tracer's thread, which Python does not know. The object lives as long as its program is traced.
static void unhidden(void *context, int error)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *callable = as_tracer(context)->on_unhidden;
    PyObject *result = callable ? PyObject_CallFunction(callable, "i", error) : Py_NewRef(Py_None);

    if (!result)
        PyErr_WriteUnraisable(callable);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

// Likewise on the tracer's thread.
static void signalled(void *context, pid_t tid, const siginfo_t *info)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *callable = as_tracer(context)->on_signal;
    PyObject *result = callable ? PyObject_CallFunction(callable, "iiy#", (int)tid, info->si_signo,
                                                        (const char *)info, (Py_ssize_t)sizeof *info)
                                : Py_NewRef(Py_None);

    if (!result)
        PyErr_WriteUnraisable(callable);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

// Tracer(filter, filtered, on_unhidden or None, on_signal or None): on_unhidden(errno) when a new program
// keeps its vDSO, which None leaves alone; on_signal(tid, number, siginfo) when a handler is entered.
static PyObject *tracer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct tl_tracer_options options = {0};
    PyObject *on_unhidden, *on_signal;
    const char *filter;
    Py_ssize_t size;
    int filtered;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "y#pOO:Tracer", &filter, &size, &filtered, &on_unhidden, &on_signal))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    if (!object)
        return NULL;
    as_tracer(object)->on_unhidden = Py_NewRef(on_unhidden);
    as_tracer(object)->on_signal = Py_NewRef(on_signal);
    options.filter = (const struct sock_filter *)(const void *)filter;
    options.filter_length = (unsigned short)((size_t)size / sizeof *options.filter);
    options.filtered = filtered;
    options.hide_vdso = on_unhidden != Py_None;
    options.on_unhidden = unhidden;
    options.on_signal = on_signal == Py_None ? NULL : signalled;
    options.context = object;
    struct tl_error *error = tl_tracer_new(&options, &as_tracer(object)->tracer);
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    return object;
}

static PyObject *take(PyObject *object, PyObject *argument, int (*how)(struct tl_tracer *, pid_t))
{
    long pid = PyLong_AsLong(argument);
    int error;

    if (pid == -1 && PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    error = how(as_tracer(object)->tracer, (pid_t)pid);
    Py_END_ALLOW_THREADS;
    if (error)
        return tl_raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *tracer_seize(PyObject *object, PyObject *pid)
{
    return take(object, pid, tl_tracer_seize);
}

static PyObject *tracer_attach(PyObject *object, PyObject *pid)
{
    return take(object, pid, tl_tracer_attach);
}

static PyObject *tracer_begin(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS;
    tl_tracer_begin(as_tracer(object)->tracer);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

// Lets go of everything; False: something is still in the middle of a call after so many milliseconds.
static PyObject *tracer_detach(PyObject *object, PyObject *argument)
{
    unsigned long milliseconds = PyLong_AsUnsignedLong(argument);
    bool done;

    if (PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    done = tl_tracer_detach(as_tracer(object)->tracer, (unsigned)milliseconds);
    Py_END_ALLOW_THREADS;
    return PyBool_FromLong(done);
}

static PyObject *tracer_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_tracer_close(as_tracer(object)->tracer);
    Py_RETURN_NONE;
}

static PyObject *tracer_transport(PyObject *object, PyObject *unused)
{
    (void)unused;
    return tl_transport_wrap(tl_tracer_transport(as_tracer(object)->tracer));
}

// The wait status, or None while the process lives.
static PyObject *tracer_exit_status(PyObject *object, PyObject *unused)
{
    int status;

    (void)unused;
    if (!tl_tracer_exit_status(as_tracer(object)->tracer, &status))
        Py_RETURN_NONE;
    return PyLong_FromLong(status);
}

static PyMethodDef tracer_methods[] = {
    {"seize", tracer_seize, METH_O, NULL},
    {"attach", tracer_attach, METH_O, NULL},
    {"begin", tracer_begin, METH_NOARGS, NULL},
    {"detach", tracer_detach, METH_O, NULL},
    {"close", tracer_close, METH_NOARGS, NULL},
    {"transport", tracer_transport, METH_NOARGS, NULL},
    {"exit_status", tracer_exit_status, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot tracer_slots[] = {
    {Py_tp_new, tracer_new},     {Py_tp_dealloc, tracer_dealloc}, {Py_tp_traverse, tracer_traverse},
    {Py_tp_clear, tracer_clear}, {Py_tp_methods, tracer_methods}, {0, NULL},
};

static PyType_Spec tracer_spec = {
    .name = "trapline._native.Tracer",
    .basicsize = sizeof(struct tracer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = tracer_slots,
};

PyObject *tl_tracer_type;

int tl_tracer_add_to(PyObject *module)
{
    tl_tracer_type = PyType_FromSpec(&tracer_spec);
    return tl_tracer_type ? PyModule_AddObjectRef(module, "Tracer", tl_tracer_type) : -1;
}
