// _native.GuestThread: runs a guest's code on the calling thread, and brings its calls to hooks and
// personality.
#include "guest_object.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>
#include <unistd.h>

// What run() returns, and what becomes of a step besides.
enum { FINISHED, FAULTED, FAILED, KILLED, GOES_ON, RAISED };

static struct guest_object *guest_of(struct thread_object *self)
{
    return as_guest(self->guest);
}

// GuestThread(guest)
static PyObject *thread_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *guest;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "O!:GuestThread", tl_guest_type, &guest))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    if (!object)
        return NULL;
    as_thread(object)->guest = Py_NewRef(guest);
    struct tl_error *error = tl_guest_thread_new(as_guest(guest)->core, &as_thread(object)->core);
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    return object;
}

static void thread_dealloc(PyObject *object)
{
    struct thread_object *self = as_thread(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(object);
    if (self->core)
        tl_guest_thread_free(self->core);
    Py_XDECREF(self->guest);
    release(object);
    Py_DECREF(type);
}

static int thread_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(as_thread(object)->guest);
    return 0;
}

// The guest is what cycles are broken at: its core has to outlive this one's.
static int thread_clear(PyObject *object)
{
    (void)object;
    return 0;
}

// Threads that are attached here, the innermost first: where perform() finds its object.
static __thread struct thread_object *innermost;

static PyObject *handler_of(const struct guest_object *guest, uint32_t arch, int64_t nr)
{
    for (int i = 0; i < 2; i++) {
        PyObject *key = Py_BuildValue("(IL)", arch, i ? -1LL : (long long)(int32_t)nr);
        PyObject *found = key ? PyDict_GetItemWithError(guest->handlers, key) : NULL;
        Py_XDECREF(key);
        if (found || PyErr_Occurred())
            return found;
    }
    return NULL;
}

static int take_result(PyObject *given, int64_t *result)
{
    if (!given) {
        if (!PyErr_ExceptionMatches(PyExc_OSError))
            return RAISED;
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        PyObject *number = value ? PyObject_GetAttrString(value, "errno") : NULL;
        long error = number && PyLong_Check(number) ? PyLong_AsLong(number) : 0;
        Py_XDECREF(number);
        if (error <= 0 || error > 4095) {
            PyErr_Restore(type, value, traceback);
            return RAISED;
        }
        PyErr_Clear();
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        *result = -error;
        return FINISHED;
    }
    bool is_none = given == Py_None;
    if (!is_none) {
        // Numbers above 2^63 are addresses.
        *result = (int64_t)PyLong_AsUnsignedLongLongMask(given);
    }
    Py_DECREF(given);
    return PyErr_Occurred() ? RAISED : is_none ? GOES_ON : FINISHED;
}

// The call is done by the personality, or by the kernel where it has no opinion. FINISHED: RESULT is known;
// GOES_ON: the registers are as they should be.
static int do_call(struct thread_object *self, const struct tl_call *data, bool wants_result, int64_t *result)
{
    struct guest_object *guest = guest_of(self);
    PyObject *handler = handler_of(guest, self->core->arch, self->core->nr);
    bool done;

    if (handler) {
        struct tl_call call = *data;
        memcpy(call.args, self->core->args, sizeof call.args);
        PyObject *object = tl_listener_new_call(guest->listener, &call);
        PyObject *given = object ? PyObject_CallFunctionObjArgs(handler, self, object, NULL) : NULL;
        Py_XDECREF(object);
        int what = take_result(given, result);
        if (what == FINISHED && guest->core->is_linux)
            tl_guest_bring(self->core, *result);
        return what;
    }
    if (PyErr_Occurred())
        return RAISED;
    if (!guest->core->is_linux) {
        *result = -ENOSYS;
        return FINISHED;
    }
    if (self->core->notified && !wants_result && !self->core->changed &&
        !tl_guest_has_descriptors(self->core->arch, self->core->nr)) {
        tl_guest_watcher_continue(self->core);
        return GOES_ON;
    }
    Py_BEGIN_ALLOW_THREADS;
    done = tl_guest_perform(self->core, result);
    Py_END_ALLOW_THREADS;
    if (done)
        return FINISHED;
    tl_guest_restart(self->core);
    return GOES_ON;
}

