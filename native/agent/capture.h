// Captured calls: the records that agents write, the rings in which they write them, and the file to which
// the supervisor copies them. Needs no libc. All numbers are little-endian.
//
//   file      struct tl_capture_file, then chunks until its end
//   chunk     struct tl_chunk and `size` bytes; one that is cut short is where the writer was killed
//   part      chunks by one of several writers, each of which appends whole chunks
//   records   of one thread, in the order in which its calls ended; size is a multiple of 8
//
//   record    struct tl_record
//             `args` argument registers, 8 bytes each
//             struct tl_blob after struct tl_blob: memory that the arguments point to, each padded to 8 bytes
//
// A thread writes each record at the head of its own ring: what it knows before the call, then the rest, and
// then it moves the head behind it. So a call that never returns is there too, though not behind the head.
// A read or write of a few bytes is one line of the processor's cache: 32 + 3 * 8 + 4 + 4.
#ifndef TL_CAPTURE_H
#define TL_CAPTURE_H

#include <stdint.h>

enum tl_record_flag {
    TL_RECORD_I386 = 1,       // by the 32-bit convention
    TL_RECORD_UNFINISHED = 2, // has not returned, and never will: result and end are nothing
    TL_RECORD_CUT = 4,        // there was no room for all of its memory
    TL_RECORD_SIGNAL = 8,     // no call: entered a handler; one blob with its siginfo, nr is its number
    TL_RECORD_UNSEEN = 16,    // nobody saw whether it has returned, and what: result and end are nothing
};

struct tl_record {
    uint16_t size;
    uint8_t flags, args;
    int32_t nr;
    uint64_t start, end; // of the time stamp counter
    int64_t result;      // -1 to -4095 is an error
};

enum tl_blob_flag {
    TL_BLOB_AFTER = 1, // read when the call had returned
    TL_BLOB_NESTED =
        2, // not what the argument points to: its address comes first, 8 bytes that `size` does not count
    TL_BLOB_PATH = 4, // the file behind the descriptor that the call has returned, as /proc names it
};

// Blobs that belong to no argument.
enum tl_blob_of {
    TL_BLOB_OF_STACK = 0xfe,     // nested: what is at the stack pointer and above
    TL_BLOB_OF_REGISTERS = 0xff, // in the order of the kernel's signal frames
};

struct tl_blob {
    uint8_t arg, flags;
    uint16_t size;
};

enum { tl_capture_version = 2 };

struct tl_capture_file {
    char magic[8]; // "tltrace\n"
    uint32_t version, size;
    uint32_t arch;  // AUDIT_ARCH_* of calls without TL_RECORD_I386
    uint32_t limit; // bytes of a buffer that are kept
};

enum tl_chunk_type {
    TL_CHUNK_RECORDS = 1,
    TL_CHUNK_CLOCK,   // struct tl_chunk_clock: what was the time; before the records that are found then, of
                      // the part of the file whose number is in pid (0: all of it). With 1 as tid all that
                      // ended before is there, otherwise what ended before the last such chunk
    TL_CHUNK_GONE,    // the thread has ended; nothing follows
    TL_CHUNK_DROPPED, // 8 bytes: so many calls of the thread found no room
    TL_CHUNK_BEGUN,   // a new thread; its name
    TL_CHUNK_STATUS,  // 4 bytes: the command's exit status, or minus the signal that ended it; tid is its
                      // process
    TL_CHUNK_TEXT,    // JSON about the session
    TL_CHUNK_MAPS,    // the process's code in the words of /proc/PID/maps, before the records that need it
    TL_CHUNK_PART,    // the part whose number is in pid is complete
};

struct tl_chunk {
    uint32_t type, size;
    int32_t pid, tid;
};

struct tl_chunk_clock {
    uint64_t tsc;
    int64_t realtime_ns;
};

// What is read of the memory behind an argument.
enum tl_capture_kind {
    TL_CAPTURE_STRING = 1, // up to its NUL
    TL_CAPTURE_BUFFER,     // as many bytes as another argument says, at most `limit`
    TL_CAPTURE_ARRAY, // as many elements of `size` bytes as another argument says, at most `tl_capture_items`
    TL_CAPTURE_FIXED, // `size` bytes
    TL_CAPTURE_COUNTED,  // as many bytes as the 4 bytes say to which another argument points, at most `size`
    TL_CAPTURE_VECTOR,   // struct iovec, as many as another argument says, and what they point to
    TL_CAPTURE_MESSAGE,  // struct msghdr and what it points to
    TL_CAPTURE_STRINGS,  // an array of pointers up to a null pointer, and the first `size` strings
    TL_CAPTURE_IOCTL,    // as many bytes as the request in the argument before says, if it knows
    TL_CAPTURE_PATH,     // the path of the descriptor that is returned
    TL_CAPTURE_IF,       // `size` bytes, if another argument is `value`
    TL_CAPTURE_BEHIND,   // `size` bytes behind the pointer that is at offset `value`
    TL_CAPTURE_MESSAGES, // struct mmsghdr, as many as another argument says, and what they point to
};

enum tl_capture_when {
    TL_CAPTURE_BEFORE = 1,
    TL_CAPTURE_AFTER = 2,  // unless the call has failed
    TL_CAPTURE_FILLED = 4, // of as many bytes or elements as the result says
};

struct tl_capture_op {
    uint8_t kind, arg, when, of; // of: the other argument
    uint16_t size, value;
};

enum { tl_capture_ops = 12, tl_capture_calls = 1024, tl_capture_items = 32, tl_capture_pointers = 512 };

// What is kept of a call.
struct tl_capture_plan {
    uint8_t wanted, args;
    uint16_t before, after; // bit per operation that is due then
    uint8_t stack;          // KB of the stack that are kept, and the registers
    uint8_t maps;           // it may change what code is where
    struct tl_capture_op op[tl_capture_ops];
};

enum {
    tl_rings = 4096,
    tl_ring_size = 0x80000,  // and its alignment in the file of the session's memory
    tl_record_max = 0x8000,  // no record is longer
    tl_ring_alarm = 0x30000, // with so much in it the supervisor is woken
    tl_capture_string_max = 4096,
};

enum tl_ring_state { TL_RING_FREE, TL_RING_LIVE };

// A ring's owner; its bytes are elsewhere. head and tail count bytes and never turn back. The first half is
// its thread's, the second the supervisor's: neither waits for the other's line of the cache.
struct tl_ring {
    _Alignas(64) uint64_t head; // all before it are whole records
    uint32_t begun;             // size of the record behind the head that has begun, or 0
    uint32_t state;             // enum tl_ring_state
    int32_t pid, tid;
    uint32_t ending;            // the thread may be gone soon
    uint32_t waiting;           // the thread waits for room, on this futex
    uint32_t maps_wanted;       // until the supervisor has written TL_CHUNK_MAPS, on this futex
    uint32_t maps_known;        // of which tl_process.maps that is
    uint64_t dropped;           // so many calls found no room
    _Alignas(64) uint64_t tail; // the supervisor has copied what is before
    uint64_t generation;
};

struct tl_capture {
    uint32_t on, drop, limit;
    uint32_t bell; // a futex: counts what the supervisor should look at
    uint32_t listening;
    uint32_t highest; // rings that were ever used
    uint32_t ended;   // nobody copies any more
    uint32_t signals;
    uint64_t ticks; // the time stamp counter of a moment ago, for who may not read it
    struct tl_capture_plan plans[tl_capture_calls];
    struct tl_capture_plan other; // of all other calls
    struct tl_ring rings[tl_rings];
};

#endif
