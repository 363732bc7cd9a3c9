// What the files of the extension module share.
#ifndef TL_MODULE_H
#define TL_MODULE_H

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>

#include "error.h"
#include "listener.h"

// Raises ERROR as OSError (ValueError when it has no errno), frees it, and returns NULL.
PyObject *tl_raise(struct tl_error *error);

// Raises the OSError of ERROR_NUMBER.
PyObject *tl_raise_errno(int error_number);

// Classes of trapline.errors, borrowed.
extern PyObject *tl_call_gone_error;
extern PyObject *tl_memory_access_error;
extern PyObject *tl_unsupported_error;

// One type or group of functions per file; each returns -1 with an exception set when it fails.
int tl_transport_add_to(PyObject *module);
int tl_tracer_add_to(PyObject *module);
int tl_call_add_to(PyObject *module);
int tl_listener_add_to(PyObject *module);
int tl_spawn_add_to(PyObject *module);
int tl_job_add_to(PyObject *module);
int tl_probe_add_to(PyObject *module);
int tl_agent_add_to(PyObject *module);
int tl_mapping_add_to(PyObject *module);
int tl_guest_add_to(PyObject *module);
int tl_trace_add_to(PyObject *module);

// The core's object behind a _native.Spawn; NULL with an exception set.
struct tl_spawn;
struct tl_spawn *tl_spawn_core(PyObject *spawn);

// A capsule that owns TRANSPORT, for an engine's module to return; NULL with an exception set, and it is
// freed.
PyObject *tl_transport_wrap(struct tl_transport *transport);
// Takes it out again, once; NULL with an exception set.
struct tl_transport *tl_transport_take(PyObject *capsule);

// A decision that a hook took; see call.c.
enum tl_decision { TL_UNDECIDED, TL_PROCEED, TL_REPLY, TL_FAIL, TL_REPLY_FD, TL_KILL };

// A new call of TYPE (a subclass of _native.Call) for what LISTENER delivered.
PyObject *tl_call_new(PyObject *type, PyObject *listener, const struct tl_call *call);
// Empties a call that nobody else holds, for tl_call_reuse; false when somebody does.
bool tl_call_retire(PyObject *call);
void tl_call_reuse(PyObject *retired, PyObject *listener, const struct tl_call *call);
enum tl_decision tl_call_decision(PyObject *call);
// What a hook returns to say that the decision is in its call.
extern PyObject *tl_decided;
// What a hook's RESULT means: 1 decided, 0 ask the next hook, -1 with an exception set.
int tl_call_check_result(PyObject *call, PyObject *result);
// Carries out the decision (PROCEED when there is none); the GIL is held. True: there are hooks that want to
// see the result, which is known already, and *RETURNED is what they are to decide first.
bool tl_call_answer(PyObject *call, struct tl_call *returned);
// Whatever was decided: fail with an errno, or with 0 let the kernel perform the call.
void tl_call_override(PyObject *call, int error_number);

// _native.Tracer, and the core's object behind it.
extern PyObject *tl_tracer_type;
struct tl_tracer *tl_tracer_core(PyObject *tracer);

// _native.Job, and the signal mask that a command gets under one.
extern PyObject *tl_job_type;
const sigset_t *tl_job_mask(PyObject *job);

// Are there hooks for the result of CALL?
bool tl_listener_wants_result(PyObject *listener, const struct tl_call *call);

// Has the kernel perform CALL; the GIL is held, and released where that takes long.
void tl_listener_let_go_on(PyObject *listener, const struct tl_call *call);

// Rules and hooks for CALL, on the calling thread, whose transport has no others. True: a hook that decides
// later has it.
bool tl_listener_decide(PyObject *listener, struct tl_call *call);
// A call as its hooks get it.
PyObject *tl_listener_new_call(PyObject *listener, const struct tl_call *call);

// Where the paths of a call are among its arguments.
enum { TL_MOST_PATHS = 3 };
struct tl_path_places {
    bool known;
    int count;
    struct {
        int path, dirfd; // argument positions; dirfd -1 is the working directory
        int empty_arg;   // position of the flags with the bit under which "" means dirfd; -1: there is none
        unsigned long empty_mask; // that bit; with empty_arg -1 any bit says that "" always means dirfd
        bool nullable;            // a null pointer means dirfd
    } place[TL_MOST_PATHS];
};

// The places for a call, asked from Python once and kept; NULL with an exception set.
const struct tl_path_places *tl_listener_path_places(PyObject *listener, const struct tl_call *call);

// The core's object behind a Python listener, valid as long as it.
struct tl_listener *tl_listener_core(PyObject *listener);

#endif
