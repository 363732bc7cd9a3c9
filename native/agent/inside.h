// What the agent's files share. The agent lives inside a stranger: no libc, no thread-local storage, no
// vector registers, no writable data but the region's own.
#ifndef TL_INSIDE_H
#define TL_INSIDE_H

#include "session.h"

// Positions of registers in the kernel's signal frames, and so in tl_thread.regs.
enum {
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RDI,
    RSI,
    RBP,
    RBX,
    RDX,
    RAX,
    RCX,
    RSP,
    RIP,
    EFLAGS,
    registers = EFLAGS + 1,
}; // clang-format: keep

// The kernel's own view of its structures: libc's differ.
typedef uint64_t tl_sigset;

struct tl_action {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    tl_sigset mask;
};

struct tl_stack {
    uint64_t sp;
    int32_t flags;
    int32_t padding;
    uint64_t size;
};

struct tl_siginfo {
    int32_t number, error, code, padding;
    union {
        uint64_t rest[14];
        struct {
            uint64_t address;
            int32_t call;
            uint32_t arch;
        } sys;
        uint64_t fault_address;
    };
};

struct tl_context {
    uint64_t flags, link;
    struct tl_stack stack;
    uint64_t regs[registers];
    uint64_t segments, error, trap, old_mask, cr2;
    uint64_t fpstate;
    uint64_t reserved[8];
    tl_sigset mask;
};

struct tl_frame {
    uint64_t restorer;
    struct tl_context context;
    struct tl_siginfo info;
};

enum { signals = 64, tl_arch_i386 = 0x40000003 };

// The signal actions that the program believes to have. Threads share one, and so do no two processes.
struct tl_handlers {
    uint32_t users;
    struct tl_action action[signals + 1];
};

// A rule's delay, made like a call of the program: the call is yet to come, or its result is in
// tl_thread.result.
enum tl_sleep { TL_SLEEPS_NOT, TL_SLEEPS_BEFORE, TL_SLEEPS_AFTER };

enum tl_again_state { TL_AGAIN_UNUSED, TL_AGAIN_HANDLED, TL_AGAIN_DUE };

// A call that was not made because of a signal: once its handler is done (DUE) the program makes it again,
// and the rules go on from where they were.
struct tl_again {
    uint32_t state, at; // in the call's list of rules
    int64_t nr;
    uint64_t rip, rsp;
    uint64_t until; // the end of a delay, or 0
    uint64_t delay_exit_ns;
};

