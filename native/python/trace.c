// _native.TraceReader and _native.TraceText: recorded files as events, and as lines.
#include "module.h"

#include <stdlib.h>
#include <string.h>

#include "trace_text.h"

enum { written_at_once = 1 << 16 };

// -- events

struct reader_object {
    PyObject_HEAD
    struct tl_trace_reader *reader;
    PyObject *event_type;
};

static PyObject *arguments_of(const struct tl_trace_event *event, unsigned count)
{
    PyObject *args = PyTuple_New(count);

    for (unsigned i = 0; args && i < count; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(tl_trace_argument(event, i));
        if (!value)
            Py_CLEAR(args);
        else
            PyTuple_SetItem(args, i, value);
    }
    return args;
}

// Takes the registers, and with them a piece of the stack: (registers, address, bytes, where code was).
static bool take_stack(const struct tl_trace_event *event, const struct tl_trace_blob *blob,
                       PyObject **registers, PyObject **stack)
{
    if (blob->arg == TL_BLOB_OF_REGISTERS) {
        Py_ssize_t count = blob->size / 8;
        Py_XDECREF(*registers);
        *registers = PyTuple_New(count);
        for (Py_ssize_t i = 0; *registers && i < count; i++) {
            unsigned long long word;
            memcpy(&word, blob->data + 8 * i, sizeof word);
            PyTuple_SetItem(*registers, i, PyLong_FromUnsignedLongLong(word));
        }
        return *registers != NULL;
    }
    if (!*registers || *stack)
        return true;
    PyObject *maps = PyUnicode_DecodeFSDefaultAndSize(event->maps ? event->maps->text : "",
                                                      event->maps ? event->maps->size : 0);
    if (maps)
        *stack = Py_BuildValue("(OKy#N)", *registers, (unsigned long long)blob->address,
                               (const char *)blob->data, (Py_ssize_t)blob->size, maps);
    return *stack != NULL;
}

// [(address, bytes, whether it was read after the call)], and the path and the stack that were kept with it.
static PyObject *memory_of(const struct tl_trace_event *event, PyObject **path, PyObject **stack)
{
    PyObject *registers = NULL;
    PyObject *memory = PyList_New(0);
    struct tl_trace_blob blob;
    uint32_t at = 0;

    while (memory && tl_trace_blob(event, &at, &blob)) {
        if (blob.flags & TL_BLOB_PATH) {
            Py_XDECREF(*path);
            *path = PyUnicode_DecodeFSDefaultAndSize((const char *)blob.data, blob.size);
            if (!*path)
                Py_CLEAR(memory);
            continue;
        }
        if (blob.arg == TL_BLOB_OF_REGISTERS || blob.arg == TL_BLOB_OF_STACK) {
            if (!take_stack(event, &blob, &registers, stack))
                Py_CLEAR(memory);
            continue;
        }
        PyObject *one = Py_BuildValue("(Ky#N)", (unsigned long long)blob.address, (const char *)blob.data,
                                      (Py_ssize_t)blob.size, PyBool_FromLong(blob.flags & TL_BLOB_AFTER));
        if (!one || PyList_Append(memory, one) < 0)
            Py_CLEAR(memory);
        Py_XDECREF(one);
    }
    Py_XDECREF(registers);
    return memory;
}

// Event(kind, pid, tid, start, end, nr, flags, args, result, memory, path, text, stack)
static PyObject *event_new(PyObject *type, const struct tl_trace_event *event)
{
    bool has_record = event->kind == TL_TRACE_CALL || event->kind == TL_TRACE_SIGNAL;
    struct tl_record record = {.nr = -1};
    PyObject *path = NULL, *stack = NULL;

    if (has_record)
        memcpy(&record, event->data, sizeof record);
    PyObject *memory = has_record ? memory_of(event, &path, &stack) : PyList_New(0);
    if (!path && memory)
        path = PyUnicode_FromString("");
    PyObject *text = event->kind == TL_TRACE_BEGUN
                         ? PyUnicode_DecodeFSDefaultAndSize((const char *)event->data, event->size)
                         : PyUnicode_FromString("");
    if (!stack)
        stack = Py_NewRef(Py_None);
    PyObject *result = event->has_result ? PyLong_FromLongLong(event->result) : Py_NewRef(Py_None);
    PyObject *args = arguments_of(event, record.args);
    PyObject *made = NULL;
    if (path && memory && text && result && args)
        made = PyObject_CallFunction(type, "iiiLLiiOOOOOO", event->kind, event->pid, event->tid,
                                     (long long)event->start, (long long)event->end, record.nr, record.flags,
                                     args, result, memory, path, text, stack);
    Py_XDECREF(path);
    Py_XDECREF(memory);
    Py_XDECREF(text);
    Py_XDECREF(stack);
    Py_XDECREF(result);
    Py_XDECREF(args);
    return made;
}

