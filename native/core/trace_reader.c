#include "trace_reader.h"

#include <stdlib.h>
#include <string.h>

#include "trace_clock.h"

enum { max_errno = 4095 };

// What was fed at once, and lives as long as an event in it.
struct tl_trace_block {
    size_t events;
    unsigned char bytes[];
};

struct newest {
    int32_t tid; // 0: nobody
    uint64_t ticks;
};

// What a writer has told of the time.
struct part {
    int32_t number;
    uint64_t last, sure;
};

struct process {
    int32_t pid; // 0: nobody
    struct tl_trace_maps *maps;
};

struct tl_trace_reader {
    unsigned char *rest; // of a chunk that is not complete
    size_t rest_size;
    struct tl_trace_event *held; // those before `ready` are in order, and given away before `given`
    size_t held_count, held_room, ready, given;
    uint64_t count;
    struct newest *newest; // when each thread has ended its last call
    size_t newest_count, newest_room;
    uint64_t newest_of_all;
    struct process *processes; // of which it is known where code is
    size_t process_count;
    struct tl_trace_clock clock;
    struct part *parts; // that are not complete
    size_t part_count;
    uint64_t sure; // what ended before is all there
    bool is_out_of_memory;
    struct tl_trace_count counts[2][tl_trace_calls][tl_trace_outcomes]; // by architecture and number
};

struct tl_trace_reader *tl_trace_reader_new(void)
{
    return calloc(1, sizeof(struct tl_trace_reader));
}

static void drop_maps(struct tl_trace_maps *maps)
{
    if (maps && --maps->users == 0)
        free(maps);
}

static void release(struct tl_trace_event *event)
{
    if (event->block && --event->block->events == 0)
        free(event->block);
    event->block = NULL;
    drop_maps(event->maps);
    event->maps = NULL;
}

void tl_trace_reader_free(struct tl_trace_reader *reader)
{
    if (!reader)
        return;
    for (size_t i = reader->given ? reader->given - 1 : 0; i < reader->held_count; i++)
        release(&reader->held[i]);
    for (size_t i = 0; i < reader->process_count; i++)
        drop_maps(reader->processes[i].maps);
    tl_trace_clock_free(&reader->clock);
    free(reader->processes);
    free(reader->parts);
    free(reader->held);
    free(reader->newest);
    free(reader->rest);
    free(reader);
}

// -- who has written what

static void update_sure(struct tl_trace_reader *r)
{
    uint64_t sure = UINT64_MAX;

    for (size_t i = 0; i < r->part_count; i++)
        if (r->parts[i].sure < sure)
            sure = r->parts[i].sure;
    // Without any, nothing is known of the one that may come.
    if (r->part_count)
        r->sure = sure;
}

static void note_part(struct tl_trace_reader *r, int32_t number, uint64_t ticks, bool is_all_there)
{
    struct part *part = r->parts;

    while (part < r->parts + r->part_count && part->number != number)
        part++;
    if (part == r->parts + r->part_count) {
        struct part *parts = realloc(r->parts, (r->part_count + 1) * sizeof *parts);
        if (!parts) {
            r->is_out_of_memory = true;
            return;
        }
        r->parts = parts;
        part = &parts[r->part_count++];
        *part = (struct part){.number = number};
    }
    // What had ended when the supervisor looked before is all there; otherwise it has only begun to look.
    uint64_t sure = is_all_there ? ticks : part->last;
    part->sure = sure > part->sure ? sure : part->sure;
    part->last = ticks > part->last ? ticks : part->last;
    update_sure(r);
}

static void end_part(struct tl_trace_reader *r, int32_t number)
{
    for (size_t i = 0; i < r->part_count; i++)
        if (r->parts[i].number == number) {
            r->parts[i] = r->parts[--r->part_count];
            update_sure(r);
            return;
        }
}

// -- when each thread has ended its last call

static struct newest *find(struct newest *table, size_t room, int32_t tid)
{
    size_t at = (uint32_t)tid * 2654435761u & (room - 1);

    while (table[at].tid && table[at].tid != tid)
        at = (at + 1) & (room - 1);
    return &table[at];
}

