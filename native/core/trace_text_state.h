// What the files that write lines share.
#ifndef TL_TRACE_TEXT_STATE_H
#define TL_TRACE_TEXT_STATE_H

#include <time.h>

#include "text_buffer.h"
#include "trace_text.h"

enum {
    lines_kept = 4096,
    words_kept = 4096,
    paths_kept = 64,
    record_most = 512, // of a line that is kept
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

// What a descriptor stands for.
struct kept_path {
    int32_t pid; // 0: nothing is kept here
    int64_t fd;
    char *text;
};

struct tl_text {
    struct tl_text_options options;
    struct tl_text_ask ask;
    void *context;
    struct tl_text_buffer out;
    char *behind; // lines that follow the one that is written
    struct tl_text_plan plans[tl_text_calls];
    struct kept_line lines[lines_kept];
    struct kept_word words[words_kept];
    struct kept_path paths[paths_kept];
    // Threads that are running, for as long as that matters.
    int32_t *threads;
    size_t thread_count, thread_room;
    int64_t last; // start of the line before
    time_t second;
    char clock[16]; // of that second
};

// The text of a value, asked for if it is not known. False: that has failed.
bool tl_text_put_named(struct tl_text *text, int32_t nr, unsigned index, int64_t value);
// A descriptor, with its file where that is wanted. False: that could not be asked for.
bool tl_text_put_descriptor(struct tl_text *text, const struct tl_trace_event *event, int64_t fd);
// A call by its plan. *IS_COVERED is false behind it if the plan does not cover this one.
bool tl_text_put_call(struct tl_text *text, const struct tl_trace_event *event,
                      const struct tl_text_plan *plan, int32_t nr, bool *is_covered);

#endif
