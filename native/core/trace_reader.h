// Reads recorded files (native/agent/capture.h) piece by piece, also while they grow, and brings what the
// threads have done into one order: by the time at which each call ended.
#ifndef TL_TRACE_READER_H
#define TL_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture.h"

// As the file has them; trapline.trace.file knows these too.
enum tl_trace_kind {
    TL_TRACE_CALL = 1,
    TL_TRACE_SIGNAL,
    TL_TRACE_BEGUN,
    TL_TRACE_GONE,
    TL_TRACE_DROPPED,
    TL_TRACE_STATUS,
};

struct tl_trace_block;

// One event. RECORD is of a call or signal, and whole; what follows it is within `size`.
struct tl_trace_event {
    enum tl_trace_kind kind;
    int32_t pid, tid;
    bool has_result;
    bool is_unseen;            // of a call: nobody saw whether it has returned, and what
    int64_t result;            // of a call; how many were dropped; how the command ended
    int64_t start, end;        // nanoseconds since 1970
    const unsigned char *data; // the record, or a name
    uint32_t size;
    uint64_t ticks, from, count; // its end and its start by the time stamp counter, and its place in the file
    struct tl_trace_block *block;
    struct tl_trace_maps *maps; // where code was in its process, or NULL
};

struct tl_trace_maps {
    size_t users;
    uint32_t size;
    char text[];
};

// Memory that an argument points to.
struct tl_trace_blob {
    uint64_t address;
    const unsigned char *data;
    uint32_t size;
    uint8_t arg, flags; // enum tl_blob_flag
};

// How often calls of one number were made, with one outcome, and how long they took.
enum { tl_trace_bins = 6, tl_trace_calls = 1024 };
struct tl_trace_count {
    uint64_t calls, ns;
    uint64_t bins[tl_trace_bins]; // under 1 us, 10 us, ... and all others; none of those that were not seen
};
enum tl_trace_outcome { TL_TRACE_SUCCEEDED, TL_TRACE_FAILED, TL_TRACE_UNSEEN, tl_trace_outcomes };

struct tl_trace_reader;

struct tl_trace_reader *tl_trace_reader_new(void); // NULL: no memory
void tl_trace_reader_free(struct tl_trace_reader *reader);
// Takes the next bytes of a file, behind its header. False: no memory.
bool tl_trace_feed(struct tl_trace_reader *reader, const void *data, size_t size);
// Forgets the bytes at the end that are no whole chunk, and says how many there were: the next ones begin
// there.
size_t tl_trace_give_back(struct tl_trace_reader *reader);
// The next event that nothing can come before any more; with EVERYTHING the next there is. It is valid until
// the reader is asked again.
const struct tl_trace_event *tl_trace_next(struct tl_trace_reader *reader, bool everything);

// Of all calls that tl_trace_next() has returned, but for those that have not.
const struct tl_trace_count *tl_trace_counts(const struct tl_trace_reader *reader, bool is_i386, unsigned nr,
                                             enum tl_trace_outcome outcome);

int64_t tl_trace_taken(const struct tl_trace_event *event); // nanoseconds
bool tl_trace_has_failed(const struct tl_trace_event *event);
uint64_t tl_trace_argument(const struct tl_trace_event *event, unsigned index); // 0 where there is none
// The blob behind *AT, which begins as 0; false: there is no other.
bool tl_trace_blob(const struct tl_trace_event *event, uint32_t *at, struct tl_trace_blob *blob);

#endif