static uint64_t newest_of(const struct tl_trace_reader *r, int32_t tid)
{
    return r->newest_room ? find(r->newest, r->newest_room, tid)->ticks : 0;
}

static void note_newest(struct tl_trace_reader *r, int32_t tid, uint64_t ticks)
{
    if (2 * r->newest_count >= r->newest_room) {
        size_t room = r->newest_room ? 2 * r->newest_room : 64;
        struct newest *table = calloc(room, sizeof *table);
        if (!table) {
            r->is_out_of_memory = true;
            return;
        }
        for (size_t i = 0; i < r->newest_room; i++)
            if (r->newest[i].tid)
                *find(table, room, r->newest[i].tid) = r->newest[i];
        free(r->newest);
        r->newest = table;
        r->newest_room = room;
    }
    struct newest *found = find(r->newest, r->newest_room, tid);
    r->newest_count += !found->tid;
    *found = (struct newest){tid, ticks};
    if (ticks > r->newest_of_all)
        r->newest_of_all = ticks;
}

// -- where code is

static struct tl_trace_maps *maps_of(const struct tl_trace_reader *r, int32_t pid)
{
    for (size_t i = 0; i < r->process_count; i++)
        if (r->processes[i].pid == pid)
            return r->processes[i].maps;
    return NULL;
}

static void note_maps(struct tl_trace_reader *r, int32_t pid, const unsigned char *text, uint32_t size)
{
    struct tl_trace_maps *maps = malloc(sizeof *maps + size);
    struct process *process = NULL;

    for (size_t i = 0; i < r->process_count; i++)
        if (r->processes[i].pid == pid)
            process = &r->processes[i];
    if (!process) {
        struct process *processes = realloc(r->processes, (r->process_count + 1) * sizeof *processes);
        if (processes) {
            r->processes = processes;
            process = &processes[r->process_count++];
            *process = (struct process){.pid = pid};
        }
    }
    if (!maps || !process) {
        free(maps);
        r->is_out_of_memory = true;
        return;
    }
    *maps = (struct tl_trace_maps){.users = 1, .size = size};
    memcpy(maps->text, text, size);
    drop_maps(process->maps);
    process->maps = maps;
}

// -- chunks

static void hold(struct tl_trace_reader *r, struct tl_trace_block *block, struct tl_trace_event event)
{
    if (r->held_count == r->held_room) {
        size_t room = r->held_room ? 2 * r->held_room : 1024;
        struct tl_trace_event *held = realloc(r->held, room * sizeof *held);
        if (!held) {
            r->is_out_of_memory = true;
            return;
        }
        r->held = held;
        r->held_room = room;
    }
    event.count = r->count++;
    event.block = block;
    block->events++;
    if (event.maps)
        event.maps->users++;
    r->held[r->held_count++] = event;
}

static void take_records(struct tl_trace_reader *r, struct tl_trace_block *block,
                         const struct tl_chunk *chunk, const unsigned char *at)
{
    const unsigned char *end = at + chunk->size;
    struct tl_trace_maps *maps = maps_of(r, chunk->pid);
    struct tl_record record;

    while ((size_t)(end - at) >= sizeof record) {
        memcpy(&record, at, sizeof record);
        if (record.args > 6 || record.size < sizeof record + 8u * record.args || record.size > end - at)
            return; // the program has written over its ring
        bool is_call = !(record.flags & TL_RECORD_SIGNAL);
        bool is_unseen = (record.flags & (TL_RECORD_UNSEEN | TL_RECORD_UNFINISHED)) == TL_RECORD_UNSEEN;
        bool is_complete = !(record.flags & (TL_RECORD_UNSEEN | TL_RECORD_UNFINISHED));
        // Otherwise it stands where the thread had come to, behind all that it has done.
        uint64_t ticks = is_complete ? record.end : record.start;
        note_newest(r, chunk->tid, ticks);
        hold(r, block,
             (struct tl_trace_event){
                 .kind = is_call ? TL_TRACE_CALL : TL_TRACE_SIGNAL,
                 .pid = chunk->pid,
                 .tid = chunk->tid,
                 .has_result = is_complete && is_call,
                 .is_unseen = is_unseen && is_call,
                 .result = record.result,
                 .data = at,
                 .size = record.size,
                 .ticks = ticks,
                 .from = record.start,
                 .maps = maps,
             });
        at += record.size;
    }
}

