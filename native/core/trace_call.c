// Calls by their plans: the arguments, and the result.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "trace_text_state.h"

enum { dirent_length = 16 }; // offset of d_reclen

static int64_t narrow(uint64_t value, unsigned bits, bool is_signed)
{
    if (bits < 64) {
        value &= (1ull << bits) - 1;
        if (is_signed && value >> (bits - 1))
            value |= ~0ull << bits;
    }
    return (int64_t)value;
}

// The memory at an address: as the call has left it, or if it is only read as it was before.
static bool find_memory(const struct tl_trace_event *event, uint64_t address, bool is_read,
                        struct tl_trace_blob *found)
{
    struct tl_trace_blob blob;
    uint32_t at = 0;
    bool is_found = false;

    while (tl_trace_blob(event, &at, &blob)) {
        if (blob.flags & TL_BLOB_PATH || address < blob.address || address - blob.address >= blob.size ||
            (is_read && (is_found || blob.flags & TL_BLOB_AFTER)))
            continue;
        *found = blob;
        found->data += address - blob.address;
        found->size -= (uint32_t)(address - blob.address);
        is_found = true;
    }
    return is_found;
}

static void put_string_at(struct tl_text *t, const struct tl_trace_event *event, uint64_t address)
{
    struct tl_trace_blob blob;

    if (!find_memory(event, address, true, &blob)) {
        tl_put_address(&t->out, address);
        return;
    }
    size_t size = strnlen((const char *)blob.data, blob.size);
    tl_put_quoted(&t->out, blob.data, size, size);
}

static void put_buffer(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_op *op,
                       uint64_t address)
{
    int64_t size = narrow(tl_trace_argument(event, op->of), op->of_bits, op->of_signed);
    bool is_huge = size < 0 && !op->of_signed;
    struct tl_trace_blob blob = {0};

    if (is_huge)
        size = INT64_MAX;
    else if (size < 0)
        size = 0;
    if (op->flags & TL_TEXT_FILLED && event->result < size)
        size = event->result;
    bool is_found = size > 0 && find_memory(event, address, op->flags & TL_TEXT_IN, &blob);
    if (!is_found && size) {
        tl_put_address(&t->out, address);
        return;
    }
    // One byte more than is shown tells that there are more.
    size_t kept = blob.size < (uint64_t)size ? blob.size : (size_t)size;
    tl_put_quoted(&t->out, blob.data, kept, t->options.limit);
}

static void put_entries(struct tl_text *t, const struct tl_trace_event *event, uint64_t address)
{
    struct tl_trace_blob blob = {0};
    unsigned long long count = 0;
    uint16_t length;

    tl_put_address(&t->out, address);
    if (!find_memory(event, address, false, &blob) && event->result)
        return;
    for (size_t at = 0; at + dirent_length + sizeof length <= blob.size; at += length) {
        memcpy(&length, blob.data + at + dirent_length, sizeof length);
        count++;
        if (!length)
            break;
    }
    tl_put_string(&t->out, " /* ");
    tl_put_decimal(&t->out, count, false);
    tl_put_string(&t->out, count == 1 ? " entry */" : " entries */");
}

static bool put_stat(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_op *op,
                     uint64_t address, int32_t nr, bool *is_covered)
{
    struct tl_trace_blob blob;
    uint32_t mode;
    int64_t size;

    if (!find_memory(event, address, false, &blob) || blob.size < op->length) {
        tl_put_address(&t->out, address);
        return true;
    }
    memcpy(&mode, blob.data + op->mode, sizeof mode);
    memcpy(&size, blob.data + op->size, sizeof size);
    *is_covered = !S_ISCHR(mode) && !S_ISBLK(mode);
    if (!*is_covered)
        return true;
    tl_put_string(&t->out, "{st_mode=");
    if (!tl_text_put_named(t, nr, tl_text_mode, mode))
        return false;
    tl_put_string(&t->out, ", st_size=");
    tl_put_signed(&t->out, size);
    tl_put_string(&t->out, ", ...}");
    return true;
}

static bool put_argument(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_op *op,
                         int32_t nr, bool *is_covered)
{
    uint64_t raw = tl_trace_argument(event, op->index);
    int64_t value = narrow(raw, op->bits, op->flags & TL_TEXT_SIGNED);

    switch (op->kind) {
    case TL_TEXT_HANDLE:
        if (value == AT_FDCWD) {
            tl_put_string(&t->out, "AT_FDCWD");
            return true;
        }
        return tl_text_put_descriptor(t, event, value);
    case TL_TEXT_DESCRIPTOR:
        return tl_text_put_descriptor(t, event, value);
    case TL_TEXT_NUMBER:
        if (op->flags & TL_TEXT_SIGNED)
            tl_put_signed(&t->out, value);
        else
            tl_put_decimal(&t->out, (uint64_t)value, false);
        return true;
    case TL_TEXT_ADDRESS:
        tl_put_address(&t->out, (uint64_t)value);
        return true;
    case TL_TEXT_NAMED:
        return tl_text_put_named(t, nr, op->index, value);
    default:
        break;
    }
    if (!value || (op->flags & TL_TEXT_OUT && tl_trace_has_failed(event))) {
        tl_put_address(&t->out, (uint64_t)value);
        return true;
    }
    if (op->kind == TL_TEXT_STRING)
        put_string_at(t, event, (uint64_t)value);
    else if (op->kind == TL_TEXT_BUFFER)
        put_buffer(t, event, op, (uint64_t)value);
    else if (op->kind == TL_TEXT_ENTRIES)
        put_entries(t, event, (uint64_t)value);
    else
        return put_stat(t, event, op, (uint64_t)value, nr, is_covered);
    return true;
}

static bool put_result(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_plan *plan,
                       int32_t nr)
{
    if (tl_trace_has_failed(event) || plan->result == TL_TEXT_NAMED)
        return tl_text_put_named(t, nr, tl_text_result, event->result);
    if (plan->result == TL_TEXT_DESCRIPTOR)
        return tl_text_put_descriptor(t, event, event->result);
    if (plan->result == TL_TEXT_NOTHING)
        tl_put_string(&t->out, "?");
    else if (plan->result == TL_TEXT_ADDRESS)
        tl_put_address(&t->out, (uint64_t)event->result);
    else if (plan->result_is_signed)
        tl_put_signed(&t->out, event->result);
    else
        tl_put_decimal(&t->out, (uint64_t)event->result, false);
    return true;
}

// Of UTF-8: names of files are the only ones of more than a byte.
static size_t count_characters(const char *text, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

bool tl_text_put_call(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_plan *plan,
                      int32_t nr, bool *is_covered)
{
    size_t start = t->out.size;

    tl_put_string(&t->out, plan->name);
    tl_put_string(&t->out, "(");
    for (int i = 0; i < plan->ops && *is_covered; i++) {
        const struct tl_text_op *op = &plan->op[i];
        if (op->mask && !(tl_trace_argument(event, op->of) & op->mask))
            continue;
        if (i)
            tl_put_string(&t->out, ", ");
        if (!put_argument(t, event, op, nr, is_covered))
            return false;
    }
    tl_put_string(&t->out, ")");
    size_t size = count_characters(t->out.bytes + start, t->out.size - start);
    size_t column = t->options.column ? t->options.column - 1 : 0;
    char *blank = tl_make_room(&t->out, column);
    if (blank && size < column) {
        memset(blank, ' ', column - size);
        t->out.size += column - size;
    }
    tl_put_string(&t->out, " = ");
    return put_result(t, event, plan, nr);
}
