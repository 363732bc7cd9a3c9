// From a call that the core delivers to the hooks, and back to an answer.
#include "listener_object.h"

#include <errno.h>
#include <pthread.h>

#include "vdso.h"

// PY_VECTORCALL_ARGUMENTS_OFFSET: the callee may use the slot before the arguments.
static const size_t room_in_front = (size_t)1 << (8 * sizeof(size_t) - 1);

// What a hook that raised means for its call.
static void hook_failed(struct listener_object *self, PyObject *call)
{
    PyObject *type, *value, *traceback;
    long verdict = -1;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (PyErr_GivenExceptionMatches(type, tl_call_gone_error)) {
        // The caller was killed or interrupted while its hook ran: there is nobody to answer.
        tl_listener_note_gone(self->core);
    } else {
        if (traceback)
            PyException_SetTraceback(value, traceback);
        PyObject *result = PyObject_CallFunctionObjArgs(self->on_error, call, value, NULL);
        if (result)
            verdict = PyLong_AsLong(result);
        Py_XDECREF(result);
        if (PyErr_Occurred())
            PyErr_WriteUnraisable(call);
        if (verdict >= 0) {
            tl_call_override(call, (int)verdict);
            tl_call_answer(call, NULL);
        }
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

// In the stable ABI since 3.12, and the same function in 3.11: the variadic call costs half as much again.
PyObject *PyObject_Vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);

// True: hooks for the result have to decide *RETURNED next.
static bool run_hooks(struct listener_object *self, PyObject *hooks, PyObject *call, struct tl_call *returned)
{
    Py_ssize_t count = PyTuple_Size(hooks);

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *arguments[2] = {NULL, call};
        PyObject *result =
            PyObject_Vectorcall(PyTuple_GetItem(hooks, i), arguments + 1, 1 | room_in_front, NULL);
        int decided = result ? tl_call_check_result(call, result) : -1;
        Py_XDECREF(result);
        if (decided < 0) {
            hook_failed(self, call);
            return false;
        }
        if (decided)
            break;
    }
    return tl_call_answer(call, returned);
}

bool tl_listener_wants_result(PyObject *listener, const struct tl_call *call)
{
    bool deferred;

    return as_listener(listener)->returned.used &&
           tl_hooks_find(&as_listener(listener)->returned, call, &deferred);
}

static bool is_met(const struct listener_object *self, const struct tl_call *call)
{
    int arch = tl_arch_index(call->arch);

    return arch >= 0 && call->nr >= 0 && call->nr < native_calls && self->meets[arch][call->nr];
}

void tl_listener_let_go_on(PyObject *listener, const struct tl_call *call)
{
    struct listener_object *self = as_listener(listener);

    if (!is_met(self, call)) {
        tl_listener_continue(self->core, call->id);
        return;
    }
    int error;
    Py_BEGIN_ALLOW_THREADS;
    error = tl_vdso_hide_at_exec(self->core, call, self->command);
    Py_END_ALLOW_THREADS;
    if (!error)
        return;
    PyObject *result = PyObject_CallFunction(self->on_unhidden, "i", error);
    if (!result)
        PyErr_WriteUnraisable(self->on_unhidden);
    Py_XDECREF(result);
}

static void count_other(struct listener_object *self, const struct tl_call *data)
{
    PyObject *key = Py_BuildValue("(Ii)", data->arch, data->nr);
    PyObject *count = key ? PyDict_GetItemWithError(self->other_counts, key) : NULL;
    PyObject *next = PyLong_FromUnsignedLongLong((count ? PyLong_AsUnsignedLongLong(count) : 0) + 1);

    if (key && next)
        PyDict_SetItem(self->other_counts, key, next);
    Py_XDECREF(next);
    Py_XDECREF(key);
    PyErr_Clear();
}

// Each call once: when it returns only if no hook was told of it before.
static void count(struct listener_object *self, const struct tl_call *data)
{
    int arch = tl_arch_index(data->arch);
    bool deferred;

    if (data->returned && !data->ruled && (data->emulated || tl_hooks_find(&self->before, data, &deferred)))
        return;
    if (arch >= 0 && data->nr >= 0 && data->nr < native_calls)
        self->counts[arch][data->nr]++;
    else
        count_other(self, data);
}

static void let_go_on(struct listener_object *self, const struct tl_call *data)
{
    if (data->emulated)
        tl_listener_reply(self->core, data->id, data->result, 0);
    else
        tl_listener_let_go_on((PyObject *)self, data);
}

// True: a hook that decides later has the call.
static bool handle(struct listener_object *self, const struct tl_call *data)
{
    struct tl_call returned;
    bool deferred, again = false;
    PyObject *hooks = tl_hooks_find(data->returned ? &self->returned : &self->before, data, &deferred);

    if (!hooks) {
        let_go_on(self, data);
        return false;
    }
    count(self, data);
    Py_INCREF(hooks);
    PyObject *call = self->spare;
    self->spare = NULL;
    if (call)
        tl_call_reuse(call, (PyObject *)self, data);
    else
        call = tl_call_new(self->call_type, (PyObject *)self, data);
    if (!call) {
        PyErr_Clear();
        tl_listener_reply(self->core, data->id, 0, ENOMEM);
    } else if (deferred) {
        PyObject *result = PyObject_CallFunctionObjArgs(self->defer, call, hooks, NULL);
        if (!result)
            hook_failed(self, call);
        Py_XDECREF(result);
    } else {
        again = run_hooks(self, hooks, call, &returned);
    }
    if (call && !self->spare && tl_call_retire(call))
        self->spare = call;
    else
        Py_XDECREF(call);
    Py_DECREF(hooks);
    return again ? handle(self, &returned) : deferred;
}

PyObject *tl_listener_new_call(PyObject *listener, const struct tl_call *call)
{
    return tl_call_new(as_listener(listener)->call_type, listener, call);
}

bool tl_listener_decide(PyObject *listener, struct tl_call *call)
{
    struct listener_object *self = as_listener(listener);
    bool is_decided;

    if (self->rules) {
        Py_BEGIN_ALLOW_THREADS;
        is_decided = tl_rules_apply(self->rules, self->core, call, self->returned.used);
        Py_END_ALLOW_THREADS;
        if (is_decided)
            return false;
    }
    return handle(self, call);
}

static void *worker_main(void *argument)
{
    struct listener_object *self = argument;
    struct tl_call call;

    tl_listener_enter(self->core);
    PyGILState_STATE state = PyGILState_Ensure();
    PyThreadState *thread = PyEval_SaveThread();
    while (tl_listener_next(self->core, &call)) {
        if (self->rules && tl_rules_apply(self->rules, self->core, &call, self->returned.used))
            continue;
        PyEval_RestoreThread(thread);
        handle(self, &call);
        thread = PyEval_SaveThread();
    }
    PyEval_RestoreThread(thread);
    if (tl_listener_leave(self->core))
        Py_DECREF((PyObject *)self); // the one that listener_start took
    PyGILState_Release(state);
    return NULL;
}

bool tl_listener_start_worker(void *context)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &attributes, worker_main, context) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}
