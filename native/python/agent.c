// _native.Agent: the session of an in-process engine, as its supervisor sees it.
#include "module.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "capture.h"
#include "spawn.h"

enum { i386 = 0x40000003 }; // AUDIT_ARCH_I386

struct agent_object {
    PyObject_HEAD
    struct tl_agent agent;
    struct tl_transport *transport;   // owned by its listener
    struct tl_capture_reader *reader; // copies what agents record, or NULL
    pid_t attached;                   // to this process, or 0
    struct tl_attachment *held;       // its threads, until begin()
    PyObject *on_unhooked;            // (pid, reason, errno, name): a program runs without hooks
};

static struct agent_object *as_agent(PyObject *object)
{
    return (struct agent_object *)(void *)object;
}

static void agent_dealloc(PyObject *object)
{
    struct agent_object *self = as_agent(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    tl_capture_free(self->reader);
    if (self->held)
        tl_agent_go(self->held);
    // Who forgets to let go of a process does not leave it without anybody to answer.
    if (self->attached && self->agent.socket >= 0 && self->agent.session->supervisor == getpid())
        tl_agent_detach(&self->agent, self->attached);
    tl_agent_free(&self->agent);
    Py_XDECREF(self->on_unhooked);
    release(object);
    Py_DECREF(type);
}

static void unhooked(void *context, pid_t pid, enum tl_unhooked reason, int error, const char *name)
{
    struct agent_object *self = context;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunction(self->on_unhooked, "iiiy", (int)pid, (int)reason, error, name);

    if (!result)
        PyErr_WriteUnraisable(self->on_unhooked);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

// Agent(flags, threshold, hide_vdso, program, on_unhooked)
static PyObject *agent_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *on_unhooked;
    const char *program;
    Py_ssize_t size;
    unsigned flags, threshold;
    int hide_vdso;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "IIpy#O:Agent", &flags, &threshold, &hide_vdso, &program, &size,
                          &on_unhooked))
        return NULL;
    if ((size_t)size > sizeof(struct tl_bpf) * tl_bpf_max) {
        PyErr_SetString(PyExc_ValueError, "Agent: the program is too long");
        return NULL;
    }
    PyObject *object = PyType_GenericAlloc(type, 0);
    if (!object)
        return NULL;
    struct agent_object *self = as_agent(object);
    struct tl_error *error = tl_agent_new(&self->agent);
    if (error) {
        Py_DECREF(object);
        return tl_raise(error);
    }
    self->on_unhooked = Py_NewRef(on_unhooked);
    struct tl_session *session = self->agent.session;
    session->flags = flags;
    if (flags & TL_ENGINE_TRAP)
        tl_agent_fix_place(&self->agent);
    session->threshold = threshold;
    session->hide_vdso = (uint32_t)hide_vdso;
    session->program_length = (uint32_t)((size_t)size / sizeof(struct tl_bpf));
    memcpy(session->program, program, (size_t)size);
    return object;
}

static PyObject *agent_transport(PyObject *object, PyObject *unused)
{
    struct agent_object *self = as_agent(object);
    const struct tl_agent_events events = {unhooked, self};

    (void)unused;
    struct tl_error *error = tl_agent_transport_new(&self->agent, &events, &self->transport);
    if (error)
        return tl_raise(error);
    tl_agent_transport_set_command(self->transport, self->attached);
    return tl_transport_wrap(self->transport);
}

// classify(class, numbers): how calls are treated; None means all.
static PyObject *agent_classify(PyObject *object, PyObject *args)
{
    uint8_t *classes = as_agent(object)->agent.session->classes;
    PyObject *numbers;
    int class;

    if (!PyArg_ParseTuple(args, "iO:classify", &class, &numbers))
        return NULL;
    if (numbers == Py_None) {
        memset(classes, class, sizeof as_agent(object)->agent.session->classes);
        Py_RETURN_NONE;
    }
    PyObject *tuple = PySequence_Tuple(numbers);
    for (Py_ssize_t i = 0; tuple && i < PyTuple_Size(tuple); i++)
        classes[PyLong_AsUnsignedLongMask(PyTuple_GetItem(tuple, i)) & 0xffff] = (uint8_t)class;
    if (!tuple)
        return NULL;
    Py_DECREF(tuple);
    Py_RETURN_NONE;
}

