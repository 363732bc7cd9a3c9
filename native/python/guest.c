// _native.Guest: what the threads of one guest share.
#include "guest_object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

PyObject *tl_guest_type;

static void guest_dealloc(PyObject *object)
{
    struct guest_object *self = as_guest(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(object);
    tl_guest_free(self->core);
    PyMem_Free(self->program);
    Py_XDECREF(self->listener);
    Py_XDECREF(self->handlers);
    Py_XDECREF(self->on_kick);
    Py_XDECREF(self->on_hot);
    release(object);
    Py_DECREF(type);
}

static int guest_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct guest_object *self = as_guest(object);

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->listener);
    Py_VISIT(self->handlers);
    Py_VISIT(self->on_kick);
    Py_VISIT(self->on_hot);
    return 0;
}

static int guest_clear(PyObject *object)
{
    struct guest_object *self = as_guest(object);

    Py_CLEAR(self->listener);
    Py_CLEAR(self->handlers);
    Py_CLEAR(self->on_kick);
    Py_CLEAR(self->on_hot);
    return 0;
}

// Guest(engine, rewrites, handlers, on_kick, on_hot): handlers {(audit_arch, nr or -1): what does the call};
// on_kick(thread) is called after a kick, and what it raises ends the run; on_hot(site) may rewrite it.
static PyObject *guest_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *handlers, *on_kick, *on_hot;
    int engine, rewrites;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "ipO!OO:Guest", &engine, &rewrites, &PyDict_Type, &handlers, &on_kick,
                          &on_hot))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    if (!object)
        return NULL;
    struct tl_error *error = tl_guest_new((enum tl_guest_engine)engine, rewrites, &as_guest(object)->core);
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    as_guest(object)->core->perform = tl_guest_perform_call;
    as_guest(object)->handlers = Py_NewRef(handlers);
    as_guest(object)->on_kick = Py_NewRef(on_kick);
    as_guest(object)->on_hot = Py_NewRef(on_hot);
    return object;
}

// transport(): for the listener.
static PyObject *guest_transport(PyObject *object, PyObject *unused)
{
    struct tl_transport *transport = tl_guest_transport_new();

    (void)object;
    (void)unused;
    return transport ? tl_transport_wrap(transport) : PyErr_NoMemory();
}

// set_listener(listener, program): who decides calls, and the filter that says which.
static PyObject *guest_set_listener(PyObject *object, PyObject *args)
{
    struct guest_object *self = as_guest(object);
    PyObject *listener;
    const char *program;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(args, "Oy#:set_listener", &listener, &program, &size))
        return NULL;
    self->program = PyMem_Malloc((size_t)size + 1);
    if (!self->program)
        return PyErr_NoMemory();
    memcpy(self->program, program, (size_t)size);
    self->program_length = (unsigned)((size_t)size / sizeof *self->program);
    Py_XDECREF(self->listener);
    self->listener = Py_NewRef(listener);
    Py_RETURN_NONE;
}

// set_ranges(((start, end), ...), selects): where its code is.
static PyObject *guest_set_ranges(PyObject *object, PyObject *args)
{
    struct tl_guest *core = as_guest(object)->core;
    PyObject *ranges;
    int selects;

    if (!PyArg_ParseTuple(args, "O!p:set_ranges", &PyTuple_Type, &ranges, &selects))
        return NULL;
    Py_ssize_t count = PyTuple_Size(ranges);
    if (count < 1 || count > tl_guest_ranges)
        return PyErr_Format(PyExc_ValueError, "set_ranges: 1 to %d ranges, not %zd", tl_guest_ranges, count);
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long long start, end;
        if (!PyArg_ParseTuple(PyTuple_GetItem(ranges, i), "KK:set_ranges", &start, &end))
            return NULL;
        core->ranges[i] = (struct tl_guest_range){start, end};
    }
    core->range_count = (uint32_t)count;
    core->selects = selects;
    Py_RETURN_NONE;
}

// rearm(): threads take notice of other ranges when they enter the guest next
static PyObject *guest_rearm(PyObject *object, PyObject *unused)
{
    (void)unused;
    __atomic_add_fetch(&as_guest(object)->core->generation, 1, __ATOMIC_RELEASE);
    Py_RETURN_NONE;
}

// set_catching(program, later): the filter of the engines that use one; LATER is for threads that run
// already.
static PyObject *guest_set_catching(PyObject *object, PyObject *args)
{
    struct tl_guest *core = as_guest(object)->core;
    const char *program;
    Py_ssize_t size;
    int later;

    if (!PyArg_ParseTuple(args, "y#p:set_catching", &program, &size, &later))
        return NULL;
    struct sock_fprog *at = later ? &core->later : &core->catching;
    if (at->filter && core->retired_count == tl_guest_ranges)
        return tl_raise_errno(ENOSPC);
    void *copy = malloc((size_t)size);
    if (!copy)
        return PyErr_NoMemory();
    memcpy(copy, program, (size_t)size);
    if (at->filter)
        core->retired[core->retired_count++] = at->filter;
    *at = (struct sock_fprog){(unsigned short)((size_t)size / sizeof(struct sock_filter)), copy};
    return Py_NewRef(Py_None);
}

