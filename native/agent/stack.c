// What an unwinder needs of a thread at its call: registers, a piece of the stack, and what code is where.
#include "recording.h"

#include <asm/unistd.h>

enum { page = 4096, patience_ns = 200 * 1000 * 1000, FUTEX_WAIT = 0 };

// The supervisor writes down where code is before it can find a record that needs it.
static void tell_maps(struct tl_ring *ring)
{
    const int64_t patience[2] = {0, patience_ns};
    uint32_t now = __atomic_load_n(&tl_process.maps, __ATOMIC_ACQUIRE) + 1;

    if (ring->maps_known == now)
        return;
    ring->maps_known = now;
    __atomic_store_n(&ring->maps_wanted, 1, __ATOMIC_SEQ_CST);
    tl_trace_ring_bell();
    while (__atomic_load_n(&ring->maps_wanted, __ATOMIC_SEQ_CST) && !tl_trace_is_alone())
        tl_raw(__NR_futex, (long)&ring->maps_wanted, FUTEX_WAIT, 1, (long)patience, 0, 0);
}

// How much of SIZE bytes there is: the stack of a thread ends at some page.
static size_t readable(uint64_t from, size_t size)
{
    uint8_t byte;

    if (!tl_read(&byte, from, 1))
        return 0;
    for (uint64_t at = (from | (page - 1)) + 1; at < from + size; at += page)
        if (!tl_read(&byte, at, 1))
            return at - from;
    return size;
}

void tl_keep_stack(struct tl_thread *thread, struct tl_record *record, size_t size)
{
    uint64_t stack = thread->regs[RSP];

    if (thread->arch == tl_arch_i386)
        return;
    tell_maps(thread->ring);
    tl_keep_of(record, TL_BLOB_OF_REGISTERS, (uint64_t)thread->regs, sizeof thread->regs);
    tl_keep_of(record, TL_BLOB_OF_STACK, stack, readable(stack, size));
}