// How a call is performed after its arguments are known.
struct tl_thread {
    uint64_t regs[registers]; // of the program, at its system call; entry.S knows this offset
    struct tl_thread *self;
    uint64_t block;   // of the patched site that came here, or 0
    uint64_t args[6]; // as they go to the kernel
    int64_t nr;
    uint32_t pending;  // a signal waits in `deferred`; the kernel's mask is full
    uint32_t aborted;  // the call was not made, because of that
    uint64_t leave_to; // where the program goes on: regs[RIP], or the block that stands for it
    uint32_t
        exact; // it goes on with all of regs and segments; otherwise rcx and r11 are as a syscall leaves them
    uint32_t direct;   // the call in progress is only recorded: direct.c
    uint64_t segments; // cs, gs, fs and ss, as in a signal frame
    int64_t result;
    uint32_t state; // enum tl_thread_state
    uint32_t index; // in tl_process.threads, and in this thread's segment
    uint32_t arch;
    int32_t kind;           // the native number of what the call is, by whatever convention it is made
    bool mask_is_full;      // all signals are blocked by the agent
    tl_sigset held_blocked; // of tl_held_signals: what the program believes to block
    tl_sigset held_pending; // of these: sent, and waiting in held_info until the program unblocks them
    bool is_strict;         // the program has put itself into seccomp's strict mode
    bool is_filtered;       // a filter of the program's own has trapped the call
    bool has_no_clock;      // the program has forbidden itself to read the time stamp counter
    int32_t sent;           // the signal that the agent sends itself, for the program
    tl_sigset mask;         // as the program set it, without tl_held_signals
    tl_sigset waiting;      // arrived when they could not be delivered, and are in the kernel again
    struct tl_stack stack;  // the alternate stack that the program set
    struct tl_handlers *handlers;
    struct tl_mailbox *mailbox;
    int32_t tid;
    int32_t outer_pid, outer_tid; // the same in the supervisor's namespace
    uint32_t in_copy;
    struct tl_frame deferred; // the frame of the signal that waits
    uint64_t room, room_size; // for copies of changed arguments
    struct tl_siginfo held_info[3];
    tl_sigset temporary_mask; // what rt_sigsuspend and its like wait with
    bool has_temporary_mask;
    tl_sigset temporary_held;
    int32_t pid;
    uint64_t scratch[4];
    uint64_t clone_flags;
    uint64_t delay_exit_ns; // what rules want when the call in progress has its result
    uint32_t rule_signal;   // what they raise then
    uint32_t rule_pokes;    // how many of them change memory then
    uint16_t poking[4];     // these
    uint32_t rules_end;     // how many rules it has
    uint8_t sleeps;         // enum tl_sleep
    bool begins_again;      // the call in progress was not made before because of a signal
    uint32_t again_next;
    struct tl_again again[4];
    struct tl_ring *ring; // where its calls are recorded, and its bytes
    uint8_t *ring_at;
    uint64_t ring_ahead; // up to here its head needs no look at the tail
    bool is_recorded;    // the call in progress is
    uint64_t dispatch_mode, dispatch_offset, dispatch_size, dispatch_selector; // the program's own
};

enum tl_thread_state { TL_THREAD_UNUSED, TL_THREAD_LIVE, TL_THREAD_ENDING };

enum { threads_max = 16384 };

enum {
    patches_max = 1536,
    sites_max = 4096, // a power of two
    near_max = 32,
    points_max = 8,
    window_max = 24,
};

enum tl_patch_state { TL_PATCH_NONE, TL_PATCH_WRITING, TL_PATCH_LIVE, TL_PATCH_GONE };

// A site that jumps to its block.
struct tl_patch {
    uint64_t site;        // address of its system call instruction
    uint64_t block, gate; // the two pieces of its block, which may be one
    uint16_t block_size, split, gate_at, pass, gate_end;
    uint8_t state, point_count, window_size;
    int8_t start;
    struct tl_plan_point points[points_max];
    uint8_t original[window_max], written[window_max];
};

// How often a site has trapped.
struct tl_site {
    uint64_t address;
    uint32_t count;
    uint32_t question; // 0: not asked yet; else one more than its number, or one of these
    uint32_t naps;     // that threads have taken until it was answered
};

enum { site_asking = 0xfffe, site_done = 0xffff, syscall_bytes = 0x050f };

// A page of blocks near code that the region is too far away from.
struct tl_near {
    uint64_t page;
};

struct tl_process {
    struct tl_start start; // first: the supervisor writes it
    uint16_t segment;      // selector whose limit is the index of a thread
    uint16_t has_segment;
    uint32_t reserved;
    struct tl_thread *threads[threads_max];
    struct tl_visit visit;
    int32_t pid;
    int32_t outer_pid;     // in the supervisor's namespace
    uint32_t lock;         // of the lists below
    uint32_t thread_count; // indexes given out so far
    uint32_t *low_page;    // below 4 GB, for calls by the 32-bit convention
    struct tl_handlers handlers[64];
    struct tl_report *report;
    uint32_t patch_lock, patch_count;
    uint32_t is_writing; // a window, at which other threads trap meanwhile
    uint32_t naps;       // that threads have taken until sites were planned
    uint64_t block_end;  // blocks are below
    struct tl_near nears[near_max];
    uint32_t near_count;
    bool has_registered; // the program itself, for barriers that rewriting needs
    uint32_t no_patches; // every call must trap
    uint32_t maps;       // counts changes of what code is where, while stacks are recorded
    struct tl_patch patches[patches_max];
    struct tl_site sites[sites_max];
};

