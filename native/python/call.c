// _native.Call: one system call that waits for a decision. trapline.call.Call adds what needs the ABI tables.
#include "call_object.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task.h"

PyObject *tl_decided;
static PyObject *call_type;

static void drop_fd(struct call_object *self)
{
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
}

PyObject *tl_call_new(PyObject *type, PyObject *listener, const struct tl_call *call)
{
    PyObject *object = PyType_GenericAlloc((PyTypeObject *)(void *)type, 0);

    if (!object)
        return NULL;
    as_call(object)->listener = Py_NewRef(listener);
    as_call(object)->call = *call;
    as_call(object)->fd = -1;
    return object;
}

// Making and freeing an object takes a third of the time that a call spends in Python, so one that no hook
// has kept serves again.
bool tl_call_retire(PyObject *object)
{
    struct call_object *self = as_call(object);

    if (Py_REFCNT(object) != 1)
        return false;
    drop_fd(self);
    Py_CLEAR(self->name);
    Py_CLEAR(self->arguments);
    Py_CLEAR(self->listener); // what holds the spare is the listener itself
    return true;
}

void tl_call_reuse(PyObject *object, PyObject *listener, const struct tl_call *call)
{
    struct call_object *self = as_call(object);

    self->listener = Py_NewRef(listener);
    self->call = *call;
    self->decision = TL_UNDECIDED;
    self->answered = self->performed = false;
}

enum tl_decision tl_call_decision(PyObject *call)
{
    return as_call(call)->decision;
}

