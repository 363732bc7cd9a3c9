// Running a guest thread. Between two entries the guest's vector registers are in place, unless its host has
// something to do: built without vector registers, like the handlers.
#include "guest.h"

#include <errno.h>
#include <linux/audit.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"

int tl_guest_switch(struct tl_guest_thread *thread);
long tl_guest_int80(const uint64_t args[6], long nr, const uint32_t *kicked);

static const long not_begun = 1L << 62, aborted = not_begun + 1;

enum { vector_components = 0xe7 }; // x87, SSE, AVX, AVX-512

static void save_vectors(struct tl_guest_thread *thread)
{
    void *area = (char *)thread + tl_guest_vectors;

    __asm__ volatile("xsavec64 (%0)\n"
                     "fninit\n"
                     "vzeroupper\n"
                     "fldcw %1\n"
                     "ldmxcsr %2"
                     :
                     : "r"(area), "m"(thread->host_fcw), "m"(thread->host_mxcsr), "a"(vector_components),
                       "d"(0)
                     : "memory");
    thread->has_vectors = true;
}

static void load_vectors(struct tl_guest_thread *thread)
{
    void *area = (char *)thread + tl_guest_vectors;

    if (!thread->has_vectors)
        return;
    thread->has_vectors = false;
    __asm__ volatile("stmxcsr %0\nfnstcw %1" : "=m"(thread->host_mxcsr), "=m"(thread->host_fcw));
    __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"(vector_components), "d"(0) : "memory");
}

static const uint8_t i386_order[6] = {TL_RBX, TL_RCX, TL_RDX, TL_RSI, TL_RDI, TL_RBP};

static void take_call(struct tl_guest_thread *thread)
{
    const struct tl_guest_convention *convention = &thread->guest->convention;
    bool is_i386 = thread->guest->is_linux && thread->arch == AUDIT_ARCH_I386;
    const uint8_t *order = is_i386 ? i386_order : convention->args;

    thread->nr = (int64_t)thread->regs[is_i386 ? TL_RAX : convention->number];
    for (int i = 0; i < 6; i++)
        thread->args[i] = is_i386 ? (uint32_t)thread->regs[order[i]] : thread->regs[order[i]];
    thread->interrupted = false;
}

// The registers that a block does not save, and where it goes on.
static void come_from_block(struct tl_guest_thread *thread)
{
    struct tl_guest *guest = thread->guest;
    uint32_t number = *(const uint32_t *)(thread->block + guest->gate_patch);

    thread->arch = AUDIT_ARCH_X86_64;
    thread->exact = 0;
    thread->regs[TL_RIP] = thread->regs[TL_RCX] = guest->patches[number].site + 2;
    thread->regs[TL_R11] = thread->regs[TL_EFLAGS];
    thread->leave_to = thread->block + guest->gate_after;
}

void tl_guest_finish(struct tl_guest_thread *thread, int64_t result)
{
    if (thread->notified) {
        tl_guest_watcher_reply(thread, result);
        return;
    }
    const struct tl_guest_convention *convention = &thread->guest->convention;
    bool is_i386 = thread->guest->is_linux && thread->arch == AUDIT_ARCH_I386;
    bool failed = (uint64_t)result > (uint64_t)-4096;

    if (convention->carry_is_error && !is_i386) {
        thread->regs[TL_EFLAGS] = (thread->regs[TL_EFLAGS] & ~(uint64_t)1) | failed;
        result = failed ? -result : result;
        thread->exact = 1;
    }
    thread->regs[convention->result] = is_i386 ? (uint32_t)result : (uint64_t)result;
    if (thread->exact && !is_i386 && !(thread->regs[TL_EFLAGS] & 0x40100)) {
        // As the kernel returns, and several times as fast as with all registers.
        thread->exact =
            thread->regs[TL_RCX] != thread->regs[TL_RIP] || thread->regs[TL_R11] != thread->regs[TL_EFLAGS];
        thread->leave_to = thread->regs[TL_RIP];
    }
    thread->interrupted = false;
}

