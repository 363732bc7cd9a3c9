// What the files of _native.Agent share.
#ifndef TL_PYTHON_AGENT_OBJECT_H
#define TL_PYTHON_AGENT_OBJECT_H

#include "agent.h"
#include "capture.h"
#include "module.h"

struct agent_object {
    PyObject_HEAD
    struct tl_agent agent;
    struct tl_transport *transport;   // owned by its listener
    struct tl_capture_reader *reader; // copies what agents record, or NULL
    pid_t attached;                   // to this process, or 0
    struct tl_attachment *held;       // its threads, until begin()
    PyObject *on_unhooked;            // (pid, reason, errno, name): a program runs without hooks
};

static inline struct agent_object *tl_as_agent(PyObject *object)
{
    return (struct agent_object *)(void *)object;
}

// agent_tables.c: what becomes of which call.
PyObject *tl_agent_object_classify(PyObject *object, PyObject *args);
PyObject *tl_agent_object_classify_own(PyObject *object, PyObject *unused);
PyObject *tl_agent_object_set_constant(PyObject *object, PyObject *args);
PyObject *tl_agent_object_set_rules(PyObject *object, PyObject *args);

// agent_capture.c: what is recorded.
PyObject *tl_agent_object_capture(PyObject *object, PyObject *args);
PyObject *tl_agent_object_append_chunk(PyObject *object, PyObject *args);
PyObject *tl_agent_object_ticks(PyObject *object, PyObject *unused);
PyObject *tl_agent_object_begin_capture(PyObject *object, PyObject *unused);
PyObject *tl_agent_object_end_capture(PyObject *object, PyObject *unused);

// agent_plans.c: sites that are rewritten.
PyObject *tl_agent_object_gate(PyObject *object, PyObject *unused);
PyObject *tl_agent_object_next_plan(PyObject *object, PyObject *args);
PyObject *tl_agent_object_end_plans(PyObject *object, PyObject *unused);
PyObject *tl_agent_object_answer_plan(PyObject *object, PyObject *args);
PyObject *tl_agent_object_reports(PyObject *object, PyObject *unused);

#endif
