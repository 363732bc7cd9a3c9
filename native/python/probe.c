// _native.probe() and _native.probe_names().
#include "probe.h"

#include "module.h"

static PyObject *probe(PyObject *module, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"name", "timeout_ms", NULL};
    struct tl_probe_result result;
    struct tl_error *error;
    const char *name;
    int timeout_ms = 5000;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "s|i:probe", names, &name, &timeout_ms))
        return NULL;
    Py_BEGIN_ALLOW_THREADS error = tl_probe_run(name, timeout_ms, &result);
    Py_END_ALLOW_THREADS if (error) return tl_raise(error);
    PyObject *works = result.state == TL_PROBE_UNTESTED ? Py_None
                      : result.state == TL_PROBE_WORKS  ? Py_True
                                                        : Py_False;
    return Py_BuildValue("(Ois)", works, result.code, result.detail);
}

static PyObject *probe_names(PyObject *module, PyObject *nothing)
{
    PyObject *list = PyList_New(0);
    const char *name;

    (void)module;
    (void)nothing;
    for (size_t index = 0; list && (name = tl_probe_name(index)); index++) {
        PyObject *text = PyUnicode_FromString(name);
        if (!text || PyList_Append(list, text))
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    if (!list)
        return NULL;
    PyObject *tuple = PyList_AsTuple(list);
    Py_DECREF(list);
    return tuple;
}

static PyMethodDef methods[] = {
    {"probe", (PyCFunction)(void (*)(void))probe, METH_VARARGS | METH_KEYWORDS,
     "probe(name, timeout_ms=5000) -> (works, errno, detail): try one kernel feature in a process of its "
     "own."},
    {"probe_names", probe_names, METH_NOARGS, "The names that probe() knows, in order."},
    {NULL, NULL, 0, NULL},
};

int tl_probe_add_to(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