void tl_guest_restart(struct tl_guest_thread *thread)
{
    if (thread->notified) {
        tl_guest_watcher_restart(thread);
        return;
    }
    const struct tl_guest_convention *convention = &thread->guest->convention;

    thread->goes_on_at = thread->regs[TL_RIP];
    thread->regs[convention->number] = (uint64_t)thread->nr; // of i386 it is the same
    if (thread->block && !thread->exact)
        thread->regs[TL_RIP] = thread->block;
    else
        thread->regs[TL_RIP] -= 2;
    thread->exact = 1;
    thread->interrupted = true;
}

// The kernel sends SIGPIPE with the error, to this thread.
static bool sends_sigpipe(const struct tl_guest_thread *thread)
{
    if (thread->arch == AUDIT_ARCH_I386)
        return thread->nr == 4 || thread->nr == 146 || thread->nr == 181; // write, writev, pwrite64
    switch (thread->nr) {
    case __NR_write:
    case __NR_writev:
    case __NR_pwrite64:
    case __NR_pwritev:
    case __NR_pwritev2:
    case __NR_sendfile:
    case __NR_splice:
    case __NR_tee:
    case __NR_vmsplice:
        return true;
    case __NR_sendmsg:
        return !(thread->args[2] & MSG_NOSIGNAL);
    case __NR_sendto:
    case __NR_sendmmsg:
        return !(thread->args[3] & MSG_NOSIGNAL);
    default:
        return false;
    }
}

bool tl_guest_perform(struct tl_guest_thread *thread, int64_t *result)
{
    if (tl_guest_spare(thread, result))
        return true;
    long got = thread->arch == AUDIT_ARCH_I386
                   ? tl_guest_int80(thread->args, (long)thread->nr, &thread->kicked)
                   : tl_guest_syscall(thread->args, (long)thread->nr, &thread->kicked);

    thread->begun = got != not_begun;
    if (got == not_begun || got == aborted || (got == -EINTR && thread->kicked)) {
        tl_guest_take_back(thread);
        return false;
    }
    if (got == -EPIPE && sends_sigpipe(thread)) {
        thread->piped = true;
        tl_guest_kick(thread);
    }
    tl_guest_bring(thread, got);
    *result = got;
    return true;
}

// True: the call needs nobody else.
static bool pass(struct tl_guest_thread *thread, bool *kicked)
{
    struct tl_guest *guest = thread->guest;
    int64_t result;

    if (!guest->is_linux || thread->arch != AUDIT_ARCH_X86_64 || thread->hot)
        return false;
    unsigned number = thread->nr & 0xffff;
    switch (guest->classes[number]) {
    case TL_PASS:
    case tl_guest_pass_here:
        if (!tl_guest_perform(thread, &result)) {
            tl_guest_restart(thread);
            *kicked = true;
            return true;
        }
        __atomic_fetch_add(&guest->passed, 1, __ATOMIC_RELAXED);
        break;
    case TL_CONSTANT:
        result = guest->constants[number];
        break;
    default:
        return false;
    }
    tl_guest_finish(thread, result);
    return true;
}

enum tl_guest_event tl_guest_run(struct tl_guest_thread *thread)
{
    enum tl_guest_event event;
    bool kicked = false;

    if (thread->generation != __atomic_load_n(&thread->guest->generation, __ATOMIC_ACQUIRE))
        tl_guest_arm_again(thread);
    load_vectors(thread);
    do {
        event = (enum tl_guest_event)tl_guest_switch(thread);
        if (event == TL_GUEST_CALL) {
            if (thread->block)
                come_from_block(thread);
            take_call(thread);
            thread->hot = 0;
            if (!thread->block && thread->guest->rewrites && thread->arch == AUDIT_ARCH_X86_64 &&
                tl_guest_is_hot(thread->guest, thread->regs[TL_RIP] - 2))
                thread->hot = thread->regs[TL_RIP] - 2;
        } else if (event != TL_GUEST_KICKED) {
            thread->interrupted = false;
        }
    } while (event == TL_GUEST_CALL && pass(thread, &kicked) && !kicked);
    save_vectors(thread);
    if (kicked)
        event = TL_GUEST_KICKED;
    if (event == TL_GUEST_KICKED)
        __atomic_store_n(&thread->kicked, 0, __ATOMIC_SEQ_CST);
    return event;
}