static void call_dealloc(PyObject *object)
{
    struct call_object *self = as_call(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    drop_fd(self);
    Py_XDECREF(self->name);
    Py_XDECREF(self->arguments);
    Py_XDECREF(self->listener);
    release(object);
    Py_DECREF(type);
}

// A decision is kept here and carried out when the hook has returned; the later one of two wins.
static PyObject *decide(struct call_object *self, enum tl_decision decision, int64_t value)
{
    if (self->answered) {
        PyErr_SetString(PyExc_RuntimeError, "this call was answered already");
        return NULL;
    }
    drop_fd(self);
    self->decision = decision;
    self->value = value;
    return Py_NewRef(tl_decided);
}

static PyObject *call_proceed(PyObject *object, PyObject *unused)
{
    (void)unused;
    return decide(as_call(object), TL_PROCEED, 0);
}

static PyObject *call_reply(PyObject *object, PyObject *argument)
{
    long long value = PyLong_AsLongLong(argument);

    if (value == -1 && PyErr_Occurred())
        return NULL;
    return decide(as_call(object), TL_REPLY, value);
}

static PyObject *call_fail(PyObject *object, PyObject *argument)
{
    long value = PyLong_AsLong(argument);

    if (value == -1 && PyErr_Occurred())
        return NULL;
    if (value < 1 || value > 4095)
        return PyErr_Format(PyExc_ValueError, "fail: %ld is no errno (1 to 4095)", value);
    return decide(as_call(object), TL_FAIL, value);
}

static PyObject *call_kill(PyObject *object, PyObject *args)
{
    int number = SIGKILL;

    if (!PyArg_ParseTuple(args, "|i:kill", &number))
        return NULL;
    if (number < 1 || number > 64)
        return PyErr_Format(PyExc_ValueError, "kill: %d is no signal (1 to 64)", number);
    return decide(as_call(object), TL_KILL, number);
}

static PyObject *call_reply_fd(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    int fd, close_on_exec;

    if (!PyArg_ParseTuple(args, "ip:_reply_fd", &fd, &close_on_exec))
        return NULL;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    PyObject *result = decide(self, TL_REPLY_FD, 0);
    if (!result) {
        close(copy);
        return NULL;
    }
    self->fd = copy;
    self->close_on_exec = close_on_exec;
    return result;
}

static PyObject *call_add_fd(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    int fd, close_on_exec, number;

    if (!PyArg_ParseTuple(args, "ip:_add_fd", &fd, &close_on_exec))
        return NULL;
    int error;
    Py_BEGIN_ALLOW_THREADS;
    error = tl_listener_add_fd(tl_call_core(self), self->call.id, fd, close_on_exec, &number);
    Py_END_ALLOW_THREADS;
    if (error == ENOENT)
        return tl_call_raise_gone(self);
    return error ? tl_raise_errno(error) : PyLong_FromLong(number);
}

// Ends the process of the caller. The pidfd is taken before the caller is known to wait still, so it is the
// right one.
static void kill_caller(struct call_object *self)
{
    if (tl_listener_kill(tl_call_core(self), self->call.id, (int)self->value) != ENOTSUP)
        return;
    pid_t pid = tl_task_process(self->call.tid);
    int pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

    if (pidfd < 0)
        return;
    if (tl_call_waits(self))
        syscall(SYS_pidfd_send_signal, pidfd, (int)self->value, NULL, 0);
    close(pidfd);
    // Any signal but SIGKILL may be handled, and then the call has to end.
    if (self->value != SIGKILL)
        tl_listener_reply(tl_call_core(self), self->call.id, 0, EINTR);
}

// Hooks for the result come before the answer, when a hook has made up that result or had it made.
static bool turn_to_result(struct call_object *self, struct tl_call *returned)
{
    bool made_up = self->decision == TL_REPLY || self->decision == TL_FAIL || self->decision == TL_REPLY_FD;

    if (!returned || self->call.returned || !(made_up || (self->performed && self->decision != TL_KILL)) ||
        !tl_listener_wants_result(self->listener, &self->call))
        return false;
    *returned = self->call;
    returned->returned = true;
    returned->emulated = made_up;
    if (self->decision == TL_REPLY_FD) {
        int number;
        int error;
        Py_BEGIN_ALLOW_THREADS;
        error = tl_listener_add_fd(tl_call_core(self), self->call.id, self->fd, self->close_on_exec, &number);
        Py_END_ALLOW_THREADS;
        drop_fd(self);
        returned->result = error ? -error : number;
    } else if (made_up) {
        returned->result = self->decision == TL_FAIL ? -self->value : self->value;
    }
    self->answered = true;
    return true;
}

static void let_go_on(struct call_object *self)
{
    if (self->call.emulated)
        tl_listener_reply(tl_call_core(self), self->call.id, self->call.result, 0);
    else if (self->call.returned || self->performed)
        tl_listener_continue(tl_call_core(self), self->call.id);
    else
        tl_listener_let_go_on(self->listener, &self->call);
}

bool tl_call_answer(PyObject *object, struct tl_call *returned)
{
    struct call_object *self = as_call(object);
    uint64_t id = self->call.id;
    int error;

    if (self->answered)
        return false;
    if (turn_to_result(self, returned))
        return true;
    self->answered = true;
    switch (self->decision) {
    case TL_UNDECIDED:
    case TL_PROCEED:
        let_go_on(self);
        break;
    case TL_REPLY:
        tl_listener_reply(tl_call_core(self), id, self->value, 0);
        break;
    case TL_FAIL:
        tl_listener_reply(tl_call_core(self), id, 0, (int)self->value);
        break;
    case TL_REPLY_FD:
        // The caller's own table may be full: it gets the error that a real open would have given.
        Py_BEGIN_ALLOW_THREADS;
        error = tl_listener_reply_fd(tl_call_core(self), id, self->fd, self->close_on_exec);
        Py_END_ALLOW_THREADS;
        if (error && error != ENOENT)
            tl_listener_reply(tl_call_core(self), id, 0, error);
        drop_fd(self);
        break;
    case TL_KILL:
        kill_caller(self);
        break;
    }
    return false;
}

void tl_call_override(PyObject *object, int error_number)
{
    struct call_object *self = as_call(object);

    drop_fd(self);
    self->decision = error_number ? TL_FAIL : TL_PROCEED;
    self->value = error_number;
}

int tl_call_check_result(PyObject *call, PyObject *result)
{
    bool decided = tl_call_decision(call) != TL_UNDECIDED;

    if (result == Py_None && !decided)
        return 0;
    if (result == tl_decided && decided)
        return 1;
    if (result == Py_None)
        PyErr_SetString(PyExc_TypeError, "the hook took a decision but returned None: write `return call.…`");
    else
        PyErr_Format(PyExc_TypeError,
                     "a hook returns None or a decision of its own call such as call.reply(0), not %R",
                     result);
    return -1;
}

static PyObject *call_check(PyObject *object, PyObject *result)
{
    int decided = tl_call_check_result(object, result);

    return decided < 0 ? NULL : PyBool_FromLong(decided);
}

static PyObject *call_answer(PyObject *object, PyObject *unused)
{
    struct tl_call returned;
    (void)unused;
    // By way of the queue: this is not a thread that may run hooks.
    if (tl_call_answer(object, &returned) && tl_listener_delay(tl_call_core(as_call(object)), &returned, 0))
        tl_listener_reply(tl_call_core(as_call(object)), returned.id, returned.result, 0);
    Py_RETURN_NONE;
}

static PyObject *call_waits(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(tl_call_waits(as_call(object)));
}

static PyObject *get_arch(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLong(as_call(object)->call.arch);
}

static PyObject *get_raw(PyObject *object, void *closure)
{
    const uint64_t *a = as_call(object)->call.args;

    (void)closure;
    return Py_BuildValue("(KKKKKK)", (unsigned long long)a[0], (unsigned long long)a[1],
                         (unsigned long long)a[2], (unsigned long long)a[3], (unsigned long long)a[4],
                         (unsigned long long)a[5]);
}

static PyObject *get_pid(PyObject *object, void *closure)
{
    struct call_object *self = as_call(object);
    pid_t pid = tl_task_process(self->call.tid);

    (void)closure;
    return pid && tl_call_waits(self) ? PyLong_FromLong(pid) : tl_call_raise_gone(self);
}

static PyObject *get_decided(PyObject *object, void *closure)
{
    (void)closure;
    return PyBool_FromLong(as_call(object)->decision != TL_UNDECIDED);
}

static PyGetSetDef call_getset[] = {
    {"audit_arch", get_arch, NULL, "AUDIT_ARCH_* of the call's convention.", NULL},
    {"raw", get_raw, NULL, "The six argument registers, as unsigned 64-bit numbers.", NULL},
    {"path", tl_call_get_path, NULL, "The first path argument, absolute.", NULL},
    {"paths", tl_call_get_paths, NULL, "Every path argument.", NULL},
    {"result", tl_call_get_result, NULL, "What the call returned; -1 to -4095 is an errno.", NULL},
    {"pid", get_pid, NULL, "Process that the calling thread belongs to.", NULL},
    {"_is_decided", get_decided, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef call_members[] = {
    {"nr", T_INT, offsetof(struct call_object, call.nr), READONLY, "Number of the call."},
    {"tid", T_INT, offsetof(struct call_object, call.tid), READONLY, "Thread that makes the call."},
    {"ip", T_ULONGLONG, offsetof(struct call_object, call.ip), READONLY, "Address after the instruction."},
    {"_name", T_OBJECT_EX, offsetof(struct call_object, name), 0, NULL},
    {"_arguments", T_OBJECT_EX, offsetof(struct call_object, arguments), 0, NULL},
    {"returned", T_BOOL, offsetof(struct call_object, call.returned), READONLY, "The result is known."},
    {"_id", T_ULONGLONG, offsetof(struct call_object, call.id), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef call_methods[] = {
    {"read", tl_call_read, METH_VARARGS, NULL},
    {"read_str", tl_call_read_str, METH_VARARGS, NULL},
    {"write", tl_call_write, METH_VARARGS, NULL},
    {"fd_path", tl_call_fd_path, METH_VARARGS, NULL},
    {"_open", tl_call_open, METH_VARARGS, NULL},
    {"take_fd", tl_call_take_fd, METH_O, NULL},
    {"perform", tl_call_perform, METH_NOARGS, NULL},
    {"_set_arg", tl_call_set_arg, METH_VARARGS, NULL},
    {"_copy_arg", tl_call_copy_arg, METH_VARARGS, NULL},
    {"proceed", call_proceed, METH_NOARGS, NULL},
    {"reply", call_reply, METH_O, NULL},
    {"fail", call_fail, METH_O, NULL},
    {"kill", call_kill, METH_VARARGS, NULL},
    {"waits", call_waits, METH_NOARGS, NULL},
    {"_reply_fd", call_reply_fd, METH_VARARGS, NULL},
    {"_add_fd", call_add_fd, METH_VARARGS, NULL},
    {"_check", call_check, METH_O, NULL},
    {"_answer", call_answer, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {Py_tp_members, call_members},
    {Py_tp_getset, call_getset},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "trapline._native.Call",
    .basicsize = sizeof(struct call_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

static PyObject *decided_repr(PyObject *object)
{
    (void)object;
    return PyUnicode_FromString("<decision>");
}

static PyType_Slot decided_slots[] = {{Py_tp_repr, decided_repr}, {0, NULL}};

static PyType_Spec decided_spec = {
    .name = "trapline._native.Decision",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = decided_slots,
};

int tl_call_add_to(PyObject *module)
{
    call_type = PyType_FromSpec(&call_spec);
    PyObject *decided_type = call_type ? PyType_FromSpec(&decided_spec) : NULL;
    if (!decided_type)
        return -1;
    tl_decided = PyType_GenericAlloc((PyTypeObject *)(void *)decided_type, 0);
    if (!tl_decided || PyModule_AddObjectRef(module, "Call", call_type) < 0 ||
        PyModule_AddObjectRef(module, "Decision", decided_type) < 0)
        return -1;
    Py_DECREF(decided_type);
    return 0;
}
