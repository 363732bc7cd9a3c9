// What can be looked at and changed of a thread of a guest that does not run.
#include "guest_object.h"

#include <errno.h>
#include <linux/audit.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"

// perform(nr, args...): has the kernel perform a call on the thread's behalf, on this thread: its result; or
// None when something else is to be done first, and the thread makes its own call again.
PyObject *tl_guest_thread_perform(PyObject *object, PyObject *args)
{
    struct tl_guest_thread *core = as_thread(object)->core;
    unsigned long long a[7] = {0};
    int64_t result, nr = core->nr;
    bool done;

    if (!PyArg_ParseTuple(args, "K|KKKKKK:perform", &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &a[6]))
        return NULL;
    uint32_t arch = core->arch;
    core->nr = (int64_t)a[0];
    core->arch = AUDIT_ARCH_X86_64;
    for (int i = 0; i < 6; i++)
        core->args[i] = a[i + 1];
    Py_BEGIN_ALLOW_THREADS;
    done = tl_guest_perform(core, &result);
    Py_END_ALLOW_THREADS;
    core->nr = nr;
    core->arch = arch;
    core->begun = true; // as the guest sees it: its personality has
    if (done)
        return PyLong_FromLongLong(result);
    tl_guest_restart(core);
    Py_RETURN_NONE;
}

// interrupt(): the call that was interrupted fails with EINTR instead of being made again
PyObject *tl_guest_thread_interrupt(PyObject *object, PyObject *unused)
{
    struct tl_guest_thread *core = as_thread(object)->core;

    (void)unused;
    core->regs[TL_RIP] = core->goes_on_at;
    core->regs[TL_RAX] = (uint64_t)-EINTR;
    core->exact = 1;
    Py_RETURN_NONE;
}

// write_memory(address, data): False where it cannot be written
PyObject *tl_guest_thread_write_memory(PyObject *object, PyObject *args)
{
    unsigned long long address;
    Py_buffer data;
    size_t done;

    (void)object;
    if (!PyArg_ParseTuple(args, "Ky*:write_memory", &address, &data))
        return NULL;
    int error = tl_memory_write(getpid(), address, data.buf, (size_t)data.len, &done);
    bool is_written = !error && done == (size_t)data.len;
    PyBuffer_Release(&data);
    return PyBool_FromLong(is_written);
}

static int check_register(unsigned index)
{
    if (index < TL_REGISTERS)
        return 0;
    PyErr_SetString(PyExc_IndexError, "there is no such register");
    return -1;
}

PyObject *tl_guest_thread_get(PyObject *object, PyObject *argument)
{
    unsigned long index = PyLong_AsUnsignedLong(argument);

    if (PyErr_Occurred() || check_register((unsigned)index) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(as_thread(object)->core->regs[index]);
}

// set(register, value): it goes on with exactly the registers that are set
PyObject *tl_guest_thread_set(PyObject *object, PyObject *args)
{
    unsigned long long value;
    unsigned index;

    if (!PyArg_ParseTuple(args, "IK:set", &index, &value) || check_register(index) < 0)
        return NULL;
    as_thread(object)->core->regs[index] = value;
    as_thread(object)->core->exact = 1;
    Py_RETURN_NONE;
}

PyObject *tl_guest_thread_copy_from(PyObject *object, PyObject *other)
{
    if (!PyObject_TypeCheck(other, Py_TYPE(object)))
        return PyErr_Format(PyExc_TypeError, "copy_from: no thread of a guest");
    struct tl_guest_thread *to = as_thread(object)->core;
    const struct tl_guest_thread *from = as_thread(other)->core;
    memcpy(to->regs, from->regs, sizeof to->regs);
    to->fs = from->fs;
    memcpy((char *)to + tl_guest_vectors, (const char *)from + tl_guest_vectors,
           tl_guest_stack - tl_guest_vectors);
    Py_RETURN_NONE;
}

// fault(): (signal, code, address, trap number, error code)
PyObject *tl_guest_thread_fault(PyObject *object, PyObject *unused)
{
    const struct tl_guest_thread *core = as_thread(object)->core;

    (void)unused;
    return Py_BuildValue("(iiKKK)", core->signal, core->info.si_code,
                         (unsigned long long)(uintptr_t)core->info.si_addr,
                         (unsigned long long)core->trap_number, (unsigned long long)core->error_code);
}

// vectors(): the guest's vector state in the processor's own compacted format; set_vectors(bytes)
PyObject *tl_guest_thread_vectors(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBytes_FromStringAndSize((char *)as_thread(object)->core + tl_guest_vectors,
                                     tl_guest_stack - tl_guest_vectors);
}

PyObject *tl_guest_thread_set_vectors(PyObject *object, PyObject *args)
{
    const char *data;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(args, "y#:set_vectors", &data, &size))
        return NULL;
    if (size > tl_guest_stack - tl_guest_vectors) {
        PyErr_SetString(PyExc_ValueError, "set_vectors: too much");
        return NULL;
    }
    memcpy((char *)as_thread(object)->core + tl_guest_vectors, data, (size_t)size);
    Py_RETURN_NONE;
}

