// What the files of the extension module share.
#ifndef TL_MODULE_H
#define TL_MODULE_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "error.h"

// Raises ERROR as OSError (ValueError when it has no errno), frees it, and returns NULL.
PyObject *tl_raise(struct tl_error *error);

#endif