int tl_guest_perform_call(struct tl_guest_thread *thread, int64_t *result)
{
    PyGILState_STATE state = PyGILState_Ensure();
    struct tl_call data = {.id = thread->call_id, .ip = thread->regs[TL_RIP], .arch = thread->arch};
    int error = ENOTSUP;

    data.nr = (int32_t)thread->nr;
    data.tid = thread->host_tid;
    if (innermost && innermost->core == thread) {
        int what = do_call(innermost, &data, true, result);
        error = what == FINISHED ? 0 : EINTR;
        if (what == RAISED)
            PyErr_WriteUnraisable((PyObject *)innermost);
    }
    PyGILState_Release(state);
    return error;
}

// In the middle of a call nothing may be done to the guest but to end it; the rest is done behind the call.
static int on_kick(struct thread_object *self, bool in_call)
{
    if (PyErr_CheckSignals() < 0)
        return RAISED;
    PyObject *result =
        PyObject_CallFunctionObjArgs(guest_of(self)->on_kick, self, in_call ? Py_True : Py_False, NULL);
    if (!result)
        return RAISED;
    Py_DECREF(result);
    return GOES_ON;
}

// Waits for hooks that decide later.
static int await(struct thread_object *self, bool deferred)
{
    bool was_kicked = false;

    while (deferred) {
        enum tl_guest_decision decision;
        Py_BEGIN_ALLOW_THREADS;
        decision = tl_guest_wait(self->core);
        Py_END_ALLOW_THREADS;
        if (decision != TL_GUEST_UNDECIDED)
            break;
        self->core->kicked = 0;
        was_kicked = true;
        if (on_kick(self, true) == RAISED)
            return RAISED;
    }
    if (was_kicked)
        tl_guest_kick(self->core);
    if (self->core->decision == TL_GUEST_UNDECIDED)
        return PyErr_CheckSignals() < 0 ? RAISED : FAILED;
    return self->core->decision == TL_GUEST_KILLED ? KILLED : FINISHED;
}

// Those who want to see the result.
static int show_result(struct thread_object *self, struct tl_call *call, int64_t *result)
{
    tl_guest_call(self->core, call);
    call->returned = true;
    call->result = *result;
    int what = await(self, tl_listener_decide(guest_of(self)->listener, call));
    if (what == FINISHED && self->core->decision == TL_GUEST_REPLY)
        *result = self->core->value;
    return what;
}

