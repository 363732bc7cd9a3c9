// Signals of guest threads. The handlers run on the signal stack of the thread's area, with the guest's fs
// and vector registers in place: built without vector registers and stack protector, they call nothing of
// libc.
#include "guest.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "guest_offsets.h"
#include "rawcall.h"

extern const char tl_guest_switch[], tl_guest_window[], tl_guest_window_end[], tl_guest_left[];
extern const char tl_guest_from_block[], tl_guest_from_block_end[];
extern const char tl_guest_syscall_window[], tl_guest_syscall_done[], tl_guest_syscall_abort[];
extern const char tl_guest_int80_window[], tl_guest_int80_done[], tl_guest_int80_abort[];

#define AT(field, value) _Static_assert(offsetof(struct tl_guest_thread, field) == (value), #field)
AT(regs[TL_R8], GUEST_R8);
AT(regs[TL_EFLAGS], GUEST_EFLAGS);
AT(block, GUEST_BLOCK);
AT(fs, GUEST_FS);
AT(host_fs, GUEST_HOST_FS);
AT(host_rsp, GUEST_HOST_RSP);
AT(in_guest, GUEST_IN);
AT(kicked, GUEST_KICKED);
AT(exact, GUEST_EXACT);
AT(event, GUEST_EVENT);
AT(leave_to, GUEST_LEAVE_TO);
AT(selector, GUEST_SELECTOR);
_Static_assert((int)TL_GUEST_CALL == GUEST_EVENT_CALL && TL_GUEST_KICKED == 4, "events");

enum { SECCOMP_TRAP = 1, USER_DISPATCH = 2, plain_flags = 0x202 };

static const int caught[] = {SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGPIPE};
enum { caught_count = sizeof caught / sizeof *caught };

uint64_t tl_guest_areas;
static int kick_signal, nudge_signal;
static struct sigaction before[65];
static bool is_given[65]; // back to whoever had it
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;

static bool is_within(uint64_t address, const char *start, const char *end)
{
    return address >= (uintptr_t)start && address < (uintptr_t)end;
}

// The thread whose signal stack this is.
static struct tl_guest_thread *this_thread(void)
{
    uint64_t stack = (uint64_t)__builtin_frame_address(0);

    if (stack - tl_guest_areas >= (uint64_t)tl_guest_threads_max * tl_guest_area_size)
        return NULL;
    return (struct tl_guest_thread *)(stack & -(uint64_t)tl_guest_area_size);
}

static void leave(struct tl_guest_thread *thread, ucontext_t *context, enum tl_guest_event event)
{
    greg_t *regs = context->uc_mcontext.gregs;

    __asm__ volatile("rdfsbase %0" : "=r"(thread->fs));
    __asm__ volatile("wrfsbase %0" ::"r"(thread->host_fs));
    thread->in_guest = 0;
    thread->event = event;
    regs[TL_RIP] = (greg_t)tl_guest_left;
    regs[TL_RSP] = (greg_t)thread->host_rsp;
    regs[TL_RDI] = (greg_t)thread;
    regs[TL_EFLAGS] = plain_flags;
}

static void save(struct tl_guest_thread *thread, const ucontext_t *context)
{
    for (int i = 0; i < TL_REGISTERS; i++)
        thread->regs[i] = (uint64_t)context->uc_mcontext.gregs[i];
    thread->exact = 1;
}

static void leave_kicked(struct tl_guest_thread *thread, ucontext_t *context)
{
    uint64_t rip = (uint64_t)context->uc_mcontext.gregs[TL_RIP];

    thread->selector = 0;
    if (is_within(rip, tl_guest_window, tl_guest_window_end)) {
        uint64_t fs = thread->fs;
        leave(thread, context, TL_GUEST_KICKED);
        thread->fs = fs; // it may not have been set yet
    } else if (!is_within(rip, tl_guest_switch, tl_guest_from_block_end) && rip != thread->guest->entry) {
        save(thread, context);
        thread->interrupted = thread->restarts;
        thread->restarts = false;
        leave(thread, context, TL_GUEST_KICKED);
    }
}