struct tl_bounds {
    uint64_t start, end;
};

extern struct tl_process tl_process;
extern struct tl_session tl_session;
extern const char tl_image[], tl_blocks_start[], tl_region_end[];

// entry.S
long tl_raw(long nr, long a, long b, long c, long d, long e, long f);
long tl_perform_native(struct tl_thread *thread);
long tl_clone(struct tl_thread *thread, struct tl_thread *child);
_Noreturn void tl_exit_thread(long status, uint32_t *state);
_Noreturn void tl_resume(struct tl_thread *thread);
_Noreturn void tl_sigreturn(struct tl_context *context); // in a thread's record; nothing is pending then
void tl_restorer(void);
extern const char tl_raw_done[], tl_sigreturn_start[], tl_restorer_done[], tl_segment_done[];
int tl_copy(void *to, const void *from, size_t size); // 0, or -EFAULT
// Up to a NUL, and with it: how many bytes, or -EFAULT. May write up to 7 bytes more, but no more than SIZE.
long tl_copy_string(void *to, const void *from, size_t size);
long tl_perform_int80(struct tl_thread *thread);
extern const char tl_perform_window[], tl_perform_call[], tl_perform_abort[], tl_perform_done[];
extern const char tl_perform_int80_window[], tl_perform_int80_call[], tl_perform_int80_done[];
extern const char tl_entry_start[], tl_entry_end[], tl_leave_start[], tl_leave_end[];
extern const char tl_copy_start[], tl_copy_end[], tl_copy_failed[];
extern const char tl_body[];

// dispatch.c
void tl_from_trap(struct tl_thread *thread);
void tl_from_block(struct tl_thread *thread);
long tl_do_call(struct tl_thread *thread); // without asking anybody

// i386.c
bool tl_do_i386(struct tl_thread *thread, long *result); // false: as the native call of its kind

// hooks.c
bool tl_is_wanted(const struct tl_thread *thread, unsigned wants);
bool tl_ask_hooks(struct tl_thread *thread, enum tl_request request, long *result); // true: RESULT is decided

// rules.c
bool tl_rules_before(struct tl_thread *thread,
                     long *result); // true: RESULT is decided, or the call is aborted
void tl_rules_aborted(struct tl_thread *thread);
void tl_rules_after(struct tl_thread *thread, long result);
void tl_rules_begin(const struct tl_thread *thread);                         // a new one
void tl_rules_handled(struct tl_thread *thread, uint64_t rip, uint64_t rsp); // the program goes on there

// trace.c
void tl_trace_begin_program(struct tl_thread *thread);
void tl_trace_forget(struct tl_thread *thread);
void tl_trace_before(struct tl_thread *thread);
void tl_trace_after(struct tl_thread *thread, long result);
void tl_trace_returned(struct tl_thread *thread, uint64_t mask, long result);
void tl_trace_aborted(struct tl_thread *thread);
void tl_trace_signal(struct tl_thread *thread, const struct tl_siginfo *info);

// bpf.c
uint32_t tl_bpf_run(const struct tl_thread *thread);

// signal.c: what the kernel calls for every signal.
void tl_on_signal(int number, struct tl_siginfo *info, struct tl_context *context);
_Noreturn void tl_deliver(struct tl_thread *thread);
_Noreturn void tl_resume_with(struct tl_thread *thread, tl_sigset mask);
void tl_send(struct tl_thread *thread, const struct tl_siginfo *info);
void tl_force(struct tl_thread *thread, const struct tl_siginfo *info);
long tl_call_rt_sigreturn(struct tl_thread *thread);