static PyObject *agent_classify_own(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_agent_classify_own(&as_agent(object)->agent);
    Py_RETURN_NONE;
}

// set_constant(nr, result)
static PyObject *agent_set_constant(PyObject *object, PyObject *args)
{
    struct tl_session *session = as_agent(object)->agent.session;
    long long value;
    unsigned nr;

    if (!PyArg_ParseTuple(args, "IL:set_constant", &nr, &value))
        return NULL;
    if (nr >= tl_calls)
        return PyErr_Format(PyExc_ValueError, "set_constant: there is no call %u", nr);
    session->constants[nr] = value;
    session->classes[nr] = TL_CONSTANT;
    session->constant[nr] = true;
    Py_RETURN_NONE;
}

// Where the list of rules on a call is kept; NULL: there is no room. NR -1: of all calls.
static uint16_t *find_list(struct tl_rule_table *table, unsigned arch, int nr)
{
    unsigned index = arch == i386;

    if (nr >= 0 && nr < tl_calls)
        return &table->calls[index][nr];
    if (nr == -1)
        return &table->others[index];
    if (table->number_count == tl_rule_numbers_max)
        return NULL;
    struct tl_rule_number *number = &table->numbers[table->number_count++];
    *number = (struct tl_rule_number){(uint16_t)index, 0, (uint32_t)nr};
    return &number->list;
}

// set_rules(audit_arch, nr, ((rule, subcall or -1, bits of descriptors, size or -1), ...)): what agents apply
// to a call, before the program begins; nr -1 first: all. False: there is no room.
static PyObject *agent_set_rules(PyObject *object, PyObject *args)
{
    struct tl_rule_table *table = &as_agent(object)->agent.session->rules;
    PyObject *uses;
    unsigned arch;
    int nr;

    if (!PyArg_ParseTuple(args, "IiO!:set_rules", &arch, &nr, &PyTuple_Type, &uses))
        return NULL;
    Py_ssize_t count = PyTuple_Size(uses);
    uint32_t start = table->use_count + 1;
    uint16_t *list = find_list(table, arch, nr);
    if (!list || start + (size_t)count + 1 > tl_rule_uses_max)
        Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < count; i++) {
        int rule, subcall, fds, size;
        if (!PyArg_ParseTuple(PyTuple_GetItem(uses, i), "iiii:set_rules", &rule, &subcall, &fds, &size))
            return NULL;
        table->uses[start + i] = (struct tl_rule_use){
            (uint16_t)(rule + 1), (int16_t)subcall, (uint8_t)fds, (int8_t)size, 0,
        };
    }
    *list = count ? (uint16_t)start : 0;
    if (count)
        table->use_count = start + (uint32_t)count; // and the end of the list, which is zero
    if (nr == -1)
        for (int i = 0; i < tl_calls; i++)
            table->calls[arch == i386][i] = *list;
    Py_RETURN_TRUE;
}

