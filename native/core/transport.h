// Where calls come from and where their answers go: a seccomp listener, a tracer, an agent in the program.
// What receives, queues and decides (listener.h, rules.h, the Python hooks) is the same code for all of them.
//
// A call is reported once or twice under an id. First before it happens, unless nobody asked for that: its
// caller waits until it is answered. Then, where somebody wants the result, once more when it has happened;
// the caller waits again, reply() replaces the result and go_on() keeps it.
#ifndef TL_TRANSPORT_H
#define TL_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl_call {
    uint64_t id;
    uint64_t ip;
    uint64_t args[6];
    int64_t result; // when it has returned; -1 to -4095 is an errno
    uint32_t arch;  // AUDIT_ARCH_*
    int32_t nr;
    int32_t tid;    // in the pid namespace of whoever receives
    uint32_t stage; // how many rules have been applied to it already
    bool returned;  // the result is known
    bool emulated;  // it is a hook's or rule's, the kernel knows nothing of it: to be replied, not to be let
                    // go on
    bool ruled;     // it is a rule's
    uint64_t delay_exit_ns; // how long rules want it to be held when it returns
    const void *poke;       // the rule that overwrites memory then, or NULL
};

// The stage of a call that its program makes again after a signal: rules have seen it.
#define TL_STAGE_PAST_RULES UINT32_MAX

struct tl_transport;

// Functions that return int: 0 or an errno. ENOENT: the caller does not wait (any more).
// They may be called from any thread, several at a time, but receive() from one at a time.
struct tl_transport_ops {
    const char *engine; // its name, for messages
    // Blocks. ENOENT, EINTR: nothing this time (a signal to the thread must bring that about); ENOTCONN: the
    // last task is gone; anything else: nothing will ever come any more.
    int (*receive)(struct tl_transport *transport, struct tl_call *call);
    int (*reply)(struct tl_transport *transport, uint64_t id, int64_t value, int error_number);
    int (*go_on)(struct tl_transport *transport, uint64_t id);
    // The caller gets a copy of FD as a new descriptor, whose number is the result; or with add_fd is told.
    int (*reply_fd)(struct tl_transport *transport, uint64_t id, int fd, bool close_on_exec);
    int (*add_fd)(struct tl_transport *transport, uint64_t id, int fd, bool close_on_exec, int *number);
    bool (*is_waiting)(struct tl_transport *transport, uint64_t id);

    // Nothing is answered any more: calls that wait, and later ones, end as the engine has it. Nobody
    // receives. Others may still ask about calls and answer them, to no effect, until release().
    // False: not now, try again at free().
    bool (*close)(struct tl_transport *transport);
    // Once nobody uses a closed transport any more: gives back what close() could not. May be called twice.
    void (*release)(struct tl_transport *transport);
    void (*free)(struct tl_transport *transport);
    // In a process that was forked from this one: drops what must not be held open there.
    void (*forked)(struct tl_transport *transport);

    // What not every engine can; NULL where it cannot.
    // Tells once, before the first call, for a number (-1: for all others) whether it is to be reported
    // before it happens and when it has happened. May be called again while calls are decided.
    int (*set_interest)(struct tl_transport *transport, uint32_t arch, int nr, bool before, bool returned);
    // Has the kernel see another argument, if it is still to perform the call.
    int (*set_arg)(struct tl_transport *transport, uint64_t id, unsigned index, uint64_t value);
    // The same with the address of a copy of DATA that lives until the call has returned.
    int (*copy_arg)(struct tl_transport *transport, uint64_t id, unsigned index, const void *data,
                    size_t size, uint64_t *address);
    // Has the kernel perform the call now, and blocks until it has; then it waits as when it has returned.
    int (*perform)(struct tl_transport *transport, uint64_t id, int64_t *result);
    // Ends the caller as a signal would; NULL where that is a process, which can be sent one.
    int (*kill)(struct tl_transport *transport, uint64_t id, int number);
    // Waits, where the thread that is delayed is the one that decides. NULL: the listener delivers it again.
    bool (*delay)(struct tl_transport *transport, uint64_t nanoseconds);
};

struct tl_transport {
    const struct tl_transport_ops *ops;
    int fd;                      // polls POLLHUP (or POLLERR) when the last task of the program is gone
    struct tl_rule_table *rules; // where agents in the program find the rules; NULL: there are none
};

#endif