// REST bytes follow the chunk.
static void take_chunk(struct tl_trace_reader *r, struct tl_trace_block *block, const struct tl_chunk *chunk,
                       const unsigned char *at, size_t rest)
{
    uint64_t last = r->clock.moments == 2 ? r->clock.last.ticks : 0;
    struct tl_trace_event event = {.pid = chunk->pid, .tid = chunk->tid, .data = at, .size = chunk->size};
    struct tl_chunk_clock clock;
    struct tl_record following;

    switch (chunk->type) {
    case TL_CHUNK_RECORDS:
        take_records(r, block, chunk, at);
        return;
    case TL_CHUNK_CLOCK:
        if (chunk->size < sizeof clock)
            return;
        memcpy(&clock, at, sizeof clock);
        note_part(r, chunk->pid, clock.tsc, chunk->tid == 1);
        if (!tl_trace_clock_tell(&r->clock, (struct tl_trace_moment){clock.tsc, clock.realtime_ns}))
            r->is_out_of_memory = true;
        return;
    case TL_CHUNK_PART:
        end_part(r, chunk->pid);
        return;
    case TL_CHUNK_MAPS:
        note_maps(r, chunk->pid, at, chunk->size);
        return;
    case TL_CHUNK_BEGUN:
        event.kind = TL_TRACE_BEGUN;
        event.ticks = last;
        // Before the thread's first record, which comes next.
        if (rest >= sizeof(struct tl_chunk) + sizeof following) {
            memcpy(&following, at + chunk->size + sizeof(struct tl_chunk), sizeof following);
            event.ticks = following.start;
        }
        break;
    case TL_CHUNK_GONE:
        event.kind = TL_TRACE_GONE;
        event.ticks = newest_of(r, chunk->tid);
        break;
    case TL_CHUNK_DROPPED:
        event.kind = TL_TRACE_DROPPED;
        event.ticks = newest_of(r, chunk->tid);
        break;
    case TL_CHUNK_STATUS:
        event.kind = TL_TRACE_STATUS;
        event.ticks = r->newest_of_all;
        break;
    default:
        return;
    }
    // Behind all that the thread has done, and the end of the command behind everything.
    if (event.kind != TL_TRACE_BEGUN && event.ticks < last)
        event.ticks = last;
    if (event.kind == TL_TRACE_STATUS && chunk->size >= 4) {
        int32_t status;
        memcpy(&status, at, sizeof status);
        event.result = status;
        event.has_result = true;
    } else if (event.kind == TL_TRACE_DROPPED && chunk->size >= 8) {
        memcpy(&event.result, at, sizeof event.result);
        event.has_result = true;
    }
    event.from = event.ticks;
    hold(r, block, event);
}

bool tl_trace_feed(struct tl_trace_reader *r, const void *data, size_t size)
{
    struct tl_trace_block *block = malloc(sizeof *block + r->rest_size + size);
    size_t end = r->rest_size + size, at = 0;
    struct tl_chunk chunk;

    if (!block)
        return false;
    block->events = 1; // the feeding itself
    if (r->rest_size)
        memcpy(block->bytes, r->rest, r->rest_size);
    memcpy(block->bytes + r->rest_size, data, size);
    while (end - at >= sizeof chunk) {
        memcpy(&chunk, block->bytes + at, sizeof chunk);
        if (end - at - sizeof chunk < chunk.size)
            break;
        at += sizeof chunk;
        take_chunk(r, block, &chunk, block->bytes + at, end - at - chunk.size);
        at += chunk.size;
    }
    free(r->rest);
    r->rest_size = end - at;
    r->rest = malloc(r->rest_size + 1);
    if (r->rest)
        memcpy(r->rest, block->bytes + at, r->rest_size);
    else
        r->is_out_of_memory = true;
    release(&(struct tl_trace_event){.block = block});
    return !r->is_out_of_memory;
}

size_t tl_trace_give_back(struct tl_trace_reader *r)
{
    size_t size = r->rest_size;

    r->rest_size = 0;
    return size;
}

// -- order

static struct tl_record head_of(const struct tl_trace_event *event)
{
    struct tl_record record;