// actions.c
tl_sigset tl_all_signals(void);
bool tl_needs_signal(int number); // the agent itself
long tl_kernel_action(int number, const struct tl_action *action, struct tl_action *old);
void tl_install_action(int number, const struct tl_action *wanted);
bool tl_is_on_stack(const struct tl_stack *stack, uint64_t sp);
void tl_block_signals(struct tl_thread *thread);
void tl_block_all(struct tl_thread *thread); // those of faults too: no bad address may be met
void tl_restore_signals(struct tl_thread *thread);
void tl_show_signals(struct tl_thread *thread, bool alone, tl_sigset mask);
void tl_hide_signals(struct tl_thread *thread);
void tl_install_handlers(struct tl_handlers *handlers, bool ask);
long tl_call_rt_sigaction(struct tl_thread *thread);
long tl_change_action(struct tl_thread *thread, int number, const struct tl_action *wanted,
                      struct tl_action *old);
long tl_call_sigaltstack(struct tl_thread *thread);
long tl_change_stack(struct tl_thread *thread, const struct tl_stack *wanted);
struct tl_stack tl_stack_seen(const struct tl_thread *thread, uint64_t sp);

// memory.c: false where there is no such memory
bool tl_read(void *to, uint64_t from, size_t size);
bool tl_write(uint64_t to, const void *from, size_t size);
size_t tl_read_string(void *to, uint64_t from,
                      size_t most); // how many bytes; the last is a NUL, or MOST are there

// masks.c
// Sends what has waited and is not in BLOCKED.
void tl_release_held(struct tl_thread *thread, tl_sigset blocked);
tl_sigset tl_mask_seen(const struct tl_thread *thread);
long tl_change_mask(struct tl_thread *thread, int how, tl_sigset set);
long tl_call_rt_sigprocmask(struct tl_thread *thread);
long tl_call_rt_sigpending(struct tl_thread *thread);
long tl_call_rt_sigtimedwait(struct tl_thread *thread);
long tl_call_masked(struct tl_thread *thread);

static inline long tl_perform(struct tl_thread *thread)
{
    return thread->arch == tl_arch_i386 ? tl_perform_int80(thread) : tl_perform_native(thread);
}

static inline tl_sigset tl_bit(int number)
{
    return (tl_sigset)1 << (number - 1);
}

// process.c
long tl_call_clone(struct tl_thread *thread);
long tl_call_exit(struct tl_thread *thread);
long tl_call_exit_group(struct tl_thread *thread);
long tl_call_execve(struct tl_thread *thread);
void tl_find_clock(struct tl_thread *thread);
struct tl_thread *tl_thread_new(void);
void tl_child_start(struct tl_thread *thread);
void tl_set_signal_stack(struct tl_thread *thread);
void tl_set_segment(struct tl_thread *thread); // to none once the thread is not in use
bool tl_begin_process(struct tl_thread *thread);
_Noreturn void tl_begin(struct tl_thread *thread);

// ask.c: -1 when there is nobody to ask.
int tl_ask(struct tl_thread *thread, enum tl_request request);
int tl_ask_again(struct tl_thread *thread);
void tl_warn(struct tl_thread *thread, enum tl_unhooked reason, long error, uint64_t path);
void tl_ring(void);
struct tl_mailbox *tl_mailbox_of(struct tl_thread *thread);
void tl_mailbox_leave(struct tl_thread *thread);

long tl_call_namespace(struct tl_thread *thread);
void tl_find_out(struct tl_thread *thread); // who it is, once it knows its pid and tid

// guard.c: the program's hands off the agent's memory and descriptors.
bool tl_is_ours_fd(int fd);
long tl_call_close(struct tl_thread *thread);
long tl_call_close_range(struct tl_thread *thread);
long tl_call_dup2(struct tl_thread *thread);
long tl_call_probing(struct tl_thread *thread);
long tl_call_stat_at(struct tl_thread *thread);
long tl_call_memory(struct tl_thread *thread);
long tl_call_membarrier(struct tl_thread *thread);

// dispatching.c: the program's own Syscall User Dispatch.
long tl_call_prctl(struct tl_thread *thread);
bool tl_is_dispatched(struct tl_thread *thread); // true: its SIGSYS is on its way

