#include "trace_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "text_buffer.h"

enum {
    lines_kept = 4096,
    words_kept = 4096,
    record_most = 512,  // of a line that is kept
    dirent_length = 16, // offset of d_reclen
};

// A line that was asked for, and the record that it is of, without its times.
struct kept_line {
    uint64_t hash;
    uint32_t record_size, text_size;
    char *bytes; // the record, then the text; NULL: nothing is kept here
};

struct kept_word {
    int32_t nr;
    uint32_t index;
    int64_t value;
    char *text; // NULL: nothing is kept here
};

struct tl_text {
    struct tl_text_options options;
    struct tl_text_ask ask;
    void *context;
    struct tl_text_buffer out;
    char *behind; // lines that follow the one that is written
    struct kept_line lines[lines_kept];
    struct kept_word words[words_kept];
    // Threads that are running, for as long as that matters.
    int32_t *threads;
    size_t thread_count, thread_room;
    int64_t last; // start of the line before
    time_t second;
    char clock[16]; // of that second
};

struct tl_text *tl_text_new(const struct tl_text_options *options, const struct tl_text_ask *ask,
                            void *context)
{
    struct tl_text *t = calloc(1, sizeof *t);

    if (t) {
        t->options = *options;
        t->ask = *ask;
        t->context = context;
        t->second = -1;
    }
    return t;
}

void tl_text_free(struct tl_text *t)
{
    if (!t)
        return;
    for (int i = 0; i < lines_kept; i++)
        free(t->lines[i].bytes);
    for (int i = 0; i < words_kept; i++)
        free(t->words[i].text);
    free(t->behind);
    free(t->options.plans);
    free(t->threads);
    free(t->out.bytes);
    free(t);
}

const char *tl_text_bytes(const struct tl_text *t, size_t *size)
{
    *size = t->out.size;
    return t->out.bytes;
}

void tl_text_clear(struct tl_text *t)
{
    t->out.size = 0;
}

// -- what is asked for

static bool put_named(struct tl_text *t, int32_t nr, unsigned index, int64_t value)
{
    uint64_t hash = ((uint64_t)value ^ (uint64_t)nr << 32 ^ (uint64_t)index << 48) * 0x9e3779b97f4a7c15;
    struct kept_word *word = &t->words[hash >> 52];
    const char *text;
    size_t size;

    if (!word->text || word->nr != nr || word->index != index || word->value != value) {
        if (!t->ask.named(t->context, nr, index, value, &text, &size))
            return false;
        free(word->text);
        *word = (struct kept_word){nr, index, value, strndup(text, size)};
        if (!word->text)
            return false;
    }
    tl_put_string(&t->out, word->text);
    return true;
}

static uint64_t hash_of(const unsigned char *data, size_t size)
{
    uint64_t hash = size, word;

    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&word, data, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 29;
    }
    for (; size; data++, size--)
        hash = (hash ^ *data) * 0x100000001b3;
    return hash;
}

static bool ask_line(struct tl_text *t, const struct tl_trace_event *event, bool *is_shown)
{
    bool is_call = event->kind == TL_TRACE_CALL;
    unsigned char record[record_most];
    struct kept_line *line = NULL;
    const char *text;
    size_t size;
    uint64_t hash = 0;

    if (t->options.keeps && is_call && event->has_result && event->size <= record_most) {
        struct tl_record head;
        memcpy(&head, event->data, sizeof head);
        head.start = head.end = 0;
        memcpy(record, &head, sizeof head);
        memcpy(record + sizeof head, event->data + sizeof head, event->size - sizeof head);
        hash = hash_of(record, event->size);
        line = &t->lines[hash % lines_kept];
        if (line->bytes && line->hash == hash && line->record_size == event->size &&
            memcmp(line->bytes, record, event->size) == 0) {
            *is_shown = line->text_size != 0;
            tl_put(&t->out, line->bytes + line->record_size, line->text_size);
            return true;
        }
    }
    if (!t->ask.line(t->context, event, &text, &size))
        return false;
    *is_shown = text != NULL;
    if (text)
        tl_put(&t->out, text, size);
    if (!line)
        return true;
    free(line->bytes);
    *line = (struct kept_line){hash, event->size, text ? (uint32_t)size : 0, malloc(event->size + size + 1)};
    if (line->bytes) {
        memcpy(line->bytes, record, event->size);
        if (text)
            memcpy(line->bytes + event->size, text, size);
    }
    return true;
}

// -- arguments

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
    if (!put_named(t, nr, tl_text_mode, mode))
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
        tl_put_signed(&t->out, value);
        return true;
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
        return put_named(t, nr, op->index, value);
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
        return put_named(t, nr, tl_text_result, event->result);
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

static bool put_call(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_plan *plan,
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
    size_t size = t->out.size - start;
    size_t column = t->options.column ? t->options.column - 1 : 0;
    char *blank = tl_make_room(&t->out, column);
    if (blank && size < column) {
        memset(blank, ' ', column - size);
        t->out.size += column - size;
    }
    tl_put_string(&t->out, " = ");
    return put_result(t, event, plan, nr);
}

// -- lines

