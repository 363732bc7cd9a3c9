// Events as lines of text, by plans that say how each argument is written. What no plan covers, or a plan
// cannot, is asked for, and kept for the next time.
#ifndef TL_TRACE_TEXT_H
#define TL_TRACE_TEXT_H

#include "trace_reader.h"

enum tl_text_kind {
    TL_TEXT_NUMBER = 1, // decimal
    TL_TEXT_ADDRESS,    // hexadecimal, or NULL
    TL_TEXT_HANDLE,     // a descriptor that paths are relative to: as others, or AT_FDCWD
    TL_TEXT_NAMED,      // asked for by its value
    TL_TEXT_STRING,     // behind a pointer, up to its NUL
    TL_TEXT_BUFFER,     // behind a pointer, as many bytes as another argument says
    TL_TEXT_STAT,       // behind a pointer: struct stat, its mode and size
    TL_TEXT_ENTRIES,    // behind a pointer: how many struct linux_dirent64
    TL_TEXT_NOTHING,    // of a result: ?
    TL_TEXT_DESCRIPTOR, // a number, and its file where that is wanted
};

enum tl_text_flag {
    TL_TEXT_SIGNED = 1,
    TL_TEXT_OUT = 2,    // the kernel writes behind the pointer
    TL_TEXT_FILLED = 4, // the result says how much
    TL_TEXT_IN = 8,     // the kernel only reads it
};

struct tl_text_op {
    uint8_t kind, flags, index, bits;
    uint8_t of, of_bits; // of a buffer: the argument with its size; else one that counts, plus one, or 0
    uint8_t of_signed, reserved;
    uint32_t mask;                          // this one counts if one of these bits is set in `of`
    uint16_t mode, size, length, reserved2; // of a struct stat: offsets of two members, and its length
};

enum { tl_text_calls = 1024, tl_text_shown = 64 };

enum tl_text_plan_state { TL_TEXT_UNKNOWN, TL_TEXT_PLANNED, TL_TEXT_UNPLANNED };

struct tl_text_plan {
    char name[31];
    uint8_t shown; // calls of this number are wanted: a bit per enum tl_text_outcome
    uint8_t state; // enum tl_text_plan_state
    uint8_t ops;
    uint8_t result; // enum tl_text_kind
    uint8_t result_is_signed;
    uint8_t learns; // it changes what descriptors stand for
    struct tl_text_op op[6];
};

enum tl_text_outcome { TL_TEXT_SUCCESSFUL = 1, TL_TEXT_FAILED = 2, TL_TEXT_UNFINISHED = 4 };

enum tl_text_stamp { TL_TEXT_NONE, TL_TEXT_RELATIVE, TL_TEXT_SECONDS, TL_TEXT_MICROSECONDS, TL_TEXT_EPOCH };

// What has no plan of its own. Each returns false when it has failed, which ends the work.
struct tl_text_ask {
    // The plan of a number; one that is not TL_TEXT_PLANNED has each of its calls asked for.
    bool (*plan)(void *context, int32_t nr, struct tl_text_plan *plan);
    // The text of an argument of a call by its value; as many as its result (tl_text_result), or a mode
    // (tl_text_mode).
    bool (*named)(void *context, int32_t nr, unsigned index, int64_t value, const char **text, size_t *size);
    // A whole line but for its beginning and end, or NULL when there is to be none; behind a NUL in it are
    // more lines.
    bool (*line)(void *context, const struct tl_trace_event *event, const char **text, size_t *size);
    // The file behind a descriptor of a process, or nothing; with options.paths alone, as the next one.
    bool (*path)(void *context, int32_t pid, int64_t fd, const char **text, size_t *size);
    // A call has changed what descriptors stand for, and its line was not asked for, which tells so too.
    bool (*learn)(void *context, const struct tl_trace_event *event);
};
enum { tl_text_result = 6, tl_text_mode = 7 };

enum tl_text_pids { TL_TEXT_SEVERAL, TL_TEXT_ALWAYS, TL_TEXT_NEVER };

struct tl_text_options {
    uint32_t limit;  // bytes of a buffer that are shown
    uint32_t column; // where results begin, counted from one
    bool durations;
    enum tl_text_pids pids;
    bool paths; // descriptors are written with their files
    bool keeps; // what is asked for depends on a record alone
    enum tl_text_stamp stamp;
};

struct tl_text;

struct tl_text *tl_text_new(const struct tl_text_options *options, const struct tl_text_ask *ask,
                            void *context);
void tl_text_free(struct tl_text *text);
bool tl_text_add(struct tl_text *text, const struct tl_trace_event *event);
// What has been written; emptied by tl_text_clear().
const char *tl_text_bytes(const struct tl_text *text, size_t *size);
void tl_text_clear(struct tl_text *text);

#endif