static void on_kick(int number, siginfo_t *info, void *argument)
{
    ucontext_t *context = argument;
    greg_t *rip = &context->uc_mcontext.gregs[TL_RIP];
    struct tl_guest_thread *thread = this_thread();

    (void)number;
    (void)info;
    if (thread)
        __atomic_store_n(&thread->kicked, 1, __ATOMIC_RELAXED);
    if (!thread || !thread->in_guest) {
        if (is_within((uint64_t)*rip, tl_guest_syscall_window, tl_guest_syscall_done))
            *rip = (greg_t)tl_guest_syscall_abort;
        else if (is_within((uint64_t)*rip, tl_guest_int80_window, tl_guest_int80_done))
            *rip = (greg_t)tl_guest_int80_abort;
        return;
    }
    leave_kicked(thread, context);
}

// A call under a filter of ours that is no guest's: the filter cannot be taken back, so it is made here.
static void make_call(ucontext_t *context)
{
    greg_t *r = context->uc_mcontext.gregs;

    r[TL_RAX] = tl_rawcall(r[TL_RAX], r[TL_RDI], r[TL_RSI], r[TL_RDX], r[TL_R10], r[TL_R8], r[TL_R9]);
}

// A signal that is none of a guest's: whoever had it before us has it again, until the next guest runs. The
// instruction of a fault faults again; what was sent is sent again.
static void hand_on(int number, siginfo_t *info, ucontext_t *context)
{
    struct sigaction nobody = {.sa_handler = SIG_DFL};

    if (number == SIGSYS && info->si_code == SECCOMP_TRAP && info->si_errno == tl_guest_trap_data) {
        make_call(context);
        return;
    }
    sigaction(number, is_given[number] ? &nobody : &before[number], NULL);
    is_given[number] = true;
    if (info->si_code <= 0 || number == SIGTRAP || number == SIGSYS)
        tl_rawcall(__NR_tgkill, getpid(), gettid(), number, 0, 0, 0);
}

// A call that the guest itself has made, rewritten or let go on by the listener. The others are told by their
// errors, see tl_guest_perform(). What this process writes to a broken pipe is its own affair.
static void on_pipe(int number, siginfo_t *info, void *argument)
{
    struct tl_guest_thread *thread = this_thread();

    if (thread && thread->in_guest) {
        thread->piped = true;
        __atomic_store_n(&thread->kicked, 1, __ATOMIC_RELAXED);
        leave_kicked(thread, argument);
    } else if (before[number].sa_handler != SIG_IGN && !thread) {
        hand_on(number, info, argument);
    }
}

// The selector catches calls again before the one that returns, which is made where dispatch lets it through.
_Noreturn static void return_to_guest(struct tl_guest_thread *thread, ucontext_t *context)
{
    thread->selector = 1;
    __asm__ volatile("movq %0, %%rsp\n"
                     "jmp *%1"
                     :
                     : "r"(context), "r"(thread->guest->sigreturn)
                     : "memory");
    __builtin_unreachable();
}

static bool is_call(int number, const siginfo_t *info)
{
    return number == SIGSYS && (info->si_code == USER_DISPATCH ||
                                (info->si_code == SECCOMP_TRAP && info->si_errno == tl_guest_trap_data));
}

static void on_fault(int number, siginfo_t *info, void *argument)
{
    ucontext_t *context = argument;
    uint64_t rip = (uint64_t)context->uc_mcontext.gregs[TL_RIP];
    struct tl_guest_thread *thread = this_thread();

    bool is_sent = info->si_code <= 0 && number != SIGSYS;
    bool is_entering = is_within(rip, tl_guest_window, tl_guest_window_end);
    if (!thread || !thread->in_guest || is_sent ||
        (!is_entering && is_within(rip, tl_guest_switch, tl_guest_from_block_end))) {
        hand_on(number, info, context);
        return;
    }
    thread->selector = 0;
    if (is_call(number, info)) {
        if (!tl_guest_has(thread->guest, rip)) {
            make_call(
                context); // of host code that a guest has jumped to, seen by the selector or an old filter
            return_to_guest(thread, context);
        }
        save(thread, context);
        thread->arch = info->si_arch;
        leave(thread, context, TL_GUEST_CALL);
        return;
    }
    thread->signal = number;
    __builtin_memcpy(&thread->info, info, 32);
    thread->trap_number = (uint64_t)context->uc_mcontext.gregs[REG_TRAPNO];
    thread->error_code = (uint64_t)context->uc_mcontext.gregs[REG_ERR];
    if (!is_entering)
        save(thread, context);
    leave(thread, context,
          number == SIGSEGV && rip == thread->return_to ? TL_GUEST_RETURNED : TL_GUEST_FAULT);
}