// capture(fd, limit, drop, signals, plans): has agents record calls, and copies the records to a file. PLANS:
// struct tl_capture_plan for each number, and one for all others.
static PyObject *agent_capture(PyObject *object, PyObject *args)
{
    struct agent_object *self = as_agent(object);
    struct tl_capture *capture = &self->agent.session->capture;
    const char *plans;
    Py_ssize_t size;
    unsigned limit;
    int fd, drop, signals;

    if (!PyArg_ParseTuple(args, "iIppy#:capture", &fd, &limit, &drop, &signals, &plans, &size))
        return NULL;
    if ((size_t)size != sizeof capture->plans + sizeof capture->other || self->reader) {
        PyErr_SetString(PyExc_ValueError,
                        "capture: struct tl_capture_plan has another size, or it records already");
        return NULL;
    }
    memcpy(capture->plans, plans, sizeof capture->plans);
    memcpy(&capture->other, plans + sizeof capture->plans, sizeof capture->other);
    capture->limit = limit < tl_record_max / 2 ? limit : tl_record_max / 2;
    capture->drop = (uint32_t)drop;
    capture->signals = (uint32_t)signals;
    uint8_t *classes = self->agent.session->classes;
    for (unsigned nr = 0; nr < 65536; nr++)
        if (nr < tl_capture_calls ? capture->plans[nr].wanted : capture->other.wanted)
            classes[nr] = TL_SLOW;
    struct tl_error *error = tl_capture_start(&self->agent, fd, &self->reader);
    if (error)
        return tl_raise(error);
    Py_RETURN_NONE;
}

// append_chunk(type, pid, tid, data)
static PyObject *agent_append_chunk(PyObject *object, PyObject *args)
{
    struct agent_object *self = as_agent(object);
    const char *data;
    Py_ssize_t size;
    int type, pid, tid;

    if (!PyArg_ParseTuple(args, "iiiy#:append_chunk", &type, &pid, &tid, &data, &size))
        return NULL;
    return PyLong_FromLong(
        self->reader ? tl_capture_append(self->reader, (enum tl_chunk_type)type, pid, tid, data, (size_t)size)
                     : 0);
}

// ticks(): the time stamp counter, by which records tell the time.
static PyObject *agent_ticks(PyObject *object, PyObject *unused)
{
    (void)object;
    (void)unused;
    return PyLong_FromUnsignedLongLong(__builtin_ia32_rdtsc());
}

// end_capture(): 0, or the errno of what could not be written.
static PyObject *agent_end_capture(PyObject *object, PyObject *unused)
{
    struct agent_object *self = as_agent(object);
    int error = 0;

    (void)unused;
    if (self->reader) {
        Py_BEGIN_ALLOW_THREADS;
        error = tl_capture_end(self->reader);
        Py_END_ALLOW_THREADS;
    }
    return PyLong_FromLong(error);
}

static void release(void *context)
{
    tl_spawn_release(context);
}

// enter(spawn): lets a command that is held go on to its execve and puts the agent into it. The reason why
// that could not be, and an errno; (0, 0): it has an agent, or was not executed.
static PyObject *agent_enter(PyObject *object, PyObject *spawn)
{
    struct agent_object *self = as_agent(object);
    struct tl_spawn *core = tl_spawn_core(spawn);
    enum tl_unhooked reason;
    struct tl_error *error;

    if (!core)
        return NULL;
    pid_t pid = tl_spawn_pid(core);
    const struct tl_exec exec = {.pid = pid, .command = pid, .release = release, .context = core};
    tl_agent_transport_set_command(self->transport, pid);
    Py_BEGIN_ALLOW_THREADS;
    error = tl_agent_follow_exec(&self->agent, &exec, &reason);
    Py_END_ALLOW_THREADS;
    tl_agent_close_peer(&self->agent);
    if (error && reason == TL_HOOKED && error->code != ESRCH)
        return tl_raise(error);
    int code = error ? error->code : 0;
    tl_error_free(error);
    return Py_BuildValue("(ii)", (int)reason, code);
}

// attach(pid): puts the agent into a process that runs already, whose threads are stopped until begin().
static PyObject *agent_attach(PyObject *object, PyObject *args)
{
    struct agent_object *self = as_agent(object);
    struct tl_error *error;
    int pid;

    if (!PyArg_ParseTuple(args, "i:attach", &pid))
        return NULL;
    self->agent.session->flags |= TL_ENGINE_VISITS;
    Py_BEGIN_ALLOW_THREADS;
    error = tl_agent_attach(&self->agent, pid, &self->held);
    Py_END_ALLOW_THREADS;
    if (error)
        return tl_raise(error);
    self->attached = pid;
    Py_RETURN_NONE;
}

