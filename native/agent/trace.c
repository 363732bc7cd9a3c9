// Records of the program's calls, written where they are made: capture.h has the format.
#include "inside.h"

#include <asm/unistd.h>

enum {
    PROT_NONE = 0,
    PROT_RW = 3,
    MAP_SHARED = 1,
    MAP_PRIVATE_ANONYMOUS = 0x22,
    MAP_FIXED = 0x10,
    FUTEX_WAIT = 0,
    FUTEX_WAKE = 1,
    POLLHUP = 0x10,
    patience_ns = 200 * 1000 * 1000,
    page = 4096,
    string_piece = 64,
    vectors_max = 16,
    ioctl_size_at = 16,
    ioctl_size_mask = 0x3fff,
    ioctl_writes = 1, // to the kernel
    ioctl_reads = 2,
    path_max = 1024,
    messages_max = 8,
    messages_stride = 64,
    messages_size_at = 56,
};

static struct tl_capture *capture(void)
{
    return &tl_session.capture;
}

// The bytes of a ring lie twice in a row, so that no record is ever in two pieces.
static bool map_ring(struct tl_thread *thread, uint32_t index)
{
    const struct tl_start *start = &tl_process.start;
    long offset = (long)start->image_size + tl_shared_size + (long)index * tl_ring_size;

    if (!thread->ring_at) {
        long area = tl_raw(__NR_mmap, 0, 2 * tl_ring_size, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0);
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

static void ring_bell(void)
{
    __atomic_add_fetch(&capture()->bell, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&capture()->listening, __ATOMIC_SEQ_CST))
        tl_raw(__NR_futex, (long)&capture()->bell, FUTEX_WAKE, 1, 0, 0, 0);
}

static bool nobody_copies(void)
{
    struct {
        int32_t fd;
        int16_t wanted, seen;
    } poll = {tl_process.start.socket_fd, 0, 0};

    if (!tl_session.dead && tl_call3(__NR_poll, (long)&poll, 1, 0) > 0 && poll.seen & POLLHUP)
        tl_session.dead = 1;
    return tl_session.dead || capture()->ended;
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
            struct tl_ring *ring = &capture()->rings[i];
            uint32_t expected = TL_RING_FREE;
            if (ring->state != TL_RING_FREE ||
                !__atomic_compare_exchange_n(&ring->state, &expected, TL_RING_LIVE, false, __ATOMIC_ACQ_REL,
                                             __ATOMIC_RELAXED))
                continue;
            ring->pid = thread->outer_pid;
            ring->tid = thread->outer_tid;
            for (uint32_t highest = capture()->highest; highest <= i;)
                if (__atomic_compare_exchange_n(&capture()->highest, &highest, i + 1, false, __ATOMIC_ACQ_REL,
                                                __ATOMIC_RELAXED))
                    break;
            return ring;
        }
        ring_bell(); // rings of threads that are gone are given back
        nap();
        if (nobody_copies())
            return NULL;
    }
}

// After an execve the thread's ring is there, with the call in it that has succeeded.
static struct tl_ring *find_ring(const struct tl_thread *thread)
{
    for (uint32_t i = 0; i < capture()->highest; i++) {
        struct tl_ring *ring = &capture()->rings[i];
        if (ring->state == TL_RING_LIVE && ring->tid == thread->outer_tid)
            return ring;
    }
    return NULL;
}

static struct tl_record *record_of(const struct tl_thread *thread)
{
    return (struct tl_record *)(thread->ring_at + thread->ring->head % tl_ring_size);
}

static void publish(struct tl_thread *thread)
{
    struct tl_ring *ring = thread->ring;
    uint64_t size = record_of(thread)->size, before = ring->head - ring->tail;

    ring->begun = 0;
    __atomic_store_n(&ring->head, ring->head + size, __ATOMIC_RELEASE);
    if (before < tl_ring_alarm && before + size >= tl_ring_alarm)
        ring_bell();
}