static int decide(struct thread_object *self, struct tl_call *call, int64_t *result)
{
    struct guest_object *guest = guest_of(self);
    struct tl_guest_thread *core = self->core;
    uint32_t verdict = guest->program_length ? tl_filter_run(guest->program, guest->program_length, call)
                                             : SECCOMP_RET_ALLOW;
    bool is_hooked = verdict == SECCOMP_RET_USER_NOTIF, has_seen = tl_guest_recall(core);

    if (is_hooked && !has_seen) {
        int what = await(self, tl_listener_decide(guest->listener, call));
        if (what != FINISHED)
            return what;
        if (core->decision == TL_GUEST_REPLY || core->performed) {
            *result = core->value;
            if (core->guest->is_linux)
                tl_guest_bring(core, *result);
            return FINISHED;
        }
    } else if (!is_hooked && (verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO) {
        *result = -(int64_t)(verdict & SECCOMP_RET_DATA);
        return FINISHED;
    }
    bool is_shown = is_hooked && tl_listener_wants_result(guest->listener, call);
    int what = do_call(self, call, is_shown, result);
    if (what == GOES_ON && is_hooked && core->interrupted)
        tl_guest_remember(core);
    if (what == FINISHED && is_shown)
        return show_result(self, call, result);
    return what;
}

// A site that has trapped often: it may be rewritten before its call is done.
static int rewrite(struct thread_object *self)
{
    struct tl_guest_thread *core = self->core;
    uint64_t site = core->hot;

    core->hot = 0;
    PyObject *result = PyObject_CallFunction(guest_of(self)->on_hot, "K", (unsigned long long)site);
    if (!result)
        return RAISED;
    Py_DECREF(result);
    return GOES_ON;
}

static int call_event(struct thread_object *self)
{
    struct tl_call call;
    int64_t result = 0;

    if (self->core->hot && rewrite(self) == RAISED)
        return RAISED;

    tl_guest_call(self->core, &call);
    int what = decide(self, &call, &result);
    tl_guest_end_call(self->core);
    if (what == FINISHED) {
        tl_guest_finish(self->core, result);
        return GOES_ON;
    }
    if (what == GOES_ON)
        self->core->exact = 1;
    return what;
}

static int run_loop(struct thread_object *self)
{
    enum tl_guest_event event;
    int what = GOES_ON;

    while (what == GOES_ON) {
        Py_BEGIN_ALLOW_THREADS;
        event = self->core->watcher ? tl_guest_watch(self->core) : tl_guest_run(self->core);
        Py_END_ALLOW_THREADS;
        switch (event) {
        case TL_GUEST_CALL:
            what = call_event(self);
            break;
        case TL_GUEST_KICKED:
            what = on_kick(self, false);
            break;
        case TL_GUEST_INTERRUPTED:
            what = PyErr_CheckSignals() < 0 ? RAISED : GOES_ON;
            break;
        case TL_GUEST_RETURNED:
            what = FINISHED;
            break;
        default:
            what = FAULTED;
        }
    }
    return what;
}

// attach(): the calling thread is to run it next, and has its tid from here on
static PyObject *thread_attach(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct tl_error *error = tl_guest_attach(as_thread(object)->core);
    if (error)
        return tl_raise(error);
    Py_RETURN_NONE;
}

// detach(): it is not going to be run
static PyObject *thread_detach(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (as_thread(object)->core->attached)
        tl_guest_detach(as_thread(object)->core);
    Py_RETURN_NONE;
}

// run(): 0 it has returned, 1 a fault, 2 a hook has failed, 3 a hook has killed it; it stays attached
static PyObject *thread_run(PyObject *object, PyObject *unused)
{
    struct thread_object *self = as_thread(object), *outer = innermost;

    (void)unused;
    if (self->runs) {
        PyErr_SetString(PyExc_RuntimeError, "this thread of a guest runs already");
        return NULL;
    }
    struct tl_error *error = self->core->attached ? NULL : tl_guest_attach(self->core);
    if (error)
        return tl_raise(error);
    Py_INCREF(object);
    self->runs = true;
    innermost = self;
    int what = run_loop(self);
    innermost = outer;
    self->runs = false;
    Py_DECREF(object);
    return what == RAISED ? NULL : PyLong_FromLong(what);
}

static PyObject *thread_nudge(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_guest_nudge(as_thread(object)->core);
    Py_RETURN_NONE;
}

static PyObject *thread_kick(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_guest_kick(as_thread(object)->core);
    Py_RETURN_NONE;
}

static PyMethodDef thread_methods[] = {
    {"attach", thread_attach, METH_NOARGS, NULL},
    {"detach", thread_detach, METH_NOARGS, NULL},
    {"run", thread_run, METH_NOARGS, NULL},
    {"kick", thread_kick, METH_NOARGS, NULL},
    {"nudge", thread_nudge, METH_NOARGS, NULL},
    {"perform", tl_guest_thread_perform, METH_VARARGS, NULL},
    {"interrupt", tl_guest_thread_interrupt, METH_NOARGS, NULL},
    {"write_memory", tl_guest_thread_write_memory, METH_VARARGS, NULL},
    {"get", tl_guest_thread_get, METH_O, NULL},
    {"set", tl_guest_thread_set, METH_VARARGS, NULL},
    {"copy_from", tl_guest_thread_copy_from, METH_O, NULL},
    {"fault", tl_guest_thread_fault, METH_NOARGS, NULL},
    {"vectors", tl_guest_thread_vectors, METH_NOARGS, NULL},
    {"set_vectors", tl_guest_thread_set_vectors, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot thread_slots[] = {
    {Py_tp_new, thread_new},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_traverse, thread_traverse},
    {Py_tp_clear, thread_clear},
    {Py_tp_methods, thread_methods},
    {Py_tp_getset, tl_guest_thread_getset},
    {0, NULL},
};

static PyType_Spec thread_spec = {
    .name = "trapline._native.GuestThread",
    .basicsize = sizeof(struct thread_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = thread_slots,
};

int tl_guest_thread_add_to(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&thread_spec);
    int result = type ? PyModule_AddObjectRef(module, "GuestThread", type) : -1;

    Py_XDECREF(type);
    return result;
}