    memcpy(&record, event->data, sizeof record);
    return record;
}

int64_t tl_trace_taken(const struct tl_trace_event *event)
{
    return (int64_t)((uint64_t)event->end - (uint64_t)event->start);
}

bool tl_trace_has_failed(const struct tl_trace_event *event)
{
    return event->result < 0 && event->result >= -max_errno;
}

static int compare(const void *a, const void *b)
{
    const struct tl_trace_event *x = a, *y = b;

    if (x->ticks != y->ticks)
        return x->ticks < y->ticks ? -1 : 1;
    return x->count < y->count ? -1 : x->count > y->count;
}

static void count(struct tl_trace_reader *r, const struct tl_trace_event *event)
{
    struct tl_record head = head_of(event);
    uint64_t ns = (uint64_t)tl_trace_taken(event);
    unsigned bin = 0;

    if (head.nr < 0 || head.nr >= tl_trace_calls)
        return;
    enum tl_trace_outcome outcome = event->is_unseen             ? TL_TRACE_UNSEEN
                                    : tl_trace_has_failed(event) ? TL_TRACE_FAILED
                                                                 : TL_TRACE_SUCCEEDED;
    struct tl_trace_count *found = &r->counts[!!(head.flags & TL_RECORD_I386)][head.nr][outcome];
    found->calls++;
    if (event->is_unseen)
        return;
    for (uint64_t most = 1000; bin < tl_trace_bins - 1 && ns >= most; most *= 10)
        bin++;
    found->ns += ns;
    found->bins[bin]++;
}

const struct tl_trace_count *tl_trace_counts(const struct tl_trace_reader *r, bool is_i386, unsigned nr,
                                             enum tl_trace_outcome outcome)
{
    return &r->counts[is_i386][nr][outcome];
}

const struct tl_trace_event *tl_trace_next(struct tl_trace_reader *r, bool everything)
{
    uint64_t until = everything ? UINT64_MAX : r->sure;

    if (r->given)
        release(&r->held[r->given - 1]);
    if (!r->held_count)
        return NULL;
    if (r->given == r->ready) {
        // All that was in order is given away: put what has come since in order.
        memmove(r->held, r->held + r->given, (r->held_count - r->given) * sizeof *r->held);
        r->held_count -= r->given;
        r->given = r->ready = 0;
        qsort(r->held, r->held_count, sizeof *r->held, compare);
        while (r->ready < r->held_count && r->held[r->ready].ticks < until)
            r->ready++;
        if (r->ready == 0)
            return NULL;
    }
    struct tl_trace_event *event = &r->held[r->given++];
    event->start = tl_trace_clock_time(&r->clock, event->from);
    event->end = event->from == event->ticks ? event->start : tl_trace_clock_time(&r->clock, event->ticks);
    if ((event->has_result || event->is_unseen) && event->kind == TL_TRACE_CALL)
        count(r, event);
    return event;
}

// -- what is in a record

uint64_t tl_trace_argument(const struct tl_trace_event *event, unsigned index)
{
    uint64_t value;

    if (index >= head_of(event).args)
        return 0;
    memcpy(&value, event->data + sizeof(struct tl_record) + 8 * index, sizeof value);
    return value;
}

bool tl_trace_blob(const struct tl_trace_event *event, uint32_t *at, struct tl_trace_blob *blob)
{
    struct tl_record record = head_of(event);
    uint32_t here = *at ? *at : (uint32_t)sizeof record + 8u * record.args;
    uint32_t used = sizeof(struct tl_blob);
    struct tl_blob head;

    if (here > event->size || event->size - here < used)
        return false;
    memcpy(&head, event->data + here, sizeof head);
    blob->arg = head.arg;
    blob->flags = head.flags;
    blob->size = head.size;
    blob->address = tl_trace_argument(event, head.arg);
    if (head.flags & TL_BLOB_NESTED) {
        if (event->size - here < used + sizeof blob->address)
            return false;
        memcpy(&blob->address, event->data + here + used, sizeof blob->address);
        used += sizeof blob->address;
    }
    if (event->size - here < used + head.size)
        return false;
    blob->data = event->data + here + used;
    *at = here + ((used + head.size + 7) & ~7u);
    return true;
}