// set_convention(number, (six arguments), result, carry_is_error): positions of registers.
static PyObject *guest_set_convention(PyObject *object, PyObject *args)
{
    struct tl_guest *core = as_guest(object)->core;
    unsigned char number, a[6], result;
    int carry;

    if (!PyArg_ParseTuple(args, "b(bbbbbb)bp:set_convention", &number, &a[0], &a[1], &a[2], &a[3], &a[4],
                          &a[5], &result, &carry))
        return NULL;
    core->convention = (struct tl_guest_convention){number, {0}, result, carry};
    memcpy(core->convention.args, a, sizeof a);
    core->is_linux = false;
    Py_RETURN_NONE;
}

// classify(class, numbers or None): None is all.
static PyObject *guest_classify(PyObject *object, PyObject *args)
{
    struct tl_guest *core = as_guest(object)->core;
    PyObject *numbers;
    int class;

    if (!PyArg_ParseTuple(args, "iO:classify", &class, &numbers))
        return NULL;
    if (numbers == Py_None) {
        memset(core->classes, class, 65536);
        Py_RETURN_NONE;
    }
    PyObject *iterator = PyObject_GetIter(numbers), *item;
    while (iterator && (item = PyIter_Next(iterator))) {
        unsigned long nr = PyLong_AsUnsignedLong(item);
        Py_DECREF(item);
        if (!PyErr_Occurred() && nr < 65536)
            core->classes[nr] = (uint8_t)class;
    }
    Py_XDECREF(iterator);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

// own_files(): its table of descriptors is a copy, of which only the listeners are kept.
static PyObject *guest_own_files(PyObject *object, PyObject *unused)
{
    (void)unused;
    as_guest(object)->core->owns_files = true;
    Py_RETURN_NONE;
}

// close_descriptors(): those that its calls have brought and that are still there.
static PyObject *guest_close_descriptors(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS;
    tl_guest_close_descriptors(as_guest(object)->core);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

static PyObject *guest_set_constant(PyObject *object, PyObject *args)
{
    struct tl_guest *core = as_guest(object)->core;
    unsigned nr;
    long long value;

    if (!PyArg_ParseTuple(args, "IL:set_constant", &nr, &value))
        return NULL;
    if (nr >= tl_calls)
        return PyErr_Format(PyExc_ValueError, "set_constant: no call %u", nr);
    core->constants[nr] = value;
    core->classes[nr] = TL_CONSTANT;
    Py_RETURN_NONE;
}

// add_patch(site, gate) -> its number, for the gate.
static PyObject *guest_add_patch(PyObject *object, PyObject *args)
{
    struct tl_guest *core = as_guest(object)->core;
    unsigned long long site, gate;

    if (!PyArg_ParseTuple(args, "KK:add_patch", &site, &gate))
        return NULL;
    if (core->patch_count == tl_guest_patches)
        return tl_raise_errno(ENOSPC);
    core->patches[core->patch_count] = (struct tl_guest_patch){site, gate};
    return PyLong_FromUnsignedLong(core->patch_count++);
}

static PyObject *get_region(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong((uint64_t)as_guest(object)->core->region);
}

static PyObject *get_bell(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(as_guest(object)->core->bell);
}

static PyObject *get_passed(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(as_guest(object)->core->passed);
}

static PyGetSetDef guest_getset[] = {
    {"region", get_region, NULL, "Where the gates of rewritten sites go.", NULL},
    {"bell", get_bell, NULL, "An instruction that the filter of notify has to catch.", NULL},
    {"passed", get_passed, NULL, "Calls that went straight to the kernel, those of rewritten sites apart.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef guest_methods[] = {
    {"transport", guest_transport, METH_NOARGS, NULL},
    {"set_listener", guest_set_listener, METH_VARARGS, NULL},
    {"set_ranges", guest_set_ranges, METH_VARARGS, NULL},
    {"rearm", guest_rearm, METH_NOARGS, NULL},
    {"set_catching", guest_set_catching, METH_VARARGS, NULL},
    {"set_convention", guest_set_convention, METH_VARARGS, NULL},
    {"classify", guest_classify, METH_VARARGS, NULL},
    {"own_files", guest_own_files, METH_NOARGS, NULL},
    {"close_descriptors", guest_close_descriptors, METH_NOARGS, NULL},
    {"set_constant", guest_set_constant, METH_VARARGS, NULL},
    {"add_patch", guest_add_patch, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot guest_slots[] = {
    {Py_tp_new, guest_new},
    {Py_tp_dealloc, guest_dealloc},
    {Py_tp_traverse, guest_traverse},
    {Py_tp_clear, guest_clear},
    {Py_tp_methods, guest_methods},
    {Py_tp_getset, guest_getset},
    {0, NULL},
};

static PyType_Spec guest_spec = {
    .name = "trapline._native.Guest",
    .basicsize = sizeof(struct guest_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = guest_slots,
};

int tl_guest_add_to(PyObject *module)
{
    tl_guest_type = PyType_FromSpec(&guest_spec);
    if (!tl_guest_type || PyModule_AddObjectRef(module, "Guest", tl_guest_type) < 0)
        return -1;
    return tl_guest_thread_add_to(module) < 0 ? -1 : tl_guest_memory_add_to(module);
}