static PyObject *agent_begin(PyObject *object, PyObject *unused)
{
    struct agent_object *self = as_agent(object);
    struct tl_attachment *held = self->held;

    (void)unused;
    self->held = NULL;
    if (held) {
        Py_BEGIN_ALLOW_THREADS;
        tl_agent_go(held);
        Py_END_ALLOW_THREADS;
    }
    Py_RETURN_NONE;
}

// detach(): takes it out of every process; how many it is left in. It is of no use afterwards.
static PyObject *agent_detach(PyObject *object, PyObject *unused)
{
    struct agent_object *self = as_agent(object);
    PyObject *begun = agent_begin(object, unused);
    unsigned left;

    Py_XDECREF(begun);
    Py_BEGIN_ALLOW_THREADS;
    if (self->transport)
        tl_agent_transport_settle(self->transport);
    left = tl_agent_detach(&self->agent, self->attached);
    Py_END_ALLOW_THREADS;
    tl_agent_close(&self->agent);
    return PyLong_FromUnsignedLong(left);
}

// gate(): the template of blocks as (code, offset of its system call, ((offset, kind, addend), ...)).
static PyObject *agent_gate(PyObject *object, PyObject *unused)
{
    struct tl_image_header header;
    const char *image = (const char *)tl_agent_header(&header);
    const struct tl_gate_info *info = (const struct tl_gate_info *)(const void *)(image + header.gate_info);
    const struct tl_plan_fixup *fixups = info->fixups;

    (void)object;
    (void)unused;
    PyObject *list = PyTuple_New((Py_ssize_t)info->fixup_count);
    for (uint32_t i = 0; list && i < info->fixup_count; i++) {
        bool is_entry = fixups[i].kind == TL_FIXUP_ENTRY;
        PyObject *one = Py_BuildValue("(iii)", (int)fixups[i].offset,
                                      is_entry ? (int)TL_FIXUP_REL32_AGENT : (int)fixups[i].kind,
                                      is_entry ? (int)header.entry - 4 : (int)fixups[i].addend);
        if (!one || PyTuple_SetItem(list, (Py_ssize_t)i, one) < 0)
            Py_CLEAR(list);
    }
    if (!list)
        return NULL;
    return Py_BuildValue("(y#IN)", image + header.gate, (Py_ssize_t)info->size, info->pass, list);
}

// next_plan(milliseconds): the next site that an agent asks about, as (number, pid, address, low, high) with
// where it has room for a block; None when none came in that time (-1: waits as long as it takes); () when
// none will come any more.
static PyObject *agent_next_plan(PyObject *object, PyObject *args)
{
    struct agent_object *self = as_agent(object);
    int milliseconds, index;

    if (!PyArg_ParseTuple(args, "i:next_plan", &milliseconds))
        return NULL;
    // Questions come in bursts: who has one does not give the GIL away for the next.
    index = tl_agent_next_plan(self->transport, 0);
    if (index == -1 && milliseconds) {
        Py_BEGIN_ALLOW_THREADS;
        index = tl_agent_next_plan(self->transport, milliseconds);
        Py_END_ALLOW_THREADS;
    }
    if (index < 0)
        return index == -1 ? Py_NewRef(Py_None) : PyTuple_New(0);
    const struct tl_question *question = &self->agent.session->questions[index];
    return Py_BuildValue("(iiKKK)", index, (int)question->pid, (unsigned long long)question->site,
                         (unsigned long long)question->low, (unsigned long long)question->high);
}

// end_plans(): next_plan() returns ()
static PyObject *agent_end_plans(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_agent_end_plans(as_agent(object)->transport);
    Py_RETURN_NONE;
}

