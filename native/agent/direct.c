// The short way of a call that is only recorded. entry.S makes the call itself, between these two: nothing
// that was called before it returns after it, as the processor has forgotten by then where to.
#include "recording.h"

enum { arch_x86_64 = (int)0xc000003e };

// What a block leaves to the agent, as far as somebody may look at it while the call is under way.
static void show(struct tl_thread *thread, uint64_t nr)
{
    const uint64_t *block = (const uint64_t *)thread->block;
    uint64_t back;

    __builtin_memcpy(&back, (const char *)block + (tl_gate_return - tl_gate), sizeof back);
    thread->regs[RCX] = thread->regs[RIP] = back;
    thread->regs[R11] = thread->regs[EFLAGS];
    thread->leave_to = thread->block + (uint64_t)(tl_gate_after - tl_gate);
    thread->arch = (uint32_t)arch_x86_64;
    thread->exact = 0;
    thread->nr = (int64_t)nr;
    thread->kind = (int32_t)nr;
    thread->aborted = 0;
    thread->is_filtered = false;
}

// False: the call has to go the long way.
bool tl_direct_before(struct tl_thread *thread)
{
    static const uint8_t order[6] = {RDI, RSI, RDX, R10, R8, R9};
    uint64_t nr = thread->regs[RAX];
    unsigned class = nr < tl_calls ? tl_session.classes[nr] : TL_SLOW;

    if (class < TL_RECORDED || thread->dispatch_mode || thread->is_strict ||
        (class == TL_RECORDED_FD && tl_is_ours_fd((int)thread->regs[RDI])))
        return false;
    const struct tl_capture_plan *plan = &tl_capture()->plans[nr];
    show(thread, nr);
    thread->direct = 1;
    struct tl_record *record = tl_trace_begin(thread, 0, plan->args);
    thread->is_recorded = record != NULL;
    if (!record)
        return true;
    uint64_t *args = (uint64_t *)(record + 1);
    for (unsigned i = 0; i < plan->args; i++)
        args[i] = thread->regs[order[i]];
    tl_record_start(thread, record, plan);
    return true;
}

void tl_direct_after(struct tl_thread *thread, long result)
{
    thread->direct = 0;
    if (thread->aborted) {
        thread->regs[RIP] -= 2; // the instruction is made again after the handler
        tl_trace_aborted(thread);
        return;
    }
    thread->regs[RAX] = (uint64_t)result;
    if (thread->is_recorded)
        tl_record_end(thread, result, &tl_capture()->plans[thread->nr]);
}