static PyObject *get_u64(PyObject *object, void *closure)
{
    uint64_t value;

    memcpy(&value, (char *)as_thread(object)->core + (size_t)closure, sizeof value);
    return PyLong_FromUnsignedLongLong(value);
}

static int set_u64(PyObject *object, PyObject *given, void *closure)
{
    uint64_t value = given ? PyLong_AsUnsignedLongLongMask(given) : 0;

    if (PyErr_Occurred())
        return -1;
    memcpy((char *)as_thread(object)->core + (size_t)closure, &value, sizeof value);
    return 0;
}

static PyObject *get_u32(PyObject *object, void *closure)
{
    uint32_t value;

    memcpy(&value, (char *)as_thread(object)->core + (size_t)closure, sizeof value);
    return PyLong_FromUnsignedLong(value);
}

static PyObject *get_bool(PyObject *object, void *closure)
{
    return PyBool_FromLong(*((char *)as_thread(object)->core + (size_t)closure));
}

static int set_bool(PyObject *object, PyObject *value, void *closure)
{
    *((char *)as_thread(object)->core + (size_t)closure) = value && PyObject_IsTrue(value);
    return 0;
}

PyGetSetDef tl_guest_thread_getset[] = {
    {"fs", get_u64, set_u64, "Base of its fs.", (void *)offsetof(struct tl_guest_thread, fs)},
    {"return_to", get_u64, set_u64, NULL, (void *)offsetof(struct tl_guest_thread, return_to)},
    {"nr", get_u64, set_u64, NULL, (void *)offsetof(struct tl_guest_thread, nr)},
    {"killed_by", get_u64, NULL, "What a hook has killed it with.",
     (void *)offsetof(struct tl_guest_thread, value)},
    {"goes_on_at", get_u64, set_u64, NULL, (void *)offsetof(struct tl_guest_thread, goes_on_at)},
    {"block", get_u64, NULL, NULL, (void *)offsetof(struct tl_guest_thread, block)},
    {"index", get_u32, NULL, NULL, (void *)offsetof(struct tl_guest_thread, index)},
    {"tid", get_u32, NULL, "Of the thread that it runs on; 0 when it has not run yet.",
     (void *)offsetof(struct tl_guest_thread, host_tid)},
    {"arch", get_u32, NULL, NULL, (void *)offsetof(struct tl_guest_thread, arch)},
    {"interrupted", get_bool, set_bool, NULL, (void *)offsetof(struct tl_guest_thread, interrupted)},
    {"notified", get_bool, NULL, NULL, (void *)offsetof(struct tl_guest_thread, notified)},
    {"piped", get_bool, set_bool, NULL, (void *)offsetof(struct tl_guest_thread, piped)},
    {"begun", get_bool, set_bool, NULL, (void *)offsetof(struct tl_guest_thread, begun)},
    {NULL, NULL, NULL, NULL, NULL},
};