// answer_plan(number, plan)
static PyObject *agent_answer_plan(PyObject *object, PyObject *args)
{
    const char *plan;
    Py_ssize_t size;
    unsigned index;

    if (!PyArg_ParseTuple(args, "Iy#:answer_plan", &index, &plan, &size))
        return NULL;
    struct tl_question *question = &as_agent(object)->agent.session->questions[index % tl_questions];
    if ((size_t)size > sizeof question->plan) {
        PyErr_SetString(PyExc_ValueError, "answer_plan: the plan is too long");
        return NULL;
    }
    memcpy(question->plan, plan, (size_t)size);
    __atomic_store_n(&question->state, TL_QUESTION_ANSWERED, __ATOMIC_RELEASE);
    Py_RETURN_NONE;
}

// reports(): per process (pid, sites seen, patched, {reason: sites left alone})
static PyObject *agent_reports(PyObject *object, PyObject *unused)
{
    const struct tl_session *session = as_agent(object)->agent.session;
    PyObject *list = PyList_New(0);

    (void)unused;
    for (unsigned i = 0; list && i < tl_reports; i++) {
        const struct tl_report *report = &session->reports[i];
        if (!report->pid)
            continue;
        PyObject *refused = PyDict_New();
        for (int reason = 0; refused && reason < 32; reason++) {
            PyObject *key = report->refused[reason] ? PyLong_FromLong(reason) : NULL;
            PyObject *value = key ? PyLong_FromLong(report->refused[reason]) : NULL;
            if (key && (!value || PyDict_SetItem(refused, key, value) < 0))
                Py_CLEAR(refused);
            Py_XDECREF(key);
            Py_XDECREF(value);
        }
        PyObject *one =
            refused ? Py_BuildValue("(iIIN)", (int)report->pid, report->sites, report->patched, refused)
                    : NULL;
        if (!one || PyList_Append(list, one) < 0)
            Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

// What a command has to be given: ((socket, its number), (memory, its number)).
static PyObject *get_descriptors(PyObject *object, void *closure)
{
    const struct tl_agent *agent = &as_agent(object)->agent;

    (void)closure;
    return Py_BuildValue("((ii)(ii))", agent->peer, agent->socket_number, agent->memory,
                         agent->memory_number);
}

static PyGetSetDef agent_getset[] = {
    {"descriptors", get_descriptors, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef agent_methods[] = {
    {"transport", agent_transport, METH_NOARGS, NULL},
    {"classify", agent_classify, METH_VARARGS, NULL},
    {"classify_own", agent_classify_own, METH_NOARGS, NULL},
    {"set_constant", agent_set_constant, METH_VARARGS, NULL},
    {"set_rules", agent_set_rules, METH_VARARGS, NULL},
    {"capture", agent_capture, METH_VARARGS, NULL},
    {"append_chunk", agent_append_chunk, METH_VARARGS, NULL},
    {"ticks", agent_ticks, METH_NOARGS, NULL},
    {"end_capture", agent_end_capture, METH_NOARGS, NULL},
    {"enter", agent_enter, METH_O, NULL},
    {"attach", agent_attach, METH_VARARGS, NULL},
    {"begin", agent_begin, METH_NOARGS, NULL},
    {"detach", agent_detach, METH_NOARGS, NULL},
    {"gate", agent_gate, METH_NOARGS | METH_STATIC, NULL},
    {"next_plan", agent_next_plan, METH_VARARGS, NULL},
    {"end_plans", agent_end_plans, METH_NOARGS, NULL},
    {"answer_plan", agent_answer_plan, METH_VARARGS, NULL},
    {"reports", agent_reports, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot agent_slots[] = {
    {Py_tp_new, agent_new},
    {Py_tp_dealloc, agent_dealloc},
    {Py_tp_methods, agent_methods},
    {Py_tp_getset, agent_getset},
    {0, NULL},
};

static PyType_Spec agent_spec = {
    .name = "trapline._native.Agent",
    .basicsize = sizeof(struct agent_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = agent_slots,
};

int tl_agent_add_to(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&agent_spec);
    int result = type ? PyModule_AddObjectRef(module, "Agent", type) : -1;

    Py_XDECREF(type);
    return result;
}
