// Guests: foreign code that runs on threads of this very process.
//
// A guest thread is run like a virtual processor: tl_guest_run() enters the guest and returns when it needs
// its host, on the same thread and the host's own stack, where anything may be done; the next tl_guest_run()
// goes on.
//
//   host                     | guest
//   tl_guest_run() ----------|--> its registers, its fs
//                            |    system call, fault, kick: a signal, or a jump from a rewritten site
//   <--- returns an event ---|--- the handler leaves signal context for the host's stack at once
//
// While a thread is attached every signal is blocked on it but those of faults, SIGSYS, SIGPIPE and the kick.
#ifndef TL_GUEST_H
#define TL_GUEST_H

#include <linux/filter.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "transport.h"

// Positions of registers in the kernel's signal frames, and so in tl_guest_thread.regs.
enum tl_guest_register {
    TL_R8,
    TL_R9,
    TL_R10,
    TL_R11,
    TL_R12,
    TL_R13,
    TL_R14,
    TL_R15,
    TL_RDI,
    TL_RSI,
    TL_RBP,
    TL_RBX,
    TL_RDX,
    TL_RAX,
    TL_RCX,
    TL_RSP,
    TL_RIP,
    TL_EFLAGS,
    TL_REGISTERS,
};

enum tl_guest_event {
    TL_GUEST_NONE,
    TL_GUEST_CALL,        // a system call that is not passed through
    TL_GUEST_FAULT,       // `signal` says which
    TL_GUEST_RETURNED,    // to `return_to`
    TL_GUEST_KICKED,      // by tl_guest_kick()
    TL_GUEST_INTERRUPTED, // a signal to the watching thread; the guest runs
};

// A class of calls besides those of session.h: passed through, but not from inside a block.
enum { tl_guest_pass_here = 3 };

enum tl_guest_engine {
    TL_GUEST_SUD,    // dispatch, of one range or (where the kernel cannot, or there are more) by a selector
    TL_GUEST_TRAP,   // a seccomp filter on the instruction pointer
    TL_GUEST_NOTIFY, // the same, and a listener
};

enum {
    tl_guest_area_size = 0x20000, // of a thread, and its alignment
    tl_guest_vectors = 0x2000,    // in it: the guest's vector state
    tl_guest_stack = 0x8000,      // the signal stack, to its end
    tl_guest_ranges = 1024,
    tl_guest_patches = 4096,
    tl_guest_sites = 8192, // a power of two
    tl_guest_threshold = 16,
    tl_guest_trap_data = 0x7471, // what a filter of ours says in si_errno
};

struct tl_guest_range {
    uint64_t start, end;
};

// How a personality's calls come: numbers and arguments in registers, results back in one.
struct tl_guest_convention {
    uint8_t number, args[6], result;
    bool carry_is_error; // an errno is positive, and carry is set; otherwise carry is cleared
};

// A site that jumps to a block.
struct tl_guest_site {
    uint64_t address;
    uint32_t count;
};

struct tl_guest_patch {
    uint64_t site, gate;
};

struct tl_guest_thread {
    uint64_t regs[TL_REGISTERS]; // guest_switch.S knows these
    struct tl_guest_thread *self;
    uint64_t block; // of the rewritten site that came here, or 0; a block's gate writes it
    uint64_t fs, host_fs, host_rsp;
    uint32_t in_guest, kicked;
    uint32_t exact;    // goes on with all registers at regs[RIP]; otherwise rcx and r11 as a call leaves them
    uint32_t event;    // enum tl_guest_event
    uint64_t leave_to; // where it goes on if not exact
    uint8_t selector;
    uint8_t padding[7];

