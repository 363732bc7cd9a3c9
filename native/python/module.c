#include "module.h"

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

    if (module && tl_probe_add_to(module))
        Py_CLEAR(module);
    return module;
}