// For the first thread of a new program: goes on with the ring that the thread had before its execve.
void tl_trace_begin_program(struct tl_thread *thread)
{
    if (!capture()->on)
        return;
    struct tl_ring *ring = find_ring(thread);
    if (!ring || !map_ring(thread, (uint32_t)(ring - capture()->rings)))
        return;
    thread->ring = ring;
    if (ring->begun) {
        record_of(thread)->end = __builtin_ia32_rdtsc();
        record_of(thread)->result = 0;
        publish(thread);
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
        if (capture()->drop) {
            ring->dropped++;
            return false;
        }
        if (nobody_copies())
            return false;
        __atomic_store_n(&ring->waiting, 1, __ATOMIC_SEQ_CST);
        ring_bell();
        if (ring->head + tl_record_max - __atomic_load_n(&ring->tail, __ATOMIC_SEQ_CST) > tl_ring_size)
            tl_raw(__NR_futex, (long)&ring->waiting, FUTEX_WAIT, 1, (long)patience, 0, 0);
    }
    return true;
}

// -- memory ------------------------------------------------------------------------------------------------

// Room for a blob of at most SIZE bytes at the end of the record; NULL: there is none.
static struct tl_blob *new_blob(struct tl_record *record, const struct tl_capture_op *op, unsigned flags,
                                uint64_t address, uint64_t *size)
{
    struct tl_blob *blob = (struct tl_blob *)((uint8_t *)record + record->size);
    uint64_t taken = record->size + sizeof *blob + (flags & TL_BLOB_NESTED ? 8 : 0);

    if (taken + 8 > tl_record_max) {
        record->flags |= TL_RECORD_CUT;
        return NULL;
    }
    if (*size > tl_record_max - taken) {
        *size = tl_record_max - taken;
        record->flags |= TL_RECORD_CUT;
    }
    *blob = (struct tl_blob){op->arg, (uint8_t)flags, 0, 0};
    if (flags & TL_BLOB_NESTED)
        *(uint64_t *)(blob + 1) = address;
    return blob;
}

static uint8_t *bytes_of(struct tl_blob *blob)
{
    return (uint8_t *)(blob + 1) + (blob->flags & TL_BLOB_NESTED ? 8 : 0);
}

static void add_blob(struct tl_record *record, struct tl_blob *blob, uint64_t size)
{
    blob->size = (uint32_t)size;
    record->size = (uint32_t)((bytes_of(blob) + size - (uint8_t *)record + 7) & ~7ul);
}

static const uint8_t *keep_bytes(struct tl_record *record, const struct tl_capture_op *op, unsigned flags,
                                 uint64_t address, uint64_t size)
{
    struct tl_blob *blob = address && size ? new_blob(record, op, flags, address, &size) : NULL;

    if (!blob || !tl_read(bytes_of(blob), address, size))
        return NULL;
    add_blob(record, blob, size);
    return bytes_of(blob);
}

// Up to the NUL, and with it.
static void keep_string(struct tl_record *record, const struct tl_capture_op *op, unsigned flags,
                        uint64_t address, uint64_t most)
{
    struct tl_blob *blob = address ? new_blob(record, op, flags, address, &most) : NULL;
    uint64_t size = 0;

    while (blob && size < most) {
        uint64_t piece = string_piece - (address + size) % string_piece; // never over the end of a page
        uint8_t *at = bytes_of(blob) + size;
        piece = piece < most - size ? piece : most - size;
        if (!tl_read(at, address + size, piece))
            break;
        for (uint64_t i = 0; i < piece; i++) {
            if (!at[i]) {
                add_blob(record, blob, size + i + 1);
                return;
            }
        }
        size += piece;
    }
    if (blob && size)
        add_blob(record, blob, size);
}

