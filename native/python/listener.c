// _native.Listener: worker threads that take calls from the core, apply the rules, and call the hooks.
#include "listener_object.h"

#include <string.h>

struct tl_listener *tl_listener_core(PyObject *listener)
{
    return as_listener(listener)->core;
}

static int parse_places(PyObject *described, struct tl_path_places *places)
{
    Py_ssize_t count = PyTuple_Check(described) ? PyTuple_Size(described) : -1;

    if (count < 0 || count > TL_MOST_PATHS) {
        PyErr_SetString(PyExc_ValueError, "describe: no tuple of at most three places");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        int nullable;
        if (!PyArg_ParseTuple(PyTuple_GetItem(described, i), "iiikp:describe", &places->place[i].path,
                              &places->place[i].dirfd, &places->place[i].empty_arg,
                              &places->place[i].empty_mask, &nullable))
            return -1;
        places->place[i].nullable = nullable;
    }
    places->count = (int)count;
    places->known = true;
    return 0;
}

const struct tl_path_places *tl_listener_path_places(PyObject *listener, const struct tl_call *call)
{
    static const struct tl_path_places none = {.known = true};
    struct listener_object *self = as_listener(listener);
    int arch = tl_arch_index(call->arch);

    if (arch < 0 || call->nr < 0 || call->nr >= native_calls)
        return &none;
    if (!self->paths[arch])
        self->paths[arch] = PyMem_Calloc(native_calls, sizeof **self->paths);
    if (!self->paths[arch]) {
        PyErr_NoMemory();
        return NULL;
    }
    struct tl_path_places *places = &self->paths[arch][call->nr];
    if (!places->known) {
        PyObject *described = PyObject_CallFunction(self->describe, "Ii", call->arch, call->nr);
        int failed = !described || parse_places(described, places) < 0;
        Py_XDECREF(described);
        if (failed)
            return NULL;
    }
    return places;
}

// Session, engine and listener refer to each other, so the collector has to see through this one.
static int listener_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct listener_object *self = as_listener(object);

    Py_VISIT(Py_TYPE(object));
    int stop = tl_hooks_traverse(&self->before, visit, arg);
    stop = stop ? stop : tl_hooks_traverse(&self->returned, visit, arg);
    if (stop)
        return stop;
    Py_VISIT(self->other_counts);
    Py_VISIT(self->call_type);
    Py_VISIT(self->spare);
    Py_VISIT(self->on_error);
    Py_VISIT(self->defer);
    Py_VISIT(self->describe);
    Py_VISIT(self->on_unhidden);
    return 0;
}

static int listener_clear(PyObject *object)
{
    struct listener_object *self = as_listener(object);

    tl_hooks_clear(&self->before);
    tl_hooks_clear(&self->returned);
    Py_CLEAR(self->other_counts);
    Py_CLEAR(self->call_type);
    Py_CLEAR(self->spare);
    Py_CLEAR(self->on_error);
    Py_CLEAR(self->defer);
    Py_CLEAR(self->describe);
    Py_CLEAR(self->on_unhidden);
    return 0;
}

static void listener_dealloc(PyObject *object)
{
    struct listener_object *self = as_listener(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(object);
    Py_BEGIN_ALLOW_THREADS;
    tl_listener_free(self->core);
    Py_END_ALLOW_THREADS;
    tl_rules_free(self->rules);
    listener_clear(object);
    for (int arch = 0; arch < arch_count; arch++)
        PyMem_Free(self->paths[arch]);
    release(object);
    Py_DECREF(type);
}

// Listener(transport, workers, call_type, on_error, defer, describe): owns the transport from here on.
static PyObject *listener_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *capsule, *call_type, *on_error, *defer, *describe;
    struct tl_error *error;
    unsigned workers;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "OIOOOO:Listener", &capsule, &workers, &call_type, &on_error, &defer,
                          &describe))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    struct tl_transport *transport = object ? tl_transport_take(capsule) : NULL;
    if (!transport) {
        Py_XDECREF(object);
        return NULL;
    }
    struct listener_object *self = as_listener(object);
    error = tl_listener_new(transport, workers, tl_listener_start_worker, self, &self->core);
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    self->other_counts = PyDict_New();
    if (!self->other_counts) {
        Py_DECREF(object);
        return NULL;
    }
    self->call_type = Py_NewRef(call_type);
    self->on_error = Py_NewRef(on_error);
    self->defer = Py_NewRef(defer);
    self->describe = Py_NewRef(describe);
    return object;
}

