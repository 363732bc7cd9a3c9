// _native.Spawn: a command that was started under a filter, or is held before its execve.
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <unistd.h>

#include "spawn.h"

struct spawn_object {
    PyObject_HEAD
    struct tl_spawn *spawn;
    // What the child reads until its execve.
    struct tl_spawn_options options;
    PyObject *keep[6];
    char **argv, **envp;
    int pid, pidfd, listener;
    bool no_new_privs;
    char waits_killable;
};

static PyObject *spawn_type;

static struct spawn_object *as_spawn(PyObject *object)
{
    return (struct spawn_object *)(void *)object;
}

static void spawn_dealloc(PyObject *object)
{
    struct spawn_object *self = as_spawn(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    tl_spawn_free(self->spawn);
    PyMem_Free(self->argv);
    PyMem_Free(self->envp);
    for (size_t i = 0; i < sizeof self->keep / sizeof *self->keep; i++)
        Py_XDECREF(self->keep[i]);
    release(object);
    Py_DECREF(type);
}

// A NULL-terminated array of the bytes in a sequence; the strings stay owned by KEEP, a new tuple.
static char **string_array(PyObject *sequence, PyObject **keep)
{
    PyObject *tuple = PySequence_Tuple(sequence);
    char **array = NULL;

    if (!tuple)
        return NULL;
    Py_ssize_t count = PyTuple_Size(tuple);
    array = PyMem_Calloc((size_t)count + 1, sizeof *array);
    for (Py_ssize_t i = 0; array && i < count; i++) {
        array[i] = PyBytes_AsString(PyTuple_GetItem(tuple, i));
        if (!array[i]) {
            PyMem_Free(array);
            array = NULL;
        }
    }
    if (!array)
        Py_CLEAR(tuple);
    *keep = tuple;
    return array;
}

// Copies of the stdio fds above 2, so that placing one cannot overwrite another.
static int lift_stdio(const int given[3], int lifted[3])
{
    for (int i = 0; i < 3; i++) {
        lifted[i] = given[i] < 0 ? -1 : fcntl(given[i], F_DUPFD_CLOEXEC, 3);
        if (given[i] >= 0 && lifted[i] < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            while (i-- > 0)
                if (lifted[i] >= 0)
                    close(lifted[i]);
            return -1;
        }
    }
    return 0;
}

static int read_options(struct spawn_object *self, PyObject *args)
{
    struct tl_spawn_options *options = &self->options;
    PyObject *path, *argv, *envp, *cwd, *filter, *job;
    int hold;

    options->pass[0] = options->pass[1] = -1;
    if (!PyArg_ParseTuple(args, "SOOO(iii)OOp|((ii)(ii)):Spawn", &path, &argv, &envp, &cwd,
                          &options->stdio[0], &options->stdio[1], &options->stdio[2], &filter, &job, &hold,
                          &options->pass[0], &options->pass_as[0], &options->pass[1], &options->pass_as[1]))
        return -1;
    if (filter == Py_None ? !hold : !PyBytes_Check(filter)) {
        PyErr_SetString(PyExc_TypeError, "Spawn: the filter is bytes, or None for a command that is held");
        return -1;
    }
    options->hold = hold;
    if (job != Py_None && !PyObject_TypeCheck(job, (PyTypeObject *)(void *)tl_job_type)) {
        PyErr_SetString(PyExc_TypeError, "Spawn: job must be a Job or None");
        return -1;
    }
    self->argv = string_array(argv, &self->keep[0]);
    self->envp = self->argv ? string_array(envp, &self->keep[1]) : NULL;
    if (!self->envp)
        return -1;
    self->keep[2] = Py_NewRef(path);
    self->keep[3] = Py_NewRef(cwd);
    self->keep[4] = Py_NewRef(filter);
    self->keep[5] = Py_NewRef(job);
    options->mask = job == Py_None ? NULL : tl_job_mask(job);
    options->path = PyBytes_AsString(path);
    options->argv = self->argv;
    options->envp = self->envp;
    options->cwd = cwd == Py_None ? NULL : PyBytes_AsString(cwd);
    if (filter != Py_None) {
        options->filter = (const struct sock_filter *)(const void *)PyBytes_AsString(filter);
        options->filter_length = (unsigned short)((size_t)PyBytes_Size(filter) / sizeof(struct sock_filter));
    }
    return cwd != Py_None && !options->cwd ? -1 : 0;
}

static PyObject *spawn_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *object = PyType_GenericAlloc(type, 0);
    struct spawn_object *self = object ? as_spawn(object) : NULL;
    struct tl_error *error;
    int given[3], listener = -1;

    (void)keywords;
    if (!self || read_options(self, args) < 0) {
        Py_XDECREF(object);
        return NULL;
    }
    memcpy(given, self->options.stdio, sizeof given);
    if (lift_stdio(given, self->options.stdio) < 0) {
        Py_DECREF(object);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    error = tl_spawn_start(&self->options, &self->spawn, &listener);
    for (int i = 0; i < 3; i++)
        if (self->options.stdio[i] >= 0)
            close(self->options.stdio[i]);
    Py_END_ALLOW_THREADS;
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    self->listener = listener;
    self->pid = tl_spawn_pid(self->spawn);
    self->pidfd = tl_spawn_pidfd(self->spawn);
    self->waits_killable = tl_spawn_waits_killable(self->spawn);
    return object;
}

// Gives back what the start took: the descriptors and the memory that the child ran on.
static PyObject *spawn_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (as_spawn(object)->spawn)
        as_spawn(object)->no_new_privs = tl_spawn_no_new_privs(as_spawn(object)->spawn);
    tl_spawn_free(as_spawn(object)->spawn);
    as_spawn(object)->spawn = NULL;
    as_spawn(object)->pidfd = -1;
    Py_RETURN_NONE;
}