// -- lines

struct text_object {
    PyObject_HEAD
    struct tl_text *text;
    PyObject *event_type, *plan, *named, *line, *write, *path, *learn;
    PyObject *answer; // what was returned last, whose text is in use
    bool is_separate; // each piece of text is of one thread
    int32_t tid;      // whose text is in the buffer, then
};

static PyObject *text_type;

static struct text_object *as_text(PyObject *object)
{
    return (struct text_object *)(void *)object;
}

static struct reader_object *as_reader(PyObject *object)
{
    return (struct reader_object *)(void *)object;
}

// Keeps ANSWER, a str or None, and takes its bytes.
static bool answer(struct text_object *self, PyObject *answer, const char **text, size_t *size)
{
    Py_ssize_t length = 0;
    char *bytes = NULL;

    if (!answer)
        return false;
    Py_CLEAR(self->answer);
    if (answer != Py_None) {
        self->answer = PyUnicode_AsEncodedString(answer, "utf-8", "surrogateescape");
        if (!self->answer || PyBytes_AsStringAndSize(self->answer, &bytes, &length) < 0) {
            Py_DECREF(answer);
            return false;
        }
    }
    Py_DECREF(answer);
    *text = bytes;
    *size = (size_t)length;
    return true;
}

static bool ask_named(void *context, int32_t nr, unsigned index, int64_t value, const char **text,
                      size_t *size)
{
    struct text_object *self = context;

    return answer(self, PyObject_CallFunction(self->named, "iIL", nr, index, (long long)value), text, size);
}

static bool ask_plan(void *context, int32_t nr, struct tl_text_plan *plan)
{
    struct text_object *self = context;
    PyObject *answer = PyObject_CallFunction(self->plan, "i", nr);
    Py_ssize_t size;
    char *bytes;

    if (!answer || PyBytes_AsStringAndSize(answer, &bytes, &size) < 0) {
        Py_XDECREF(answer);
        return false;
    }
    bool is_known = size == 0 || size == sizeof *plan;
    if (is_known)
        memcpy(plan, bytes, (size_t)size);
    else
        PyErr_Format(PyExc_ValueError, "a plan has %zu bytes, not %zd", sizeof *plan, size);
    plan->state = size ? TL_TEXT_PLANNED : TL_TEXT_UNPLANNED;
    Py_DECREF(answer);
    return is_known;
}

static bool ask_line(void *context, const struct tl_trace_event *event, const char **text, size_t *size)
{
    struct text_object *self = context;
    PyObject *made = event_new(self->event_type, event);
    PyObject *line = made ? PyObject_CallFunctionObjArgs(self->line, made, NULL) : NULL;

    Py_XDECREF(made);
    return answer(self, line, text, size);
}

static bool ask_path(void *context, int32_t pid, int64_t fd, const char **text, size_t *size)
{
    struct text_object *self = context;

    return answer(self, PyObject_CallFunction(self->path, "iL", pid, (long long)fd), text, size);
}

static bool tell_learned(void *context, const struct tl_trace_event *event)
{
    struct text_object *self = context;
    PyObject *made = event_new(self->event_type, event);
    PyObject *result = made ? PyObject_CallFunctionObjArgs(self->learn, made, NULL) : NULL;

    Py_XDECREF(made);
    Py_XDECREF(result);
    return result != NULL;
}

