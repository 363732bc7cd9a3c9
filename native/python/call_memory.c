// What a call can look at in its caller: memory, paths, descriptors.
#include "call_object.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "behalf.h"
#include "memory.h"
#include "path.h"
#include "task.h"

static PyObject *raise_memory(struct call_object *self, const char *what, uint64_t address, Py_ssize_t size,
                              int error)
{
    if (error == ESRCH || !tl_call_waits(self))
        return tl_call_raise_gone(self);
    PyObject *exception = PyObject_CallFunction(tl_memory_access_error, "siKni", what, self->call.tid,
                                                (unsigned long long)address, size, error);
    if (exception) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *tl_call_read(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    unsigned long long address;
    Py_ssize_t size;
    size_t done;

    if (!PyArg_ParseTuple(args, "Kn:read", &address, &size))
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "read: size must not be negative");
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (!data)
        return NULL;
    int error = tl_memory_read(self->call.tid, address, PyBytes_AsString(data), (size_t)size, &done);
    if (error || done < (size_t)size) {
        Py_DECREF(data);
        return raise_memory(self, "read", address, size, error ? error : EFAULT);
    }
    if (!tl_call_waits(self)) {
        Py_DECREF(data);
        return tl_call_raise_gone(self);
    }
    return data;
}

PyObject *tl_call_write(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    unsigned long long address;
    Py_buffer data;
    size_t done;

    if (!PyArg_ParseTuple(args, "Ky*:write", &address, &data))
        return NULL;
    if (!tl_call_waits(self)) {
        PyBuffer_Release(&data);
        return tl_call_raise_gone(self);
    }
    int error = tl_memory_write(self->call.tid, address, data.buf, (size_t)data.len, &done);
    Py_ssize_t size = data.len;
    PyBuffer_Release(&data);
    if (error || done < (size_t)size)
        return raise_memory(self, "write", address, size, error ? error : EFAULT);
    Py_RETURN_NONE;
}

PyObject *tl_call_read_str(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    unsigned long long address;
    Py_ssize_t limit = PATH_MAX;
    char fixed[PATH_MAX], *buffer = fixed;
    size_t length;
    PyObject *text = NULL;

    if (!PyArg_ParseTuple(args, "K|n:read_str", &address, &limit))
        return NULL;
    if (limit <= 0) {
        PyErr_SetString(PyExc_ValueError, "read_str: limit must be positive");
        return NULL;
    }
    if ((size_t)limit > sizeof fixed && !(buffer = PyMem_Malloc((size_t)limit)))
        return PyErr_NoMemory();
    int error = tl_memory_read_string(self->call.tid, address, buffer, (size_t)limit, &length);
    if (error && error != ENAMETOOLONG)
        raise_memory(self, "read", address, limit, error);
    else if (!tl_call_waits(self))
        tl_call_raise_gone(self);
    else
        text = PyUnicode_DecodeFSDefaultAndSize(buffer, (Py_ssize_t)length);
    if (buffer != fixed)
        PyMem_Free(buffer);
    return text;
}

// The result of a lookup in PATH, or None where the kernel would refuse the call by itself.
static PyObject *path_or_none(struct call_object *self, uint64_t address, int error, const char *path)
{
    if (error == ESRCH || !tl_call_waits(self))
        return tl_call_raise_gone(self);
    if (!error)
        return PyUnicode_DecodeFSDefault(path);
    if (tl_path_is_refused(error))
        Py_RETURN_NONE;
    // We may not look (the program is undumpable, say), while the kernel may: nothing safe can be said of the
    // path.
    return raise_memory(self, "resolve", address, PATH_MAX, error);
}

// The path argument number INDEX of PLACES.
static PyObject *path_argument(struct call_object *self, const struct tl_path_places *places, int index)
{
    const uint64_t *args = self->call.args;
    int at = places->place[index].path, dirfd_at = places->place[index].dirfd,
        flags_at = places->place[index].empty_arg;
    unsigned long mask = places->place[index].empty_mask;
    int dirfd = dirfd_at < 0 ? AT_FDCWD : (int)args[dirfd_at];
    char name[PATH_MAX], path[TL_PATH_MAX];
    size_t length = 0;
    int error = 0;

    if (args[at] || !places->place[index].nullable) {
        error = tl_memory_read_string(self->call.tid, args[at], name, sizeof name - 1, &length);
        if (!error && !length && !(flags_at < 0 ? mask : args[flags_at] & mask))
            error = ENOENT;
    }
    if (!error) {
        name[length] = 0;
        error = tl_path_resolve(self->call.tid, dirfd, name, path);
    }
    return path_or_none(self, args[at], error, path);
}

PyObject *tl_call_get_path(PyObject *object, void *closure)
{
    struct call_object *self = as_call(object);
    const struct tl_path_places *places = tl_listener_path_places(self->listener, &self->call);

    (void)closure;
    if (!places)
        return NULL;
    if (!places->count)
        Py_RETURN_NONE;
    return path_argument(self, places, 0);
}

PyObject *tl_call_get_paths(PyObject *object, void *closure)
{
    struct call_object *self = as_call(object);
    const struct tl_path_places *places = tl_listener_path_places(self->listener, &self->call);
    PyObject *paths = places ? PyTuple_New(places->count) : NULL;

    (void)closure;
    for (int i = 0; paths && i < places->count; i++) {
        PyObject *path = path_argument(self, places, i);
        if (!path || PyTuple_SetItem(paths, i, path) < 0)
            Py_CLEAR(paths);
    }
    return paths;
}

PyObject *tl_call_fd_path(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    char path[TL_PATH_MAX];
    int fd;

    if (!PyArg_ParseTuple(args, "i:fd_path", &fd))
        return NULL;
    int error = fd == AT_FDCWD ? tl_path_resolve(self->call.tid, fd, ".", path)
                               : tl_path_of_fd(self->call.tid, fd, path);
    return path_or_none(self, 0, error, path);
}

PyObject *tl_call_open(PyObject *object, PyObject *args)
{
    struct call_object *self = as_call(object);
    unsigned long long flags, mode, resolve;
    struct tl_open_how how;
    PyObject *path;
    int error, fd;

    if (!PyArg_ParseTuple(args, "iO&KKK:_open", &how.dirfd, PyUnicode_FSConverter, &path, &flags, &mode,
                          &resolve))
        return NULL;
    how.path = PyBytes_AsString(path);
    how.flags = flags;
    how.mode = mode;
    how.resolve = resolve;
    Py_BEGIN_ALLOW_THREADS;
    error = tl_open_on_behalf(self->call.tid, &how, &fd);
    Py_END_ALLOW_THREADS;
    Py_DECREF(path);
    if (error == ESRCH || !tl_call_waits(self)) {
        if (!error)
            close(fd);
        return tl_call_raise_gone(self);
    }
    return error ? tl_raise_errno(error) : PyLong_FromLong(fd);
}

PyObject *tl_call_take_fd(PyObject *object, PyObject *argument)
{
    struct call_object *self = as_call(object);
    long number = PyLong_AsLong(argument);

    if (number == -1 && PyErr_Occurred())
        return NULL;
    pid_t pid = tl_task_process(self->call.tid);
    int pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return tl_call_raise_gone(self);
    int fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)number, 0);
    int error = errno;
    close(pidfd);
    if (!tl_call_waits(self)) {
        if (fd >= 0)
            close(fd);
        return tl_call_raise_gone(self);
    }
    return fd < 0 ? tl_raise_errno(error) : PyLong_FromLong(fd);
}