// Waits until execve has happened or failed, or WAKE is readable; True in the first case.
static PyObject *spawn_wait_exec(PyObject *object, PyObject *args)
{
    struct pollfd fds[2] = {{tl_spawn_channel(as_spawn(object)->spawn), POLLIN, 0}, {-1, POLLIN, 0}};
    int ready;

    if (!PyArg_ParseTuple(args, "i:wait_exec", &fds[1].fd))
        return NULL;
    do {
        Py_BEGIN_ALLOW_THREADS;
        ready = poll(fds, 2, -1);
        Py_END_ALLOW_THREADS;
        if (PyErr_CheckSignals() < 0)
            return NULL;
    } while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyBool_FromLong(fds[0].revents);
}

// Lets a command that is held go on to its filter and its execve.
static PyObject *spawn_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_spawn_release(as_spawn(object)->spawn);
    Py_RETURN_NONE;
}

static PyMethodDef spawn_methods[] = {
    {"release", spawn_release, METH_NOARGS, NULL},
    {"close", spawn_close, METH_NOARGS, NULL},
    {"wait_exec", spawn_wait_exec, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *get_exec_error(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLong(tl_spawn_exec_error(as_spawn(object)->spawn));
}

static PyObject *get_filter_error(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLong(tl_spawn_filter_error(as_spawn(object)->spawn));
}

static PyObject *get_no_new_privs(PyObject *object, void *closure)
{
    struct spawn_object *self = as_spawn(object);

    (void)closure;
    if (self->spawn)
        self->no_new_privs = tl_spawn_no_new_privs(self->spawn);
    return PyBool_FromLong(self->no_new_privs);
}

static PyGetSetDef spawn_getset[] = {
    {"filter_error", get_filter_error, NULL, "Why the filter of a held command was refused, or 0.", NULL},
    {"no_new_privs", get_no_new_privs, NULL, "The command runs with it.", NULL},
    {"exec_error", get_exec_error, NULL, "Why execve failed, or 0, once the channel is readable.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef spawn_members[] = {
    {"pid", T_INT, offsetof(struct spawn_object, pid), READONLY, NULL},
    {"pidfd", T_INT, offsetof(struct spawn_object, pidfd), READONLY, NULL},
    {"listener", T_INT, offsetof(struct spawn_object, listener), READONLY, NULL},
    {"waits_killable", T_BOOL, offsetof(struct spawn_object, waits_killable), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot spawn_slots[] = {
    {Py_tp_new, spawn_new},         {Py_tp_dealloc, spawn_dealloc}, {Py_tp_getset, spawn_getset},
    {Py_tp_members, spawn_members}, {Py_tp_methods, spawn_methods}, {0, NULL},
};

static PyType_Spec spawn_spec = {
    .name = "trapline._native.Spawn",
    .basicsize = sizeof(struct spawn_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = spawn_slots,
};

struct tl_spawn *tl_spawn_core(PyObject *object)
{
    if (!PyObject_TypeCheck(object, (PyTypeObject *)(void *)spawn_type) || !as_spawn(object)->spawn) {
        PyErr_SetString(PyExc_TypeError, "this is no Spawn whose command is held");
        return NULL;
    }
    return as_spawn(object)->spawn;
}

int tl_spawn_add_to(PyObject *module)
{
    spawn_type = PyType_FromSpec(&spawn_spec);
    return spawn_type ? PyModule_AddObjectRef(module, "Spawn", spawn_type) : -1;
}
