// Records of the program's calls, written where they are made: capture.h has the format.
#include "recording.h"

#include <asm/unistd.h>

enum {
    PROT_NONE = 0,
    PROT_RW = 3,
    MAP_SHARED = 1,
    MAP_PRIVATE_ANONYMOUS = 0x22,
    MAP_FIXED = 0x10,
    MAP_FIXED_NOREPLACE = 0x100000,
    FUTEX_WAIT = 0,
    FUTEX_WAKE = 1,
    POLLHUP = 0x10,
    patience_ns = 200 * 1000 * 1000,
};

// Where sanitizers allow mappings, below the region that the trap engine chooses.
static const long rings_base = 0x7e8800000000;

// The bytes of a ring lie twice in a row, so that no record is ever in two pieces.
static bool map_ring(struct tl_thread *thread, uint32_t index)
{
    const struct tl_start *start = &tl_process.start;
    long offset = (long)start->image_size + tl_shared_size + (long)index * tl_ring_size;

    if (!thread->ring_at) {
        // Out of the way: the kernel would take what the program has just unmapped, and may count on.
        long area = tl_raw(__NR_mmap, rings_base + 2l * tl_ring_size * (long)index, 2 * tl_ring_size,
                           PROT_NONE, MAP_PRIVATE_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (tl_is_error(area))
            area = tl_raw(__NR_mmap, 0, 2 * tl_ring_size, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0);
        if (tl_is_error(area))
            return false;
        thread->ring_at = (uint8_t *)area;
    }
    for (int half = 0; half < 2; half++) {
        long at = (long)thread->ring_at + half * tl_ring_size;
        if (tl_raw(__NR_mmap, at, tl_ring_size, PROT_RW, MAP_SHARED | MAP_FIXED, start->memory_fd, offset) !=
            at)
            return false;
    }
    return true;
}

void tl_trace_ring_bell(void)
{
    __atomic_add_fetch(&tl_capture()->bell, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&tl_capture()->listening, __ATOMIC_SEQ_CST))
        tl_raw(__NR_futex, (long)&tl_capture()->bell, FUTEX_WAKE, 1, 0, 0, 0);
}

bool tl_trace_is_alone(void)
{
    struct {
        int32_t fd;
        int16_t wanted, seen;
    } poll = {tl_process.start.socket_fd, 0, 0};

    if (!tl_session.dead && tl_call3(__NR_poll, (long)&poll, 1, 0) > 0 && poll.seen & POLLHUP)
        tl_session.dead = 1;
    return tl_session.dead || tl_capture()->ended;
}

static void nap(void)
{
    const int64_t time[2] = {0, 1000 * 1000};

    tl_raw(__NR_nanosleep, (long)time, 0, 0, 0, 0, 0);
}

