// Functions of the module that guests need: memory of this process, and calls of its own.
#include "guest_object.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rawcall.h"
#include "window.h"

// memory_map(address, size, protection, flags, fd, offset) -> address
static PyObject *memory_map(PyObject *module, PyObject *args)
{
    unsigned long long address, size, offset;
    int protection, flags, fd;

    (void)module;
    if (!PyArg_ParseTuple(args, "KKiiiK:memory_map", &address, &size, &protection, &flags, &fd, &offset))
        return NULL;
    void *got = mmap((void *)(uintptr_t)address, size, protection, flags, fd, (off_t)offset);
    return got == MAP_FAILED ? tl_raise_errno(errno) : PyLong_FromVoidPtr(got);
}

static PyObject *memory_unmap(PyObject *module, PyObject *args)
{
    unsigned long long address, size;

    (void)module;
    if (!PyArg_ParseTuple(args, "KK:memory_unmap", &address, &size))
        return NULL;
    if (munmap((void *)(uintptr_t)address, size))
        return tl_raise_errno(errno);
    Py_RETURN_NONE;
}

static PyObject *memory_protect(PyObject *module, PyObject *args)
{
    unsigned long long address, size;
    int protection;

    (void)module;
    if (!PyArg_ParseTuple(args, "KKi:memory_protect", &address, &size, &protection))
        return NULL;
    if (mprotect((void *)(uintptr_t)address, size, protection))
        return tl_raise_errno(errno);
    Py_RETURN_NONE;
}

// memory_view(address, size, is_writable): the memory itself, for as long as it is mapped.
static PyObject *memory_view(PyObject *module, PyObject *args)
{
    unsigned long long address;
    Py_ssize_t size;
    int is_writable;

    (void)module;
    if (!PyArg_ParseTuple(args, "Knp:memory_view", &address, &size, &is_writable))
        return NULL;
    return PyMemoryView_FromMemory((char *)(uintptr_t)address, size, is_writable ? PyBUF_WRITE : PyBUF_READ);
}

static void synchronise(void)
{
    enum { SYNC_CORE = 32, REGISTER_SYNC_CORE = 64 };

    if (tl_rawcall(__NR_membarrier, SYNC_CORE, 0, 0, 0, 0, 0) == -EPERM) {
        tl_rawcall(__NR_membarrier, REGISTER_SYNC_CORE, 0, 0, 0, 0, 0);
        tl_rawcall(__NR_membarrier, SYNC_CORE, 0, 0, 0, 0, 0);
    }
}

// write_window(address, bytes, boundaries, restores): see window.h
static PyObject *write_window(PyObject *module, PyObject *args)
{
    unsigned long long address;
    const uint8_t *bytes;
    Py_ssize_t size;
    unsigned boundaries;
    int restores;

    (void)module;
    if (!PyArg_ParseTuple(args, "Ky#Ip:write_window", &address, &bytes, &size, &boundaries, &restores))
        return NULL;
    (restores ? tl_window_restore : tl_window_write)((volatile uint8_t *)(uintptr_t)address, bytes,
                                                     (unsigned)size, boundaries, synchronise);
    Py_RETURN_NONE;
}

// memory_grow(address, old size, new size): in place, over what is reserved behind
static PyObject *memory_grow(PyObject *module, PyObject *args)
{
    unsigned long long address, old_size, new_size;

    (void)module;
    if (!PyArg_ParseTuple(args, "KKK:memory_grow", &address, &old_size, &new_size))
        return NULL;
    char *behind = (char *)(uintptr_t)(address + old_size);
    // Nobody else may get these addresses in between, so no other thread of Python's runs here.
    munmap(behind, new_size - old_size);
    if (mremap((void *)(uintptr_t)address, old_size, new_size, 0) != MAP_FAILED)
        Py_RETURN_NONE;
    int error = errno;
    mmap(behind, new_size - old_size, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    return tl_raise_errno(error);
}

// memory_move(address, old size, new size, to): what it leaves is reserved again
static PyObject *memory_move(PyObject *module, PyObject *args)
{
    unsigned long long address, old_size, new_size, to;

    (void)module;
    if (!PyArg_ParseTuple(args, "KKKK:memory_move", &address, &old_size, &new_size, &to))
        return NULL;
    void *from = (void *)(uintptr_t)address;
    if (mremap(from, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)to) == MAP_FAILED)
        return tl_raise_errno(errno);
    mmap(from, old_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    Py_RETURN_NONE;
}

// memory_exchange(address, old, new): whether the 32 bits there were the old ones, and are the new ones now
static PyObject *memory_exchange(PyObject *module, PyObject *args)
{
    unsigned long long address;
    unsigned old, new;

    (void)module;
    if (!PyArg_ParseTuple(args, "KII:memory_exchange", &address, &old, &new))
        return NULL;
    return PyBool_FromLong(__atomic_compare_exchange_n((unsigned *)(uintptr_t)address, &old, new, false,
                                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

// system_call(nr, args...): the kernel's result
static PyObject *system_call(PyObject *module, PyObject *args)
{
    unsigned long long a[7] = {0};

    (void)module;
    if (!PyArg_ParseTuple(args, "K|KKKKKK:system_call", &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &a[6]))
        return NULL;
    return PyLong_FromLong(
        tl_rawcall((long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4], (long)a[5], (long)a[6]));
}

// shared_memory_size(id): bytes of a System V segment
static PyObject *shared_memory_size(PyObject *module, PyObject *number)
{
    long id = PyLong_AsLong(number);
    struct shmid_ds data;

    (void)module;
    if (PyErr_Occurred())
        return NULL;
    if (shmctl((int)id, IPC_STAT, &data))
        return tl_raise_errno(errno);
    return PyLong_FromSize_t(data.shm_segsz);
}

// keep_descriptor(fd): not to be closed by a guest that has a copy of it either
static PyObject *keep_descriptor(PyObject *module, PyObject *given)
{
    long fd = PyLong_AsLong(given);

    (void)module;
    if (PyErr_Occurred())
        return NULL;
    tl_guest_keep((int)fd);
    Py_RETURN_NONE;
}

// tell_descriptors(is_i386, number, kind): what a call does with descriptors
static PyObject *tell_descriptors(PyObject *module, PyObject *args)
{
    int is_i386;
    unsigned nr, kind;

    (void)module;
    if (!PyArg_ParseTuple(args, "pII:tell_descriptors", &is_i386, &nr, &kind))
        return NULL;
    tl_guest_tell_descriptors(is_i386, nr, (enum tl_guest_descriptors)kind);
    Py_RETURN_NONE;
}

static PyObject *unshare_files(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (unshare(CLONE_FILES | CLONE_FS))
        return tl_raise_errno(errno);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"write_window", write_window, METH_VARARGS, NULL},
    {"memory_grow", memory_grow, METH_VARARGS, NULL},
    {"memory_move", memory_move, METH_VARARGS, NULL},
    {"memory_exchange", memory_exchange, METH_VARARGS, NULL},
    {"system_call", system_call, METH_VARARGS, NULL},
    {"shared_memory_size", shared_memory_size, METH_O, NULL},
    {"keep_descriptor", keep_descriptor, METH_O, NULL},
    {"tell_descriptors", tell_descriptors, METH_VARARGS, NULL},
    {"unshare_files", unshare_files, METH_NOARGS, NULL},
    {"memory_map", memory_map, METH_VARARGS, NULL},
    {"memory_unmap", memory_unmap, METH_VARARGS, NULL},
    {"memory_protect", memory_protect, METH_VARARGS, NULL},
    {"memory_view", memory_view, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int tl_guest_memory_add_to(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