static void keep_strings(struct tl_record *record, const struct tl_capture_op *op, uint64_t address)
{
    uint64_t pointer;
    unsigned count = 0;

    while (count < tl_capture_pointers && address && tl_read(&pointer, address + 8 * count, 8) && pointer)
        count++;
    const uint8_t *kept = keep_bytes(record, op, 0, address, 8 * (count + 1));
    for (unsigned i = 0; kept && i < count && i < op->size; i++) {
        __builtin_memcpy(&pointer, kept + 8 * i, 8);
        keep_string(record, op, TL_BLOB_NESTED, pointer, capture()->limit + 1);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// LEFT: how many bytes all of them have together.
static void keep_vector(struct tl_record *record, const struct tl_capture_op *op, unsigned flags,
                        uint64_t address, uint64_t count, uint64_t left)
{
    struct {
        uint64_t base, size;
    } vector[vectors_max];

    count = least(count, vectors_max);
    const uint8_t *kept = keep_bytes(record, op, flags, address, count * sizeof *vector);
    if (!kept)
        return;
    __builtin_memcpy(vector, kept, count * sizeof *vector);
    for (unsigned i = 0; i < count && left; i++) {
        uint64_t size = least(vector[i].size, left);
        left -= size;
        keep_bytes(record, op, flags | TL_BLOB_NESTED, vector[i].base, least(size, capture()->limit + 1));
    }
}

// struct msghdr: name, its size, vector, its count, control, its size, flags.
static void keep_message(struct tl_record *record, const struct tl_capture_op *op, unsigned flags,
                         uint64_t address, uint64_t left)
{
    uint64_t fields[7];
    const uint8_t *kept = keep_bytes(record, op, flags, address, sizeof fields);

    if (!kept)
        return;
    __builtin_memcpy(fields, kept, sizeof fields);
    keep_bytes(record, op, flags | TL_BLOB_NESTED, fields[0], least((uint32_t)fields[1], 128));
    keep_vector(record, op, flags | TL_BLOB_NESTED, fields[2], fields[3], left);
    keep_bytes(record, op, flags | TL_BLOB_NESTED, fields[4], least(fields[5], 1024));
}

// struct mmsghdr: a struct msghdr, and how many bytes of it were transferred.
static void keep_messages(struct tl_record *record, const struct tl_capture_op *op, unsigned flags,
                          uint64_t address, uint64_t count)
{
    uint32_t size = ~(uint32_t)0;

    for (uint64_t i = 0; i < count; i++, address += messages_stride) {
        if (flags & TL_BLOB_AFTER && !tl_read(&size, address + messages_size_at, sizeof size))
            return;
        keep_message(record, op, flags | TL_BLOB_NESTED, address, size);
    }
}

static void keep_path(struct tl_record *record, const struct tl_capture_op *op, long fd)
{
    char name[32] = "/proc/self/fd/";
    unsigned at = 14, digits = 1;
    uint64_t size = path_max;
    struct tl_blob *blob = new_blob(record, op, TL_BLOB_AFTER | TL_BLOB_PATH, 0, &size);

    for (long rest = fd; rest >= 10; rest /= 10)
        digits++;
    for (unsigned i = digits; i > 0; i--, fd /= 10)
        name[at + i - 1] = (char)('0' + fd % 10);
    long got = blob ? tl_call3(__NR_readlink, (long)name, (long)bytes_of(blob), (long)size) : -1;
    if (got > 0)
        add_blob(record, blob, (uint64_t)got);
}

static void keep(struct tl_thread *thread, struct tl_record *record, const struct tl_capture_op *op,
                 bool after, long result)
{
    const uint64_t *args = (const uint64_t *)(record + 1);
    uint64_t address = args[op->arg], other = args[op->of], filled = ~(uint64_t)0;
    unsigned flags = after ? TL_BLOB_AFTER : 0;
    uint32_t counted = 0;

    (void)thread;
    if (after && op->when & TL_CAPTURE_FILLED)
        filled = (uint64_t)result;
    switch (op->kind) {
    case TL_CAPTURE_STRING:
        keep_string(record, op, flags, address, tl_capture_string_max);
        break;
    case TL_CAPTURE_BUFFER:
        keep_bytes(record, op, flags, address,
                   least(least(other, filled), op->size ? op->size : capture()->limit + 1));
        break;
    case TL_CAPTURE_ARRAY:
        keep_bytes(record, op, flags, address,
                   least(least((uint32_t)other, filled), tl_capture_items) * op->size);
        break;
    case TL_CAPTURE_FIXED:
        keep_bytes(record, op, flags, address, op->size);
        break;
    case TL_CAPTURE_COUNTED:
        if (tl_read(&counted, other, sizeof counted))
            keep_bytes(record, op, flags, address, least(counted, op->size));
        break;
    case TL_CAPTURE_VECTOR:
        keep_vector(record, op, flags, address, other, filled);
        break;
    case TL_CAPTURE_MESSAGE:
        keep_message(record, op, flags, address, filled);
        break;
    case TL_CAPTURE_STRINGS:
        keep_strings(record, op, address);
        break;
    case TL_CAPTURE_IOCTL: {
        uint32_t request = (uint32_t)other, size = request >> ioctl_size_at & ioctl_size_mask;
        unsigned direction = request >> 30;
        if (!direction)
            size = op->size;
        if (!direction || direction & (after ? ioctl_reads : ioctl_writes))
            keep_bytes(record, op, flags, address, least(size, capture()->limit + 256));
        break;
    }
    case TL_CAPTURE_IF:
        if ((uint32_t)other == op->value)
            keep_bytes(record, op, flags, address, op->size);
        break;
    case TL_CAPTURE_BEHIND:
        if (address && tl_read(&address, address + op->value, sizeof address))
            keep_bytes(record, op, flags | TL_BLOB_NESTED, address, op->size);
        break;
    case TL_CAPTURE_MESSAGES:
        keep_messages(record, op, flags, address, least(least((uint32_t)other, filled), messages_max));
        break;
    case TL_CAPTURE_PATH:
        keep_path(record, op, result);
        break;
    }
}

// -- calls -------------------------------------------------------------------------------------------------

static const struct tl_capture_plan *plan_of(const struct tl_thread *thread)
{
    uint32_t nr = (uint32_t)thread->nr;

    return thread->arch != tl_arch_i386 && nr < tl_capture_calls ? &capture()->plans[nr] : &capture()->other;
}

static bool has_ring(struct tl_thread *thread)
{
    if (thread->ring)
        return true;
    struct tl_ring *ring = take_ring(thread);
    if (!ring || !map_ring(thread, (uint32_t)(ring - capture()->rings))) {
        if (ring)
            ring->state = TL_RING_FREE;
        return false;
    }
    thread->ring = ring;
    return true;
}

static struct tl_record *begin(struct tl_thread *thread, enum tl_record_type type, unsigned args)
{
    if (!has_ring(thread) || !wait_for_room(thread->ring))
        return NULL;
    struct tl_record *record = record_of(thread);
    *record = (struct tl_record){
        .size = (uint32_t)(sizeof *record + 8 * args),
        .type = (uint8_t)type,
        .flags = thread->arch == tl_arch_i386 ? TL_RECORD_I386 : 0,
        .args = (uint8_t)args,
        .nr = (int32_t)thread->nr,
    };
    return record;
}

void tl_trace_before(struct tl_thread *thread)
{
    const struct tl_capture_plan *plan = plan_of(thread);
    struct tl_record *record = plan->wanted ? begin(thread, TL_RECORD_CALL, plan->args) : NULL;

    thread->is_recorded = record != NULL;
    if (!record)
        return;
    uint64_t *args = (uint64_t *)(record + 1);
    for (unsigned i = 0; i < plan->args; i++)
        args[i] = thread->args[i];
    for (unsigned i = 0; i < plan->ops; i++)
        if (plan->op[i].when & TL_CAPTURE_BEFORE)
            keep(thread, record, &plan->op[i], false, 0);
    if (thread->nr == __NR_exit || thread->nr == __NR_exit_group)
        thread->ring->ending = 1;
    record->start = __builtin_ia32_rdtsc();
    __atomic_store_n(&thread->ring->begun, record->size, __ATOMIC_RELEASE);
}

void tl_trace_after(struct tl_thread *thread, long result)
{
    if (!thread->is_recorded)
        return;
    const struct tl_capture_plan *plan = plan_of(thread);
    struct tl_record *record = record_of(thread);

    thread->is_recorded = false;
    record->end = __builtin_ia32_rdtsc();
    record->result = result;
    for (unsigned i = 0; !tl_is_error(result) && i < plan->ops; i++)
        if (plan->op[i].when & TL_CAPTURE_AFTER)
            keep(thread, record, &plan->op[i], true, result);
    publish(thread);
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
    static const struct tl_capture_op whole = {.kind = TL_CAPTURE_FIXED};

    if (thread->is_recorded)
        keep_bytes(record_of(thread), &whole, TL_BLOB_NESTED, (uint64_t)&mask, sizeof mask);
    tl_trace_after(thread, result);
}

void tl_trace_signal(struct tl_thread *thread, const struct tl_siginfo *info)
{
    static const struct tl_capture_op whole = {.kind = TL_CAPTURE_FIXED};

    if (!capture()->on || !capture()->signals || thread->is_recorded)
        return;
    struct tl_record *record = begin(thread, TL_RECORD_SIGNAL, 0);
    if (!record)
        return;
    record->nr = info->number;
    record->start = record->end = __builtin_ia32_rdtsc();
    keep_bytes(record, &whole, 0, (uint64_t)info, sizeof *info);
    publish(thread);
}
