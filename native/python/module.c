#include "module.h"

#include <errno.h>

PyObject *tl_raise(struct tl_error *error)
{
    if (error->code) {
        PyObject *arguments = Py_BuildValue("(is)", error->code, error->message);
        if (arguments) {
            PyErr_SetObject(PyExc_OSError, arguments);
            Py_DECREF(arguments);
        }
    } else {
        PyErr_SetString(PyExc_ValueError, error->message);
    }
    tl_error_free(error);
    return NULL;
}

PyObject *tl_raise_errno(int error_number)
{
    errno = error_number;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *tl_call_gone_error;
PyObject *tl_memory_access_error;
PyObject *tl_unsupported_error;

static int import_errors(void)
{
    PyObject *errors = PyImport_ImportModule("trapline.errors");

    if (!errors)
        return -1;
    tl_call_gone_error = PyObject_GetAttrString(errors, "CallGoneError");
    tl_memory_access_error = PyObject_GetAttrString(errors, "MemoryAccessError");
    tl_unsupported_error = PyObject_GetAttrString(errors, "UnsupportedByEngineError");
    Py_DECREF(errors);
    return tl_call_gone_error && tl_memory_access_error && tl_unsupported_error ? 0 : -1;
}

static int add_agent_to(PyObject *module)
{
#ifdef TL_HAS_AGENT
    return tl_agent_add_to(module) < 0 ? -1 : tl_guest_add_to(module);
#else
    (void)module;
    return 0;
#endif
}

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "trapline._native",
    .m_doc = "The supervisor's C core, seen from Python.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&native_module);

    if (!module)
        return NULL;
    if (import_errors() < 0 || tl_transport_add_to(module) < 0 || tl_tracer_add_to(module) < 0 ||
        add_agent_to(module) < 0 || tl_call_add_to(module) < 0 || tl_listener_add_to(module) < 0 ||
        tl_spawn_add_to(module) < 0 || tl_job_add_to(module) < 0 || tl_probe_add_to(module) < 0 ||
        tl_mapping_add_to(module) < 0 || tl_trace_add_to(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