static bool write_out(struct text_object *self)
{
    size_t size;
    const char *bytes = tl_text_bytes(self->text, &size);

    if (!size)
        return true;
    PyObject *result = PyObject_CallFunction(self->write, "iy#", self->tid, bytes, (Py_ssize_t)size);
    tl_text_clear(self->text);
    Py_XDECREF(result);
    return result != NULL;
}

static int text_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct text_object *self = as_text(object);

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->event_type);
    Py_VISIT(self->plan);
    Py_VISIT(self->named);
    Py_VISIT(self->line);
    Py_VISIT(self->write);
    Py_VISIT(self->path);
    Py_VISIT(self->learn);
    return 0;
}

static int text_clear(PyObject *object)
{
    struct text_object *self = as_text(object);

    Py_CLEAR(self->event_type);
    Py_CLEAR(self->plan);
    Py_CLEAR(self->named);
    Py_CLEAR(self->line);
    Py_CLEAR(self->write);
    Py_CLEAR(self->path);
    Py_CLEAR(self->learn);
    Py_CLEAR(self->answer);
    return 0;
}

static void text_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(object);
    tl_text_free(as_text(object)->text);
    text_clear(object);
    release(object);
    Py_DECREF(type);
}

// TraceText(limit, column, pids, stamp, durations, paths, keeps, event_type, plan, named, line, write, path,
// learn)
static PyObject *text_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static const struct tl_text_ask ask = {ask_plan, ask_named, ask_line, ask_path, tell_learned};
    struct tl_text_options options = {0};
    PyObject *event_type, *plan, *named, *line, *write, *path, *learn;
    int pids, durations, paths, keeps, stamp;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "IIiipppOOOOOOO:TraceText", &options.limit, &options.column, &pids, &stamp,
                          &durations, &paths, &keeps, &event_type, &plan, &named, &line, &write, &path,
                          &learn))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    if (!object)
        return NULL;
    struct text_object *self = as_text(object);
    self->event_type = Py_NewRef(event_type);
    self->plan = Py_NewRef(plan);
    self->named = Py_NewRef(named);
    self->line = Py_NewRef(line);
    self->write = Py_NewRef(write);
    self->path = Py_NewRef(path);
    self->learn = Py_NewRef(learn);
    options.pids = (enum tl_text_pids)pids;
    self->is_separate = pids == TL_TEXT_NEVER;
    options.durations = durations;
    options.paths = paths;
    options.keeps = keeps;
    options.stamp = (enum tl_text_stamp)stamp;
    self->text = tl_text_new(&options, &ask, self);
    if (!self->text) {
        Py_DECREF(object);
        return PyErr_NoMemory();
    }
    return object;
}

static PyType_Slot text_slots[] = {
    {Py_tp_doc, "Writes events as lines."}, {Py_tp_new, text_new},     {Py_tp_dealloc, text_dealloc},
    {Py_tp_traverse, text_traverse},        {Py_tp_clear, text_clear}, {0, NULL},
};

static PyType_Spec text_spec = {
    .name = "trapline._native.TraceText",
    .basicsize = sizeof(struct text_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = text_slots,
};

// -- the reader

static int reader_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(as_reader(object)->event_type);
    return 0;
}

static int reader_clear(PyObject *object)
{
    Py_CLEAR(as_reader(object)->event_type);
    return 0;
}

static void reader_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(object);
    tl_trace_reader_free(as_reader(object)->reader);
    reader_clear(object);
    release(object);
    Py_DECREF(type);
}

// TraceReader(event_type)
static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *event_type;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "O:TraceReader", &event_type))
        return NULL;
    PyObject *object = PyType_GenericAlloc(type, 0);
    if (!object)
        return NULL;
    as_reader(object)->event_type = Py_NewRef(event_type);
    as_reader(object)->reader = tl_trace_reader_new();
    if (!as_reader(object)->reader) {
        Py_DECREF(object);
        return PyErr_NoMemory();
    }
    return object;
}

