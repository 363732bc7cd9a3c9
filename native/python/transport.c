// Transports on their way from an engine to _native.Listener: capsules that own one.
#include "module.h"

#include "notif.h"

static const char capsule_name[] = "trapline.transport";

static void free_capsule(PyObject *capsule)
{
    struct tl_transport *transport = PyCapsule_GetPointer(capsule, capsule_name);

    if (transport)
        transport->ops->free(transport);
}

PyObject *tl_transport_wrap(struct tl_transport *transport)
{
    PyObject *capsule = PyCapsule_New(transport, capsule_name, free_capsule);

    if (!capsule)
        transport->ops->free(transport);
    return capsule;
}

struct tl_transport *tl_transport_take(PyObject *capsule)
{
    struct tl_transport *transport = PyCapsule_GetPointer(capsule, capsule_name);

    if (transport && PyCapsule_GetDestructor(capsule) != free_capsule) {
        PyErr_SetString(PyExc_ValueError, "this transport has its listener already");
        return NULL;
    }
    if (!transport || PyCapsule_SetDestructor(capsule, NULL) < 0)
        return NULL;
    return transport;
}

// notify_transport(fd): of a seccomp listener, which it owns from here on.
static PyObject *notify_transport(PyObject *module, PyObject *argument)
{
    long fd = PyLong_AsLong(argument);
    struct tl_transport *transport;

    (void)module;
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    struct tl_error *error = tl_notif_new((int)fd, &transport);
    return error ? tl_raise(error) : tl_transport_wrap(transport);
}

static PyMethodDef methods[] = {
    {"notify_transport", notify_transport, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

int tl_transport_add_to(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
