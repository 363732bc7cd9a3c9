// _native.Agent: the sites that are rewritten.
#include "agent_object.h"

#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// gate(): the template of blocks as (code, offset of its system call, ((offset, kind, addend), ...)).
PyObject *tl_agent_object_gate(PyObject *object, PyObject *unused)
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
PyObject *tl_agent_object_next_plan(PyObject *object, PyObject *args)
{
    struct agent_object *self = tl_as_agent(object);
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
PyObject *tl_agent_object_end_plans(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_agent_end_plans(tl_as_agent(object)->transport);
    Py_RETURN_NONE;
}

// answer_plan(number, plan)
PyObject *tl_agent_object_answer_plan(PyObject *object, PyObject *args)
{
    const char *plan;
    Py_ssize_t size;
    unsigned index;

    if (!PyArg_ParseTuple(args, "Iy#:answer_plan", &index, &plan, &size))
        return NULL;
    struct tl_question *question = &tl_as_agent(object)->agent.session->questions[index % tl_questions];
    if ((size_t)size > sizeof question->plan) {
        PyErr_SetString(PyExc_ValueError, "answer_plan: the plan is too long");
        return NULL;
    }
    memcpy(question->plan, plan, (size_t)size);
    __atomic_store_n(&question->state, TL_QUESTION_ANSWERED, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&question->awaited, 0, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &question->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    Py_RETURN_NONE;
}

// reports(): per process (pid, sites seen, patched, {reason: sites left alone})
PyObject *tl_agent_object_reports(PyObject *object, PyObject *unused)
{
    const struct tl_session *session = tl_as_agent(object)->agent.session;
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