static struct tl_ring *take_ring(struct tl_thread *thread)
{
    for (;;) {
        for (uint32_t i = 0; i < tl_rings; i++) {
            struct tl_ring *ring = &tl_capture()->rings[i];
            uint32_t expected = TL_RING_FREE;
            if (ring->state != TL_RING_FREE ||
                !__atomic_compare_exchange_n(&ring->state, &expected, TL_RING_LIVE, false, __ATOMIC_ACQ_REL,
                                             __ATOMIC_RELAXED))
                continue;
            ring->pid = thread->outer_pid;
            ring->tid = thread->outer_tid;
            for (uint32_t highest = tl_capture()->highest; highest <= i;)
                if (__atomic_compare_exchange_n(&tl_capture()->highest, &highest, i + 1, false,
                                                __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
                    break;
            return ring;
        }
        tl_trace_ring_bell(); // rings of threads that are gone are given back
        nap();
        if (tl_trace_is_alone())
            return NULL;
    }
}

// After an execve the thread's ring is there, with the call in it that has succeeded.
static struct tl_ring *find_ring(const struct tl_thread *thread)
{
    for (uint32_t i = 0; i < tl_capture()->highest; i++) {
        struct tl_ring *ring = &tl_capture()->rings[i];
        if (ring->state == TL_RING_LIVE && ring->tid == thread->outer_tid)
            return ring;
    }
    return NULL;
}

// Has the tail in sight again: up to where the head may go without another look, and whether there is enough
// behind it for the supervisor to be woken.
void tl_trace_look_ahead(struct tl_thread *thread)
{
    struct tl_ring *ring = thread->ring;
    uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

    thread->ring_ahead = tail + tl_ring_alarm;
    if (ring->head < thread->ring_ahead)
        return;
    tl_trace_ring_bell();
    uint64_t end = tail + tl_ring_size - tl_record_max;
    thread->ring_ahead = ring->head + tl_ring_alarm < end ? ring->head + tl_ring_alarm : end;
}

// For the first thread of a new program: goes on with the ring that the thread had before its execve.
void tl_trace_begin_program(struct tl_thread *thread)
{
    if (!tl_capture()->on)
        return;
    struct tl_ring *ring = find_ring(thread);
    if (!ring || !map_ring(thread, (uint32_t)(ring - tl_capture()->rings)))
        return;
    thread->ring = ring;
    ring->maps_known = 0;
    if (ring->begun) {
        tl_record_of(thread)->end = tl_ticks(thread);
        tl_record_of(thread)->result = 0;
        tl_trace_publish(thread, tl_record_of(thread));
    }
}

// In a child with its own memory: what was inherited is the parent's.
void tl_trace_forget(struct tl_thread *thread)
{
    if (thread->ring_at)
        tl_call3(__NR_munmap, (long)thread->ring_at, 2 * tl_ring_size, 0);
    thread->ring_at = NULL;
    thread->ring = NULL;
    thread->is_recorded = false;
}

// False: the call is not recorded.
static bool wait_for_room(struct tl_ring *ring)
{
    const int64_t patience[2] = {0, patience_ns};

    while (ring->head + tl_record_max - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) > tl_ring_size) {
        if (tl_capture()->drop) {
            ring->dropped++;
            return false;
        }
        if (tl_trace_is_alone())
            return false;
        __atomic_store_n(&ring->waiting, 1, __ATOMIC_SEQ_CST);
        tl_trace_ring_bell();
        if (ring->head + tl_record_max - __atomic_load_n(&ring->tail, __ATOMIC_SEQ_CST) > tl_ring_size)
            tl_raw(__NR_futex, (long)&ring->waiting, FUTEX_WAIT, 1, (long)patience, 0, 0);
    }
    return true;
}

// -- calls -------------------------------------------------------------------------------------------------

static bool has_ring(struct tl_thread *thread)
{
    if (thread->ring)
        return true;
    struct tl_ring *ring = take_ring(thread);
    if (!ring || !map_ring(thread, (uint32_t)(ring - tl_capture()->rings))) {
        if (ring)
            ring->state = TL_RING_FREE;
        return false;
    }
    thread->ring = ring;
    thread->ring_ahead = 0;
    return true;
}

struct tl_record *tl_trace_begin(struct tl_thread *thread, unsigned flags, unsigned args)
{
    // Behind a short look ahead there is room for one more.
    if (!has_ring(thread) || (thread->ring->head > thread->ring_ahead && !wait_for_room(thread->ring)))
        return NULL;
    struct tl_record *record = tl_record_of(thread);
    record->size = (uint16_t)(sizeof *record + 8 * args);
    record->flags = (uint8_t)flags;
    record->args = (uint8_t)args;
    record->nr = (int32_t)thread->nr;
    return record;
}

void tl_trace_before(struct tl_thread *thread)
{
    const struct tl_capture_plan *plan = tl_plan_of(thread->arch, (uint32_t)thread->nr);
    unsigned flags = thread->arch == tl_arch_i386 ? TL_RECORD_I386 : 0;
    struct tl_record *record = plan->wanted ? tl_trace_begin(thread, flags, plan->args) : NULL;

    thread->is_recorded = record != NULL;
    if (!record)
        return;
    uint64_t *args = (uint64_t *)(record + 1);
    for (unsigned i = 0; i < plan->args; i++)
        args[i] = thread->args[i];
    if (thread->nr == __NR_exit || thread->nr == __NR_exit_group)
        thread->ring->ending = 1;
    tl_record_start(thread, record, plan);
}

void tl_trace_after(struct tl_thread *thread, long result)
{
    if (thread->is_recorded)
        tl_record_end(thread, result, tl_plan_of(thread->arch, (uint32_t)thread->nr));
}

// The call was not made, because of a signal; it will be made again.
void tl_trace_aborted(struct tl_thread *thread)
{
    if (thread->is_recorded)
        thread->ring->begun = 0;
    thread->is_recorded = false;
}

// rt_sigreturn goes back to where MASK is blocked, and RESULT is in rax.
void tl_trace_returned(struct tl_thread *thread, uint64_t mask, long result)
{
    if (thread->is_recorded)
        tl_keep_here(tl_record_of(thread), TL_BLOB_NESTED, &mask, sizeof mask);
    tl_trace_after(thread, result);
}

void tl_trace_signal(struct tl_thread *thread, const struct tl_siginfo *info)
{
    if (!tl_capture()->on || !tl_capture()->signals || thread->is_recorded)
        return;
    struct tl_record *record = tl_trace_begin(thread, TL_RECORD_SIGNAL, 0);
    if (!record)
        return;
    record->nr = info->number;
    record->start = record->end = tl_ticks(thread);
    record->result = 0;
    tl_keep_here(record, 0, info, sizeof *info);
    tl_trace_publish(thread, record);
}