    struct tl_guest *guest;
    uint32_t index, generation;
    uint32_t arch; // AUDIT_ARCH_* of the call
    int32_t signal;
    siginfo_t info;
    uint64_t trap_number; // of a fault, and its error code
    uint64_t error_code;
    uint64_t return_to; // an address that may not be executed
    uint64_t args[6];   // of the call, as they go to the kernel
    int64_t nr;
    uint64_t hot;        // a site that has trapped often by now, and 0 otherwise
    uint64_t goes_on_at; // where an interrupted call that is not made again ends
    bool interrupted;    // a kick has ended a call, which is made again unless its result is set
    bool begun;          // by the kernel, when it was interrupted
    bool restarts;       // what the listener was told has the kernel end the call so
    bool piped;          // the kernel has sent SIGPIPE for a call
    bool has_vectors;    // the guest's vector state is saved
    bool attached;
    bool notified; // of the call by a listener: only its arguments are known
    struct tl_guest_watcher *watcher;
    struct tl_guest_thread *outer; // of the same host thread
    uint32_t host_mxcsr;
    uint16_t host_fcw;
    stack_t old_stack;
    sigset_t old_mask;

    // The decision on the call: set through the transport, by any thread.
    uint32_t decision; // enum tl_guest_decision; a futex
    int64_t value;
    uint64_t call_id, serial;
    uint64_t let_go;         // who had what a call closes
    bool performed, changed; // the call; its arguments
    struct {
        uint64_t rip, rsp, args[6];
        int64_t nr;
    } again;             // a call that hooks have seen and that is made again, or all zero
    struct copy *copies; // of changed arguments

    uint64_t host_gs;
    int32_t host_tid;  // that it runs on
    pthread_t decider; // that its calls are decided on
};

enum tl_guest_decision { TL_GUEST_UNDECIDED, TL_GUEST_GO_ON, TL_GUEST_REPLY, TL_GUEST_KILLED };

// One guest: what its threads share.
struct tl_guest {
    unsigned char *region; // laid out as an agent's, so that the same gate serves: see session.h
    uint8_t *classes;      // enum tl_class by the low 16 bits of the number
    int64_t *constants;
    enum tl_guest_engine engine;
    bool selects; // sud: by the selector
    bool rewrites;
    struct tl_guest_convention convention;
    bool is_linux;       // numbers and registers are the kernel's
    uint32_t generation; // of the ranges: threads are armed anew when they change
    uint32_t range_count;
    struct tl_guest_range ranges[tl_guest_ranges];
    struct sock_fprog catching,
        later; // trap and notify: what catches calls; what threads get that run already
    const void *retired[tl_guest_ranges]; // filters that a thread may be about to install
    unsigned retired_count;
    uint32_t gate_patch, gate_after; // offsets in a gate: the number of its patch, what follows the call
    struct tl_guest_site sites[tl_guest_sites];
    uint32_t patch_count;
    struct tl_guest_patch patches[tl_guest_patches];
    // Does what the personality has a call do, on the thread that made it: 0 or an errno of ours.
    int (*perform)(struct tl_guest_thread *thread, int64_t *result);
    bool owns_files;    // its threads have a table of descriptors of their own
    uint64_t entry;     // where blocks jump to: one instruction
    uint64_t sigreturn; // code that makes rt_sigreturn, where calls are not caught
    uint64_t bell;      // a system call instruction that the filter of notify catches
    uint64_t id;        // of no other guest
    uint64_t passed;    // calls that went straight to the kernel, but for those from blocks
};

struct tl_error *tl_guest_new(enum tl_guest_engine engine, bool rewrites, struct tl_guest **guest);
void tl_guest_free(struct tl_guest *guest);
// Counts a call of a site; true once it has made enough of them to be worth rewriting.
bool tl_guest_is_hot(struct tl_guest *guest, uint64_t site);
bool tl_guest_has(const struct tl_guest *guest, uint64_t address);

struct tl_error *tl_guest_thread_new(struct tl_guest *guest, struct tl_guest_thread **thread);
void tl_guest_thread_free(struct tl_guest_thread *thread); // not attached

// The calling thread becomes THREAD, until detached; threads nest.
struct tl_error *tl_guest_attach(struct tl_guest_thread *thread);
void tl_guest_detach(struct tl_guest_thread *thread);
// Runs an attached thread up to its next event.
enum tl_guest_event tl_guest_run(struct tl_guest_thread *thread);
// What becomes of a call whose event tl_guest_run() returned.
void tl_guest_finish(struct tl_guest_thread *thread, int64_t result);
// Has the kernel perform the call, on the calling thread. False: a kick has come first, or has ended it.
bool tl_guest_perform(struct tl_guest_thread *thread, int64_t *result);
// The call is made again when the guest goes on.
void tl_guest_restart(struct tl_guest_thread *thread);
// Has tl_guest_run() return soon. Any thread may do so.
void tl_guest_kick(struct tl_guest_thread *thread);

