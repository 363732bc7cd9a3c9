// _native.Agent: what is recorded.
#include "agent_object.h"

#include <asm/unistd.h>
#include <string.h>

// Those that the agent does itself, but leaves to the kernel unless they are about a descriptor of its own.
static const unsigned short by_descriptor[] = {
    __NR_close, __NR_dup, __NR_fcntl, __NR_fstat, __NR_ioctl, __NR_newfstatat, __NR_statx,
};

// Calls that nobody but the recorder wants go the short way. ALONE: there are no hooks and rules at all.
static void classify(struct tl_session *session, bool alone)
{
    const struct tl_capture *capture = &session->capture;
    uint8_t *classes = session->classes;

    for (unsigned nr = 0; nr < 65536; nr++)
        if (nr < tl_capture_calls ? capture->plans[nr].wanted : capture->other.wanted)
            classes[nr] = nr < tl_capture_calls && classes[nr] == TL_PASS ? TL_RECORDED : TL_SLOW;
    for (size_t i = 0; alone && i < sizeof by_descriptor / sizeof *by_descriptor; i++)
        if (capture->plans[by_descriptor[i]].wanted)
            classes[by_descriptor[i]] = TL_RECORDED_FD;
}

// capture(fd, part, limit, drop, signals, alone, plans): has agents record calls, for a file or a part of it.
// ALONE: nobody else wants any call. PLANS: struct tl_capture_plan for each number, and one for all others.
PyObject *tl_agent_object_capture(PyObject *object, PyObject *args)
{
    struct agent_object *self = tl_as_agent(object);
    struct tl_capture *capture = &self->agent.session->capture;
    const char *plans;
    Py_ssize_t size;
    unsigned limit, part;
    int fd, drop, signals, alone;

    if (!PyArg_ParseTuple(args, "iIIpppy#:capture", &fd, &part, &limit, &drop, &signals, &alone, &plans,
                          &size))
        return NULL;
    if ((size_t)size != sizeof capture->plans + sizeof capture->other || self->reader) {
        PyErr_SetString(PyExc_ValueError,
                        "capture: struct tl_capture_plan has another size, or it records already");
        return NULL;
    }
    memcpy(capture->plans, plans, sizeof capture->plans);
    memcpy(&capture->other, plans + sizeof capture->plans, sizeof capture->other);
    capture->limit = limit < tl_record_max / 2 ? limit : tl_record_max / 2;
    capture->drop = (uint32_t)drop;
    capture->signals = (uint32_t)signals;
    classify(self->agent.session, alone);
    struct tl_error *error = tl_capture_prepare(&self->agent, fd, part, &self->reader);
    if (error)
        return tl_raise(error);
    Py_RETURN_NONE;
}

// begin_capture(): copies the records to the file from now on.
PyObject *tl_agent_object_begin_capture(PyObject *object, PyObject *unused)
{
    struct agent_object *self = tl_as_agent(object);

    (void)unused;
    struct tl_error *error = self->reader ? tl_capture_begin(self->reader) : NULL;
    if (error)
        return tl_raise(error);
    Py_RETURN_NONE;
}

// append_chunk(type, pid, tid, data)
PyObject *tl_agent_object_append_chunk(PyObject *object, PyObject *args)
{
    struct agent_object *self = tl_as_agent(object);
    const char *data;
    Py_ssize_t size;
    int type, pid, tid;

    if (!PyArg_ParseTuple(args, "iiiy#:append_chunk", &type, &pid, &tid, &data, &size))
        return NULL;
    return PyLong_FromLong(
        self->reader ? tl_capture_append(self->reader, (enum tl_chunk_type)type, pid, tid, data, (size_t)size)
                     : 0);
}

// ticks(): the time stamp counter, by which records tell the time.
PyObject *tl_agent_object_ticks(PyObject *object, PyObject *unused)
{
    (void)object;
    (void)unused;
    return PyLong_FromUnsignedLongLong(__builtin_ia32_rdtsc());
}

// end_capture(): 0, or the errno of what could not be written.
PyObject *tl_agent_object_end_capture(PyObject *object, PyObject *unused)
{
    struct agent_object *self = tl_as_agent(object);
    int error = 0;

    (void)unused;
    if (self->reader) {
        Py_BEGIN_ALLOW_THREADS;
        error = tl_capture_end(self->reader);
        Py_END_ALLOW_THREADS;
    }
    return PyLong_FromLong(error);
}