// reach.c
long tl_reach(long dirfd, uint64_t path, long flags, enum tl_unhooked *reason);

// tracing.c
long tl_call_ptrace(struct tl_thread *thread);
void tl_leave_program(struct tl_thread *thread);
void tl_give_back_process(void);
void tl_give_back_handlers(const struct tl_handlers *handlers);
void tl_give_back_thread(struct tl_thread *thread);

// visit.c: in a stopped thread. They return the arguments of the dispatch that is to be, with which entry.S
// goes on.
const uint64_t *tl_enter_thread(void);
const uint64_t *tl_leave_thread(void);
void tl_go_on(struct tl_thread *thread, long result); // after a call that was under way then
extern const char tl_restarted[];

bool tl_is_alone(void); // the only thread of its process

// listing.c
long tl_call_getdents64(struct tl_thread *thread);

// filtering.c: the program's own seccomp.
long tl_call_seccomp(struct tl_thread *thread);
void tl_check_strict(struct tl_thread *thread);

// patch.c
int tl_patch_commit(const struct tl_plan *plan, uint64_t site); // a reason, or -1
const struct tl_patch *tl_patch_of_block(uint64_t gate);
void tl_patches_forget(uint64_t start, uint64_t end);
void tl_patches_undo(uint64_t start, uint64_t end);
void tl_patches_stop(void);

// sites.c
void tl_site_trapped(uint64_t address);
void tl_sites_forget(uint64_t start, uint64_t end);

// patched.c: where the program is, seen from a block or from a window.
bool tl_show_program(uint64_t at[registers]);
bool tl_put_right(int number, uint64_t at[registers]);
bool tl_is_extra_step(uint64_t address);
void tl_repeat_in_block(uint64_t at[registers]);
bool tl_is_trapping(uint8_t byte);
extern const char tl_gate[], tl_gate_flags_saved[], tl_gate_flags_back[], tl_gate_patch[], tl_gate_decided[];
extern const char tl_gate_rax_back[], tl_gate_pass[], tl_gate_after[], tl_gate_return[];

struct tl_report *tl_report_new(int32_t pid);

// Native signal numbers and bits: libc's headers clash with the kernel's structures here.
enum {
    SIGILL = 4,
    SIGTRAP = 5,
    SIGBUS = 7,
    SIGKILL = 9,
    SIGSEGV = 11,
    SIGCHLD = 17,
    SIGSTOP = 19,
    SIGSYS = 31
};
enum {
    EPERM = 1,
    ESRCH = 3,
    EINTR = 4,
    EBADF = 9,
    EAGAIN = 11,
    ENOMEM = 12,
    EFAULT = 14,
    EINVAL = 22,
    ENOSYS = 38
};

// Signals that the agent must get whatever the program blocks: the kernel ends a program that raises one of
// them while it is blocked. With rewriting, traps in windows are among them.
static inline tl_sigset tl_held_signals(void)
{
    tl_sigset traps = (tl_sigset)1 << (SIGTRAP - 1) | (tl_sigset)1 << (SIGILL - 1);

    return (tl_sigset)1 << (SIGSYS - 1) | (tl_session.flags & TL_ENGINE_REWRITES ? traps : 0);
}

static inline struct tl_siginfo *tl_held_info(struct tl_thread *thread, int number)
{
    return &thread->held_info[number == SIGSYS ? 0 : number == SIGTRAP ? 1 : 2];
}

static inline bool tl_is_error(long result)
{
    return (unsigned long)result > -4096ul;
}

static inline long tl_call3(long nr, long a, long b, long c)
{
    return tl_raw(nr, a, b, c, 0, 0, 0);
}

static inline void tl_lock(uint32_t *lock)
{
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
}

static inline void tl_unlock(uint32_t *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

// In a signal handler: the kernel's frames are on the signal stack of the thread's own area.
static inline struct tl_thread *tl_this_thread(void)
{
    return (struct tl_thread *)((uint64_t)__builtin_frame_address(0) & -(uint64_t)tl_thread_size);
}

#endif