// The same, and what its host waits for in a hook ends with EINTR.
void tl_guest_nudge(struct tl_guest_thread *thread);

// Makes a system call, unless *KICKED is set, or ends it when that is set by a kick of this thread.
long tl_guest_syscall(const uint64_t args[6], long nr, const uint32_t *kicked);

// The transport of a guest's calls: they are not received, its own threads bring them.
struct tl_transport *tl_guest_transport_new(void);
void tl_guest_call(struct tl_guest_thread *thread, struct tl_call *call); // begins a call
enum tl_guest_decision tl_guest_wait(struct tl_guest_thread *thread);     // until it is decided, or a kick
void tl_guest_end_call(struct tl_guest_thread *thread);
// The call is made again, with the arguments that it has now; hooks have seen it.
void tl_guest_remember(struct tl_guest_thread *thread);
bool tl_guest_recall(struct tl_guest_thread *thread);

// guest_notify.c: in place of tl_guest_run() and tl_guest_finish().
long tl_guest_watcher_start(struct tl_guest_thread *thread);
void tl_guest_watcher_stop(struct tl_guest_thread *thread);
enum tl_guest_event tl_guest_watch(struct tl_guest_thread *thread);
void tl_guest_watcher_reply(struct tl_guest_thread *thread, int64_t result);
void tl_guest_watcher_continue(struct tl_guest_thread *thread);
void tl_guest_watcher_restart(struct tl_guest_thread *thread);
void tl_guest_watcher_kick(struct tl_guest_thread *thread);

// guest.c, for the others
void tl_guest_arm_again(struct tl_guest_thread *thread); // the ranges have changed
void tl_guest_enter_thread(struct tl_guest_thread *thread);
long tl_guest_install_filter(const struct sock_fprog *program, unsigned flags);

// guest_descriptors.c
enum { tl_guest_lowest_listener = 512 };
// What a call does with descriptors.
enum tl_guest_descriptors {
    TL_GUEST_NO_DESCRIPTORS,
    TL_GUEST_CLOSES,        // args[0]
    TL_GUEST_REPLACES,      // args[1]
    TL_GUEST_CLOSES_RANGE,  // from args[0] to args[1]
    TL_GUEST_OPENS,         // its result
    TL_GUEST_OPENS_TWO,     // in an array at args[0]
    TL_GUEST_OPENS_PAIR,    // in an array at args[3]
    TL_GUEST_RECEIVES,      // in a message at args[1]
    TL_GUEST_RECEIVES_MANY, // in messages there
    TL_GUEST_CONTROLS,      // fcntl
    TL_GUEST_REQUESTS,      // ioctl
};
void tl_guest_tell_descriptors(bool is_i386, unsigned nr, enum tl_guest_descriptors kind);
bool tl_guest_has_descriptors(uint32_t arch, int64_t nr);
void tl_guest_keep(int fd); // it is no guest's, not even where a guest has a copy of it
// True: the call is about a descriptor that is not the guest's, or is done; RESULT is what the guest gets.
bool tl_guest_spare(struct tl_guest_thread *thread, int64_t *result);
void tl_guest_take_back(const struct tl_guest_thread *thread); // the call has not been made after all
// It has: what it has brought is the guest's.
void tl_guest_bring(const struct tl_guest_thread *thread, int64_t result);
void tl_guest_note_descriptor(const struct tl_guest *guest, unsigned fd);
void tl_guest_close_descriptors(const struct tl_guest *guest); // that its calls have brought

// guest_signal.c
struct tl_error *tl_guest_catch_signals(void);
void tl_guest_release_signals(void);
void tl_guest_catch_again(void); // where somebody else has taken them meanwhile
int tl_guest_kick_signal(void);
int tl_guest_nudge_signal(void);
extern uint64_t tl_guest_areas;
enum { tl_guest_threads_max = 4096 };

#endif