static void note_thread(struct tl_text *t, int32_t tid)
{
    for (size_t i = 0; i < t->thread_count; i++)
        if (t->threads[i] == tid)
            return;
    if (t->thread_count == t->thread_room) {
        size_t room = 2 * t->thread_room + 16;
        int32_t *threads = realloc(t->threads, room * sizeof *threads);
        if (!threads) {
            t->out.has_failed = true;
            return;
        }
        t->threads = threads;
        t->thread_room = room;
    }
    t->threads[t->thread_count++] = tid;
}

static void forget_thread(struct tl_text *t, int32_t tid)
{
    for (size_t i = 0; i < t->thread_count; i++)
        if (t->threads[i] == tid) {
            t->threads[i] = t->threads[--t->thread_count];
            return;
        }
}

static void put_padded(struct tl_text *t, const char *format, long long value, long long rest)
{
    char shown[tl_text_shown];
    int size = snprintf(shown, sizeof shown, format, value, rest);

    tl_put(&t->out, shown, (size_t)size);
}

static void put_thread(struct tl_text *t, int32_t tid)
{
    size_t start = t->out.size;

    if (t->options.pids == TL_TEXT_ALWAYS) {
        tl_put_signed(&t->out, tid);
        tl_put(&t->out, "     ", t->out.size - start < 5 ? 6 - (t->out.size - start) : 1);
    } else if (t->options.pids == TL_TEXT_SEVERAL && t->thread_count > 1) {
        put_padded(t, "[pid %5lld] ", tid, 0);
    }
}

static void put_stamp(struct tl_text *t, int64_t start)
{
    long long seconds = start / 1000000000, rest = start % 1000000000 / 1000;
    int64_t since = t->last ? start - t->last : 0;
    struct tm broken;

    t->last = start;
    switch (t->options.stamp) {
    case TL_TEXT_NONE:
        return;
    case TL_TEXT_RELATIVE: {
        char shown[tl_text_shown];
        tl_put(&t->out, shown, (size_t)snprintf(shown, sizeof shown, "%12.6f ", (double)since / 1e9));
        return;
    }
    case TL_TEXT_EPOCH:
        put_padded(t, "%lld.%06lld ", seconds, rest);
        return;
    default:
        break;
    }
    if (seconds != t->second) {
        t->second = seconds;
        localtime_r(&t->second, &broken);
        strftime(t->clock, sizeof t->clock, "%H:%M:%S", &broken);
    }
    tl_put_string(&t->out, t->clock);
    if (t->options.stamp == TL_TEXT_MICROSECONDS)
        put_padded(t, ".%06lld", rest, 0);
    tl_put_string(&t->out, " ");
}

static const struct tl_text_plan *plan_of(const struct tl_text *t, const struct tl_trace_event *event,
                                          int32_t *nr)
{
    struct tl_record head;

    if (event->kind != TL_TRACE_CALL)
        return NULL;
    memcpy(&head, event->data, sizeof head);
    *nr = head.nr;
    if (head.flags & TL_RECORD_I386 || head.nr < 0 || head.nr >= tl_text_calls)
        return NULL;
    return &t->options.plans[head.nr];
}

// Takes away what is behind a NUL in the line that begins at START, and returns its size.
static size_t cut_off(struct tl_text *t, size_t start)
{
    const char *line = t->out.bytes + start, *end = t->out.bytes + t->out.size;
    const char *nul = t->out.bytes ? memchr(line, 0, (size_t)(end - line)) : NULL;

    if (!nul)
        return 0;
    free(t->behind);
    t->behind = malloc((size_t)(end - nul));
    if (!t->behind) {
        t->out.has_failed = true;
        return 0;
    }
    size_t size = (size_t)(end - nul) - 1;
    memcpy(t->behind, nul + 1, size);
    t->out.size = (size_t)(nul - t->out.bytes);
    return size;
}

bool tl_text_add(struct tl_text *t, const struct tl_trace_event *event)
{
    size_t before = t->out.size;
    int64_t last = t->last;
    int32_t nr = -1;
    const struct tl_text_plan *plan = plan_of(t, event, &nr);
    bool is_shown = true, is_covered = false;

    if (plan && plan->is_ready && event->has_result) {
        is_shown = plan->shown & (tl_trace_has_failed(event) ? TL_TEXT_FAILED : TL_TEXT_SUCCESSFUL);
        is_covered = true;
    }
    if (is_shown) {
        note_thread(t, event->tid);
        put_thread(t, event->tid);
        put_stamp(t, event->start);
        size_t start = t->out.size;
        if (is_covered && !put_call(t, event, plan, nr, &is_covered))
            return false;
        size_t behind = 0;
        if (!is_covered) {
            t->out.size = start;
            if (!ask_line(t, event, &is_shown))
                return false;
            behind = cut_off(t, start);
        }
        if (is_shown && t->options.durations && event->has_result && event->kind == TL_TRACE_CALL) {
            char shown[tl_text_shown];
            double taken = (double)(event->end - event->start) / 1e9;
            tl_put(&t->out, shown, (size_t)snprintf(shown, sizeof shown, " <%.6f>", taken));
        }
        tl_put_string(&t->out, "\n");
        if (behind)
            tl_put(&t->out, t->behind, behind);
    }
    if (!is_shown) {
        t->out.size = before;
        t->last = last;
    }
    if (event->kind == TL_TRACE_GONE)
        forget_thread(t, event->tid);
    return !t->out.has_failed;
}