static PyObject *reader_feed(PyObject *object, PyObject *data)
{
    Py_ssize_t size;
    char *bytes;

    if (PyBytes_AsStringAndSize(data, &bytes, &size) < 0)
        return NULL;
    if (!tl_trace_feed(as_reader(object)->reader, bytes, (size_t)size))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *reader_give_back(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSize_t(tl_trace_give_back(as_reader(object)->reader));
}

static PyObject *reader_next(PyObject *object, PyObject *everything)
{
    int is_final = PyObject_IsTrue(everything);

    if (is_final < 0)
        return NULL;
    const struct tl_trace_event *event = tl_trace_next(as_reader(object)->reader, is_final);
    return event ? event_new(as_reader(object)->event_type, event) : Py_NewRef(Py_None);
}

static bool tell(struct reader_object *self, const struct tl_trace_event *event, PyObject *function)
{
    PyObject *made = event_new(self->event_type, event);
    PyObject *result = made ? PyObject_CallFunctionObjArgs(function, made, NULL) : NULL;

    Py_XDECREF(made);
    Py_XDECREF(result);
    return result != NULL;
}

// write(everything, text, also)
static PyObject *reader_write(PyObject *object, PyObject *args)
{
    const struct tl_trace_event *event;
    PyObject *target, *also;
    int everything;

    if (!PyArg_ParseTuple(args, "pOO:write", &everything, &target, &also))
        return NULL;
    if (target != Py_None && Py_TYPE(target) != (PyTypeObject *)(void *)text_type)
        return PyErr_Format(PyExc_TypeError, "write() needs a TraceText or None");
    struct text_object *text = target == Py_None ? NULL : as_text(target);
    while ((event = tl_trace_next(as_reader(object)->reader, everything))) {
        size_t size = 0;
        if (text && text->is_separate && text->tid != event->tid) {
            if (!write_out(text))
                return NULL;
            text->tid = event->tid;
        }
        if (text && !tl_text_add(text->text, event))
            return PyErr_Occurred() ? NULL : PyErr_NoMemory();
        if (also != Py_None && !tell(as_reader(object), event, also))
            return NULL;
        if (text)
            tl_text_bytes(text->text, &size);
        if (size >= written_at_once && !write_out(text))
            return NULL;
    }
    if (text && !write_out(text))
        return NULL;
    Py_RETURN_NONE;
}

// counts(): (nr, is i386, outcome, calls, nanoseconds, calls by how long they took) of each that there are
static PyObject *reader_counts(PyObject *object, PyObject *unused)
{
    PyObject *counts = PyList_New(0);

    (void)unused;
    for (unsigned i = 0; counts && i < 2 * tl_trace_calls * tl_trace_outcomes; i++) {
        unsigned outcome = i % tl_trace_outcomes, is_i386 = i / tl_trace_outcomes & 1;
        unsigned nr = i / tl_trace_outcomes / 2;
        const struct tl_trace_count *c =
            tl_trace_counts(as_reader(object)->reader, is_i386, nr, (enum tl_trace_outcome)outcome);
        if (!c->calls)
            continue;
        PyObject *one = Py_BuildValue("(IiiKK(KKKKKK))", nr, is_i386, outcome, c->calls, c->ns, c->bins[0],
                                      c->bins[1], c->bins[2], c->bins[3], c->bins[4], c->bins[5]);
        if (!one || PyList_Append(counts, one) < 0)
            Py_CLEAR(counts);
        Py_XDECREF(one);
    }
    return counts;
}

static PyMethodDef reader_methods[] = {
    {"counts", reader_counts, METH_NOARGS, NULL},       {"feed", reader_feed, METH_O, NULL},
    {"give_back", reader_give_back, METH_NOARGS, NULL}, {"next", reader_next, METH_O, NULL},
    {"write", reader_write, METH_VARARGS, NULL},        {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "Reads a recorded file piece by piece."},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "trapline._native.TraceReader",
    .basicsize = sizeof(struct reader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};

int tl_trace_add_to(PyObject *module)
{
    PyObject *reader_type = PyType_FromSpec(&reader_spec);

    text_type = PyType_FromSpec(&text_spec);
    if (!reader_type || !text_type || PyModule_AddObjectRef(module, "TraceText", text_type) < 0)
        return -1;
    int failure = PyModule_AddObjectRef(module, "TraceReader", reader_type);
    Py_DECREF(reader_type);
    return failure;
}