static void (*handler_of(int number))(int, siginfo_t *, void *)
{
    return number == SIGPIPE ? on_pipe : on_fault;
}

static bool has_ours(int number)
{
    struct sigaction action;

    sigaction(number, NULL, &action);
    return action.sa_flags & SA_SIGINFO && action.sa_sigaction == handler_of(number);
}

static int claim(int highest, int flags)
{
    struct sigaction action;

    for (int number = highest; number >= SIGRTMIN; number--) {
        if (sigaction(number, NULL, &action) || action.sa_flags & SA_SIGINFO || action.sa_handler != SIG_DFL)
            continue;
        action = (struct sigaction){.sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_ONSTACK | flags};
        sigfillset(&action.sa_mask);
        if (sigaction(number, &action, NULL) == 0)
            return number;
    }
    return 0;
}

static void claim_kicks(void)
{
    if (!kick_signal)
        kick_signal = claim(SIGRTMAX - 2, SA_RESTART);
    if (kick_signal && !nudge_signal)
        nudge_signal = claim(kick_signal - 1, 0);
}

// Somebody else may have set handlers since, such as faulthandler: theirs get what is not a guest's.
static void catch_all(void)
{
    for (int i = 0; i < caught_count; i++) {
        struct sigaction action = {.sa_sigaction = handler_of(caught[i]),
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
        sigfillset(&action.sa_mask);
        if (has_ours(caught[i]))
            continue;
        is_given[caught[i]] = false;
        sigaction(caught[i], &action, &before[caught[i]]);
    }
}

void tl_guest_catch_again(void)
{
    bool is_complete = true;

    for (int i = 0; i < caught_count; i++)
        is_complete = is_complete && has_ours(caught[i]);
    if (is_complete)
        return;
    pthread_mutex_lock(&lock);
    catch_all();
    pthread_mutex_unlock(&lock);
}

struct tl_error *tl_guest_catch_signals(void)
{
    pthread_mutex_lock(&lock);
    claim_kicks();
    if (nudge_signal)
        catch_all();
    users += nudge_signal != 0;
    pthread_mutex_unlock(&lock);
    return nudge_signal ? NULL : tl_error_new(EBUSY, "no two real-time signals are free");
}

// SIGSYS stays ours: a filter may outlive the last guest.
void tl_guest_release_signals(void)
{
    pthread_mutex_lock(&lock);
    if (--users == 0)
        for (int i = 1; i < caught_count; i++)
            if (has_ours(caught[i]))
                sigaction(caught[i], &before[caught[i]], NULL);
    pthread_mutex_unlock(&lock);
}

int tl_guest_kick_signal(void)
{
    return kick_signal;
}

int tl_guest_nudge_signal(void)
{
    return nudge_signal;
}

void tl_guest_kick(struct tl_guest_thread *thread)
{
    // What has been sent for an earlier one will do, and each ends a call.
    if (__atomic_exchange_n(&thread->kicked, 1, __ATOMIC_SEQ_CST))
        return;
    if (__atomic_load_n(&thread->attached, __ATOMIC_SEQ_CST))
        tl_rawcall(__NR_tgkill, getpid(), thread->host_tid, tl_guest_kick_signal(), 0, 0, 0);
    if (thread->attached && thread->watcher)
        tl_guest_watcher_kick(thread);
}

void tl_guest_nudge(struct tl_guest_thread *thread)
{
    bool is_in_hook = !__atomic_load_n(&thread->in_guest, __ATOMIC_SEQ_CST);

    tl_guest_kick(thread);
    if (is_in_hook && thread->attached && !thread->watcher)
        tl_rawcall(__NR_tgkill, getpid(), thread->host_tid, tl_guest_nudge_signal(), 0, 0, 0);
}
