// What a record keeps of the memory behind a call's arguments: capture.h has the kinds.
#include "recording.h"

#include <asm/unistd.h>

enum {
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
    *blob = (struct tl_blob){op->arg, (uint8_t)flags, 0};
    if (flags & TL_BLOB_NESTED)
        __builtin_memcpy(blob + 1, &address, sizeof address);
    return blob;
}

static uint8_t *bytes_of(struct tl_blob *blob)
{
    return (uint8_t *)(blob + 1) + (blob->flags & TL_BLOB_NESTED ? 8 : 0);
}

static void add_blob(struct tl_record *record, struct tl_blob *blob, uint64_t size)
{
    blob->size = (uint16_t)size;
    record->size = (uint16_t)((bytes_of(blob) + size - (uint8_t *)record + 7) & ~7ul);
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
    size_t size = blob ? tl_read_string(bytes_of(blob), address, most) : 0;

    if (size)
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
        keep_string(record, op, TL_BLOB_NESTED, pointer, tl_capture()->limit + 1);
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
        keep_bytes(record, op, flags | TL_BLOB_NESTED, vector[i].base, least(size, tl_capture()->limit + 1));
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

void tl_keep_here(struct tl_record *record, unsigned flags, const void *from, size_t size)
{
    static const struct tl_capture_op whole = {.kind = TL_CAPTURE_FIXED};

    keep_bytes(record, &whole, flags, (uint64_t)from, size);
}

void tl_keep_of(struct tl_record *record, enum tl_blob_of what, uint64_t address, size_t size)
{
    const struct tl_capture_op op = {.arg = (uint8_t)what};

    keep_bytes(record, &op, what == TL_BLOB_OF_STACK ? TL_BLOB_NESTED : 0, address, size);
}

void tl_keep(struct tl_record *record, const struct tl_capture_op *op, bool after, long result)
{
    const uint64_t *args = (const uint64_t *)(record + 1);
    uint64_t address = args[op->arg], other = args[op->of], filled = ~(uint64_t)0;
    unsigned flags = after ? TL_BLOB_AFTER : 0;
    uint32_t counted = 0;

    if (after && op->when & TL_CAPTURE_FILLED)
        filled = (uint64_t)result;
    switch (op->kind) {
    case TL_CAPTURE_STRING:
        keep_string(record, op, flags, address, tl_capture_string_max);
        break;
    case TL_CAPTURE_BUFFER:
        keep_bytes(record, op, flags, address,
                   least(least(other, filled), op->size ? op->size : tl_capture()->limit + 1));
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
            keep_bytes(record, op, flags, address, least(size, tl_capture()->limit + 256));
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
