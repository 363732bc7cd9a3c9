// What the agent's files share that record calls.
#ifndef TL_RECORDING_H
#define TL_RECORDING_H

#include "inside.h"

// direct.c
bool tl_direct_before(struct tl_thread *thread);
void tl_direct_after(struct tl_thread *thread, long result);

// keep.c: the memory behind arguments.
void tl_keep(struct tl_record *record, const struct tl_capture_op *op, bool after, long result);
void tl_keep_here(struct tl_record *record, unsigned flags, const void *from, size_t size); // our own

void tl_keep_of(struct tl_record *record, enum tl_blob_of what, uint64_t address, size_t size);

// stack.c
void tl_keep_stack(struct tl_thread *thread, struct tl_record *record, size_t size);

// trace.c
void tl_trace_ring_bell(void);
bool tl_trace_is_alone(void); // nobody copies records any more
struct tl_record *tl_trace_begin(struct tl_thread *thread, unsigned flags, unsigned args); // NULL: no room
void tl_trace_look_ahead(struct tl_thread *thread);

static inline struct tl_capture *tl_capture(void)
{
    return &tl_session.capture;
}

static inline const struct tl_capture_plan *tl_plan_of(uint32_t arch, uint32_t nr)
{
    return arch != tl_arch_i386 && nr < tl_capture_calls ? &tl_capture()->plans[nr] : &tl_capture()->other;
}

// The time stamp counter, or where the program has forbidden itself to read it what the supervisor last read.
static inline uint64_t tl_ticks(const struct tl_thread *thread)
{
    return thread->has_no_clock ? tl_capture()->ticks : __builtin_ia32_rdtsc();
}

static inline struct tl_record *tl_record_of(const struct tl_thread *thread)
{
    return (struct tl_record *)(thread->ring_at + thread->ring->head % tl_ring_size);
}

static inline void tl_trace_publish(struct tl_thread *thread, const struct tl_record *record)
{
    struct tl_ring *ring = thread->ring;
    uint64_t head = ring->head + record->size;

    ring->begun = 0;
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
    if (head > thread->ring_ahead)
        tl_trace_look_ahead(thread);
}

// Its arguments are in the record.
static inline void tl_record_start(struct tl_thread *thread, struct tl_record *record,
                                   const struct tl_capture_plan *plan)
{
    for (unsigned left = plan->before; left; left &= left - 1)
        tl_keep(record, &plan->op[__builtin_ctz(left)], false, 0);
    if (plan->stack)
        tl_keep_stack(thread, record, 1024 * (size_t)plan->stack);
    record->start = tl_ticks(thread);
    __atomic_store_n(&thread->ring->begun, record->size, __ATOMIC_RELEASE);
}

static inline void tl_record_end(struct tl_thread *thread, long result, const struct tl_capture_plan *plan)
{
    struct tl_record *record = tl_record_of(thread);

    thread->is_recorded = false;
    record->end = tl_ticks(thread);
    record->result = result;
    for (unsigned left = tl_is_error(result) ? 0 : plan->after; left; left &= left - 1)
        tl_keep(record, &plan->op[__builtin_ctz(left)], true, result);
    if (plan->maps)
        __atomic_add_fetch(&tl_process.maps, 1, __ATOMIC_RELEASE);
    tl_trace_publish(thread, record);
}

#endif
