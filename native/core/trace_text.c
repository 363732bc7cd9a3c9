#include "trace_text_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static void forget_paths(struct tl_text *t)
{
    for (int i = 0; i < paths_kept; i++) {
        free(t->paths[i].text);
        t->paths[i] = (struct kept_path){0};
    }
}

void tl_text_free(struct tl_text *t)
{
    if (!t)
        return;
    for (int i = 0; i < lines_kept; i++)
        free(t->lines[i].bytes);
    for (int i = 0; i < words_kept; i++)
        free(t->words[i].text);
    forget_paths(t);
    free(t->behind);
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

bool tl_text_put_named(struct tl_text *t, int32_t nr, unsigned index, int64_t value)
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

bool tl_text_put_descriptor(struct tl_text *t, const struct tl_trace_event *event, int64_t fd)
{
    struct kept_path *path = &t->paths[((uint64_t)fd ^ (uint64_t)(uint32_t)event->pid * 7) % paths_kept];
    struct tl_trace_blob blob, own = {0};
    const char *text;
    uint32_t at = 0;
    size_t size;

    tl_put_signed(&t->out, fd);
    if (!t->options.paths)
        return true;
    while (event->has_result && event->result == fd && tl_trace_blob(event, &at, &blob))
        if (blob.flags & TL_BLOB_PATH)
            own = blob;
    if (own.size) {
        tl_put_string(&t->out, "<");
        tl_put(&t->out, own.data, own.size);
        tl_put_string(&t->out, ">");
        return true;
    }
    if (!path->text || path->pid != event->pid || path->fd != fd) {
        if (!t->ask.path(t->context, event->pid, fd, &text, &size))
            return false;
        free(path->text);
        *path = (struct kept_path){event->pid, fd, strndup(text ? text : "", size)};
        if (!path->text)
            return false;
    }
    if (*path->text) {
        tl_put_string(&t->out, "<");
        tl_put_string(&t->out, path->text);
        tl_put_string(&t->out, ">");
    }
    return true;
}

// IS_ASKED: for its line, too.
static bool learn(struct tl_text *t, const struct tl_trace_event *event, const struct tl_text_plan *plan,
                  bool is_asked)
{
    if (event->kind != TL_TRACE_CALL || !event->has_result || tl_trace_has_failed(event) ||
        (plan && !plan->learns))
        return true;
    forget_paths(t);
    return is_asked || t->ask.learn(t->context, event);
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
    int64_t since = t->last ? (int64_t)((uint64_t)start - (uint64_t)t->last) : 0;
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

// *PLAN is NULL for what has none. False: it could not be asked for.
static bool find_plan(struct tl_text *t, const struct tl_trace_event *event, int32_t *nr,
                      const struct tl_text_plan **plan)
{
    struct tl_record head;

    *plan = NULL;
    if (event->kind != TL_TRACE_CALL)
        return true;
    memcpy(&head, event->data, sizeof head);
    *nr = head.nr;
    if (head.flags & TL_RECORD_I386 || head.nr < 0 || head.nr >= tl_text_calls)
        return true;
    struct tl_text_plan *found = &t->plans[head.nr];
    if (found->state == TL_TEXT_UNKNOWN && !t->ask.plan(t->context, head.nr, found))
        return false;
    *plan = found->state == TL_TEXT_PLANNED ? found : NULL;
    return true;
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
    const struct tl_text_plan *plan;
    bool is_shown = true, is_covered = false, is_asked = false;

    if (!find_plan(t, event, &nr, &plan))
        return false;
    if (plan && event->has_result) {
        is_shown = plan->shown & (tl_trace_has_failed(event) ? TL_TEXT_FAILED : TL_TEXT_SUCCESSFUL);
        is_covered = true;
    }
    if (is_shown) {
        note_thread(t, event->tid);
        put_thread(t, event->tid);
        put_stamp(t, event->start);
        size_t start = t->out.size;
        if (is_covered && !tl_text_put_call(t, event, plan, nr, &is_covered))
            return false;
        size_t behind = 0;
        if (!is_covered) {
            is_asked = true;
            t->out.size = start;
            if (!ask_line(t, event, &is_shown))
                return false;
            behind = cut_off(t, start);
        }
        if (is_shown && t->options.durations && event->has_result && event->kind == TL_TRACE_CALL) {
            char shown[tl_text_shown];
            double taken = (double)tl_trace_taken(event) / 1e9;
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
    if (t->options.paths && !learn(t, event, plan, is_asked))
        return false;
    if (event->kind == TL_TRACE_GONE)
        forget_thread(t, event->tid);
    return !t->out.has_failed;
}
