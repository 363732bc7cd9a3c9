// Which hooks are called for which calls: the tables behind _native.Listener.
#include "listener_object.h"

static PyObject *key_of(unsigned arch, int nr)
{
    return Py_BuildValue("(Ii)", arch, nr);
}

static PyObject *find_other(const struct hook_table *table, const struct tl_call *call, bool *deferred)
{
    PyObject *key = key_of(call->arch, call->nr);
    PyObject *entry = key ? PyDict_GetItemWithError(table->others, key) : NULL;

    Py_XDECREF(key);
    PyErr_Clear();
    *deferred = entry && PyTuple_GetItem(entry, 1) == Py_True;
    return entry ? PyTuple_GetItem(entry, 0) : NULL;
}

PyObject *tl_hooks_find(const struct hook_table *table, const struct tl_call *call, bool *deferred)
{
    int arch = tl_arch_index(call->arch);
    PyObject *hooks = NULL;

    if (arch >= 0 && call->nr >= 0 && call->nr < native_calls) {
        hooks = table->hooks[arch][call->nr];
        *deferred = table->deferred[arch][call->nr];
    } else if (table->others) {
        hooks = find_other(table, call, deferred);
    }
    if (!hooks) {
        hooks = table->default_hooks;
        *deferred = table->default_deferred;
    }
    return hooks;
}

static int set_other(struct hook_table *table, unsigned arch, int nr, PyObject *hooks, int deferred)
{
    if (!table->others && !(table->others = PyDict_New()))
        return -1;
    PyObject *key = key_of(arch, nr);
    PyObject *entry = Py_BuildValue("(OO)", hooks, deferred ? Py_True : Py_False);
    int result = key && entry ? PyDict_SetItem(table->others, key, entry) : -1;

    Py_XDECREF(key);
    Py_XDECREF(entry);
    return result;
}

static bool has_hooks(const struct hook_table *table, unsigned arch, int nr)
{
    struct tl_call call = {.arch = arch, .nr = nr};
    bool deferred;

    return nr == -1 ? table->default_hooks : tl_hooks_find(table, &call, &deferred);
}

// An engine that cannot choose reports every call that its filter holds back, before it happens.
void tl_hooks_publish(void *listener, uint32_t arch, int nr)
{
    struct listener_object *self = listener;
    bool before = has_hooks(&self->before, arch, nr), returned = has_hooks(&self->returned, arch, nr);

    tl_rules_wants(self->rules, arch, nr, &before, &returned);
    tl_listener_set_interest(self->core, arch, nr, before, returned);
}

PyObject *tl_hooks_set(PyObject *object, PyObject *args)
{
    struct listener_object *self = as_listener(object);
    PyObject *hooks, *old = NULL;
    unsigned arch_value;
    int nr, deferred, returned;

    if (!PyArg_ParseTuple(args, "IiOpp:set_hooks", &arch_value, &nr, &hooks, &deferred, &returned))
        return NULL;
    if (!PyTuple_Check(hooks)) {
        PyErr_SetString(PyExc_TypeError, "set_hooks: hooks must be a tuple");
        return NULL;
    }
    struct hook_table *table = returned ? &self->returned : &self->before;
    int arch = tl_arch_index(arch_value);
    if (nr == -1) {
        old = table->default_hooks;
        table->default_hooks = Py_NewRef(hooks);
        table->default_deferred = deferred;
    } else if (arch < 0 || nr < 0 || nr >= native_calls) {
        if (set_other(table, arch_value, nr, hooks, deferred) < 0)
            return NULL;
    } else {
        old = table->hooks[arch][nr];
        table->hooks[arch][nr] = Py_NewRef(hooks);
        table->deferred[arch][nr] = deferred;
    }
    Py_XDECREF(old);
    table->used = true;
    tl_hooks_publish(self, arch_value, nr);
    Py_RETURN_NONE;
}

int tl_hooks_traverse(struct hook_table *table, visitproc visit, void *arg)
{
    for (int arch = 0; arch < arch_count; arch++)
        for (int nr = 0; nr < native_calls; nr++)
            Py_VISIT(table->hooks[arch][nr]);
    Py_VISIT(table->default_hooks);
    Py_VISIT(table->others);
    return 0;
}

void tl_hooks_clear(struct hook_table *table)
{
    for (int arch = 0; arch < arch_count; arch++)
        for (int nr = 0; nr < native_calls; nr++)
            Py_CLEAR(table->hooks[arch][nr]);
    Py_CLEAR(table->default_hooks);
    Py_CLEAR(table->others);
}
