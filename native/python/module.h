// What the files of the extension module share.
#ifndef TL_MODULE_H
#define TL_MODULE_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "error.h"

// Raises ERROR as OSError (ValueError when it has no errno), frees it, and returns NULL.
PyObject *tl_raise(struct tl_error *error);

// Each file's functions and types; 0, or -1 with an exception set.
int tl_probe_add_to(PyObject *module);

#endif