static int parse_target(PyObject *item, struct tl_rule_target *target)
{
    int path0, path1, dirfd0, dirfd1, fds, size;

    if (!PyArg_ParseTuple(item, "Iiiiiiiii:add_rule", &target->arch, &target->nr, &target->subcall, &path0,
                          &dirfd0, &path1, &dirfd1, &fds, &size))
        return -1;
    if (path0 > 5 || path1 > 5 || dirfd0 > 5 || dirfd1 > 5) {
        PyErr_SetString(PyExc_ValueError, "add_rule: a call has six arguments");
        return -1;
    }
    target->fds = (uint8_t)fds;
    target->size = (int8_t)size;
    target->path[0] = (int8_t)path0;
    target->path[1] = (int8_t)path1;
    target->dirfd[0] = (int8_t)dirfd0;
    target->dirfd[1] = (int8_t)dirfd1;
    return 0;
}

static int parse_targets(PyObject *targets, struct tl_rule_target *array)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(targets); i++)
        if (parse_target(PyTuple_GetItem(targets, i), &array[i]) < 0)
            return -1;
    return 0;
}

// add_rule(glob or None, (first, last, step), (misses, seed), delay_enter_ns, delay_exit_ns, action, value,
// targets, struct tl_rule_more, pokes); see agent/rule.h and core/rules.h. Before the hooks are set.
static PyObject *listener_add_rule(PyObject *object, PyObject *args)
{
    struct listener_object *self = as_listener(object);
    unsigned long long first, last, step, misses, seed, delay_enter, delay_exit;
    struct tl_error *error = NULL;
    PyObject *targets;
    const char *glob, *more, *pokes;
    Py_ssize_t more_size, pokes_size;
    long long value;
    int action;

    if (!PyArg_ParseTuple(args, "z(KKK)(KK)KKiLO!y#y#:add_rule", &glob, &first, &last, &step, &misses, &seed,
                          &delay_enter, &delay_exit, &action, &value, &PyTuple_Type, &targets, &more,
                          &more_size, &pokes, &pokes_size))
        return NULL;
    struct tl_rule rule = {
        first, last, step, misses, seed, delay_enter, delay_exit, value, (uint32_t)action, 0, {0},
    };
    if ((size_t)more_size != sizeof rule.more) {
        PyErr_SetString(PyExc_ValueError, "add_rule: struct tl_rule_more has another size");
        return NULL;
    }
    memcpy(&rule.more, more, sizeof rule.more);
    Py_ssize_t count = PyTuple_Size(targets);
    struct tl_rule_target *array = PyMem_Calloc((size_t)count + 1, sizeof *array);
    if (!array)
        return PyErr_NoMemory();
    if (parse_targets(targets, array) < 0) {
        PyMem_Free(array);
        return NULL;
    }
    if (!self->rules)
        error = tl_rules_new(tl_listener_rule_table(self->core), &self->rules);
    if (!error)
        error = tl_rules_add(self->rules, &rule, glob, array, (unsigned)count, pokes, (size_t)pokes_size);
    PyMem_Free(array);
    if (error)
        return tl_raise(error);
    Py_RETURN_NONE;
}

static PyObject *listener_start(PyObject *object, PyObject *unused)
{
    struct listener_object *self = as_listener(object);
    struct tl_error *error;

    (void)unused;
    tl_rules_each(self->rules, tl_hooks_publish, self);
    Py_INCREF(object); // for the workers
    Py_BEGIN_ALLOW_THREADS;
    error = tl_listener_start(self->core);
    Py_END_ALLOW_THREADS;
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    Py_RETURN_NONE;
}

static PyObject *listener_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS;
    tl_listener_close(as_listener(object)->core);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

static PyObject *listener_wait_idle(PyObject *object, PyObject *args)
{
    unsigned milliseconds;
    bool idle;

    if (!PyArg_ParseTuple(args, "I:wait_idle", &milliseconds))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    idle = tl_listener_wait_idle(as_listener(object)->core, milliseconds);
    Py_END_ALLOW_THREADS;
    return PyBool_FromLong(idle);
}

// (received, replied, gone, workers, most_waiting, failure)
static PyObject *listener_counts(PyObject *object, PyObject *unused)
{
    struct tl_listener_counts c = tl_listener_counts(as_listener(object)->core);

    (void)unused;
    return Py_BuildValue("(KKKIIi)", (unsigned long long)c.received, (unsigned long long)c.replied,
                         (unsigned long long)c.gone, c.workers, c.most_waiting, c.failure);
}

