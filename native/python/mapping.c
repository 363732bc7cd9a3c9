// _native.find_mapping
#include "mapping.h"

#include "module.h"

// find_mapping(pid, address): (start, end, flags, offset, inode, major, minor, path)
static PyObject *find_mapping(PyObject *module, PyObject *args)
{
    struct tl_mapping mapping;
    unsigned long long address;
    int pid;

    (void)module;
    if (!PyArg_ParseTuple(args, "iK:find_mapping", &pid, &address))
        return NULL;
    int error = tl_mapping_find(pid, address, &mapping);
    if (error)
        return tl_raise_errno(error);
    PyObject *path = PyUnicode_DecodeFSDefault(mapping.path);
    if (!path)
        return NULL;
    return Py_BuildValue("(KKKKKIIN)", (unsigned long long)mapping.start, (unsigned long long)mapping.end,
                         (unsigned long long)mapping.flags, (unsigned long long)mapping.offset,
                         (unsigned long long)mapping.inode, mapping.major, mapping.minor, path);
}

static PyMethodDef functions[] = {{"find_mapping", find_mapping, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

int tl_mapping_add_to(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
