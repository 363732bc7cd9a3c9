// _native.Agent: the session of an in-process engine, as its supervisor sees it.
#include "agent_object.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "spawn.h"

static void agent_dealloc(PyObject *object)
{
    struct agent_object *self = tl_as_agent(object);
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
    struct agent_object *self = tl_as_agent(object);
    struct tl_error *error = tl_agent_new(&self->agent, flags);
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
    struct agent_object *self = tl_as_agent(object);
    const struct tl_agent_events events = {unhooked, self};

    (void)unused;
    struct tl_error *error = tl_agent_transport_new(&self->agent, &events, &self->transport);
    if (error)
        return tl_raise(error);
    tl_agent_transport_set_command(self->transport, self->attached);
    return tl_transport_wrap(self->transport);
}

static void release(void *context)
{
    tl_spawn_release(context);
}

// enter(spawn): lets a command that is held go on to its execve and puts the agent into it. The reason why
// that could not be, and an errno; (0, 0): it has an agent, or was not executed.
static PyObject *agent_enter(PyObject *object, PyObject *spawn)
{
    struct agent_object *self = tl_as_agent(object);
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
    struct agent_object *self = tl_as_agent(object);
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
    struct agent_object *self = tl_as_agent(object);
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
    struct agent_object *self = tl_as_agent(object);
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

// What a command has to be given: ((socket, its number), (memory, its number)).
static PyObject *get_descriptors(PyObject *object, void *closure)
{
    const struct tl_agent *agent = &tl_as_agent(object)->agent;

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
    {"classify", tl_agent_object_classify, METH_VARARGS, NULL},
    {"classify_own", tl_agent_object_classify_own, METH_NOARGS, NULL},
    {"set_constant", tl_agent_object_set_constant, METH_VARARGS, NULL},
    {"set_rules", tl_agent_object_set_rules, METH_VARARGS, NULL},
    {"capture", tl_agent_object_capture, METH_VARARGS, NULL},
    {"append_chunk", tl_agent_object_append_chunk, METH_VARARGS, NULL},
    {"ticks", tl_agent_object_ticks, METH_NOARGS, NULL},
    {"begin_capture", tl_agent_object_begin_capture, METH_NOARGS, NULL},
    {"end_capture", tl_agent_object_end_capture, METH_NOARGS, NULL},
    {"enter", agent_enter, METH_O, NULL},
    {"attach", agent_attach, METH_VARARGS, NULL},
    {"begin", agent_begin, METH_NOARGS, NULL},
    {"detach", agent_detach, METH_NOARGS, NULL},
    {"gate", tl_agent_object_gate, METH_NOARGS | METH_STATIC, NULL},
    {"next_plan", tl_agent_object_next_plan, METH_VARARGS, NULL},
    {"end_plans", tl_agent_object_end_plans, METH_NOARGS, NULL},
    {"answer_plan", tl_agent_object_answer_plan, METH_VARARGS, NULL},
    {"reports", tl_agent_object_reports, METH_NOARGS, NULL},
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