// rule_hits(): (how many there were, [(rule, pid, tid, arch, nr, number), ...]), of the rules that log.
static PyObject *listener_rule_hits(PyObject *object, PyObject *unused)
{
    struct listener_object *self = as_listener(object);
    PyObject *list = PyList_New(0);

    (void)unused;
    if (!list || !self->rules)
        return Py_BuildValue("(KN)", 0ULL, list);
    const struct tl_rule_table *table = tl_rules_table(self->rules);
    uint64_t count = __atomic_load_n(&table->hit_count, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i < count && i < tl_rule_hits_max; i++) {
        const struct tl_rule_hit *hit = &table->hits[i];
        if (!__atomic_load_n(&hit->written, __ATOMIC_ACQUIRE))
            continue;
        PyObject *one = Py_BuildValue("(IiiIiK)", hit->rule, (int)hit->pid, (int)hit->tid, hit->arch,
                                      (int)hit->nr, (unsigned long long)hit->number);
        if (!one || PyList_Append(list, one) < 0) {
            Py_XDECREF(one);
            Py_DECREF(list);
            return NULL;
        }
        Py_DECREF(one);
    }
    return Py_BuildValue("(KN)", (unsigned long long)count, list);
}

static PyObject *listener_rule_count(PyObject *object, PyObject *argument)
{
    unsigned long index = PyLong_AsUnsignedLong(argument);

    if (PyErr_Occurred())
        return NULL;
    struct tl_rules *rules = as_listener(object)->rules;
    return PyLong_FromUnsignedLongLong(rules ? tl_rules_count(rules, (unsigned)index) : 0);
}

// {(audit_arch, nr): how many calls reached the hooks}
static PyObject *listener_call_counts(PyObject *object, PyObject *unused)
{
    struct listener_object *self = as_listener(object);
    PyObject *counts = PyDict_Copy(self->other_counts);

    (void)unused;
    for (int arch = 0; counts && arch < arch_count; arch++) {
        for (int nr = 0; nr < native_calls; nr++) {
            if (!self->counts[arch][nr])
                continue;
            PyObject *key = Py_BuildValue("(Ii)", tl_arches[arch], nr);
            PyObject *value = PyLong_FromUnsignedLongLong(self->counts[arch][nr]);
            int failed = !key || !value || PyDict_SetItem(counts, key, value) < 0;
            Py_XDECREF(key);
            Py_XDECREF(value);
            if (failed)
                Py_CLEAR(counts);
            if (failed)
                return NULL;
        }
    }
    return counts;
}

// meet_exec(audit_arch, nr, command, on_unhidden): new programs lose their vDSO; on_unhidden(errno) when one
// does not.
static PyObject *listener_meet_exec(PyObject *object, PyObject *args)
{
    struct listener_object *self = as_listener(object);
    PyObject *on_unhidden, *old = self->on_unhidden;
    unsigned arch_value;
    int nr, command;

    if (!PyArg_ParseTuple(args, "IiiO:meet_exec", &arch_value, &nr, &command, &on_unhidden))
        return NULL;
    int arch = tl_arch_index(arch_value);
    if (arch < 0 || nr < 0 || nr >= native_calls)
        return PyErr_Format(PyExc_ValueError, "meet_exec: no call %d of arch %x", nr, arch_value);
    self->on_unhidden = Py_NewRef(on_unhidden);
    Py_XDECREF(old);
    self->meets[arch][nr] = true;
    self->command = command;
    Py_RETURN_NONE;
}

static PyObject *get_fd(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLong(tl_listener_fd(as_listener(object)->core));
}

static PyGetSetDef listener_getset[] = {
    {"fd", get_fd, NULL, NULL, NULL},
};

static PyMethodDef listener_methods[] = {
    {"set_hooks", tl_hooks_set, METH_VARARGS, NULL},
    {"meet_exec", listener_meet_exec, METH_VARARGS, NULL},
    {"add_rule", listener_add_rule, METH_VARARGS, NULL},
    {"rule_hits", listener_rule_hits, METH_NOARGS, NULL},
    {"rule_count", listener_rule_count, METH_O, NULL},
    {"start", listener_start, METH_NOARGS, NULL},
    {"close", listener_close, METH_NOARGS, NULL},
    {"wait_idle", listener_wait_idle, METH_VARARGS, NULL},
    {"counts", listener_counts, METH_NOARGS, NULL},
    {"call_counts", listener_call_counts, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot listener_slots[] = {
    {Py_tp_new, listener_new},
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_methods, listener_methods},
    {Py_tp_traverse, listener_traverse},
    {Py_tp_clear, listener_clear},
    {Py_tp_getset, listener_getset},
    {0, NULL},
};

static PyType_Spec listener_spec = {
    .name = "trapline._native.Listener",
    .basicsize = sizeof(struct listener_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = listener_slots,
};

int tl_listener_add_to(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&listener_spec);
    int result = type ? PyModule_AddObjectRef(module, "Listener", type) : -1;

    Py_XDECREF(type);
    return result;
}
