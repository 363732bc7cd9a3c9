// What the supervisor and the agents of one session share: the layout of an agent's region, and the memory in
// which calls that need the supervisor are posted. Both sides include this; it needs no libc.
//
//   region (per process, tl_region_size)
//   +0            image: code and constants of the agent          \  every real system call is made from
//   here: +tl_blocks    code made for patched sites                     /  the range that dispatch allows
//   +tl_data      struct tl_process, private memory
//   +tl_first     the first thread's record and stacks
//   +tl_shared    struct tl_session, shared with the supervisor and the whole process tree
#ifndef TL_SESSION_H
#define TL_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    tl_blocks = 0x20000,
    tl_data = 0x400000, // end of the allowed range
    tl_first = 0x4c0000,
    tl_shared = 0x500000,
    tl_region_size = 0x1000000,
    tl_shared_size = tl_region_size - tl_shared,

    tl_thread_size = 0x20000, // and its alignment
    tl_record_size = 0x2000,
    tl_stack_top = 0x10000,    // of the agent's own stack, in a thread's area
    tl_signal_stack = 0x10000, // where the kernel's signal frames go, to the end of the area
    tl_vector_save = 0x2000,   // a saved vector state, to tl_vector_save_end
    tl_vector_save_end = 0x7000,

    tl_near_size = 0x4000, // blocks near code that the region is too far away from

    tl_calls = 1024, // numbers below this one can have hooks of their own
};

// How a call is treated, by the low 16 bits of its number: what a block looks up before anything else.
enum tl_class {
    TL_PASS,        // the kernel performs it, inside the block
    TL_CONSTANT,    // tl_session.constants has the result
    TL_SLOW,        // the agent decides
    TL_RECORDED,    // the same, but all that is done with it is to record it
    TL_RECORDED_FD, // the same, unless its first argument is a descriptor of the agent's
};

#include "capture.h"
#include "rule.h"

// Why a thread in the program waits for the supervisor.
enum tl_request {
    TL_REQUEST_NONE,
    TL_REQUEST_CALL,   // a call that the hooks have to decide
    TL_REQUEST_RESULT, // a call with its result
    TL_REQUEST_EXEC,   // about to execute a program; args: numbers of the agent's descriptors, the program's
                       // signal mask, the signals that it ignores, address of the path, address
                       // of a pointer to this mailbox; sp: that pointer
    TL_REQUEST_WHO,    // which process and thread this is, in the supervisor's namespace: args[0] and args[1]
    TL_REQUEST_WARNING, // a program runs without hooks; args[1]: enum tl_unhooked, args[2]: an errno,
                        // args[4]: where its name is
    TL_REQUEST_RELEASE, // another program is about to trace a thread (args): the agent must leave it
};

// Why a program runs without hooks.
enum tl_unhooked {
    TL_HOOKED,
    TL_UNHOOKED_PRIVILEGES, // it gets some by being executed, or may not be read
    TL_UNHOOKED_32_BIT,
    TL_UNHOOKED_TRACED,  // by somebody else
    TL_UNHOOKED_REFUSED, // the kernel does not let us trace it
    TL_UNHOOKED_NO_ROOM, // for the agent in its memory
    TL_UNHOOKED_FAILED,  // see the error
    TL_UNHOOKED_UNARMED, // the kernel has refused what the engine catches calls with
};

enum tl_answer {
    TL_ANSWER_GO_ON,      // perform the call (for a result: keep it)
    TL_ANSWER_REPLY,      // the result is tl_mailbox.result
    TL_ANSWER_PERFORM,    // perform the call and come back with the result
    TL_ANSWER_SOCKET,     // make a pair of sockets, come back with their numbers in args[0] and args[1]
    TL_ANSWER_RECEIVE,    // receive a descriptor from the first of them, come back with its number
    TL_ANSWER_ROOM,       // make room for result bytes of changed arguments, and come back
    TL_ANSWER_PERMIT,     // allow the supervisor to trace the caller, and come back
    TL_ANSWER_UNFOLLOWED, // execute; there will be no agent
};

enum tl_mailbox_state { TL_MAILBOX_FREE, TL_MAILBOX_TAKEN, TL_MAILBOX_POSTED, TL_MAILBOX_ANSWERED };

struct tl_mailbox {
    uint32_t state; // enum tl_mailbox_state; a futex
    uint32_t request, answer;
    int32_t pid, tid; // in the supervisor's namespace
    uint32_t arch;
    int32_t nr;
    uint32_t sleeping; // the thread sleeps in the kernel: a futex on `state` wakes it
    uint64_t serial;   // counts the posts
    uint64_t args[6];
    uint64_t ip, sp;
    int64_t result;
    uint64_t room, room_size; // where copies of changed arguments can be put
    uint32_t changed;         // bit per argument that has been changed
    uint32_t close_on_exec;   // of a descriptor that is received
    uint32_t payload_size;
    uint32_t cpu;          // where the caller was when it posted
    uint32_t awaited;      // a thread of the supervisor sleeps until this is posted again
    uint32_t begins_again; // a call that was reported before, and not made because of a signal
    uint8_t payload[872];
};

enum { tl_mailboxes = 4096 };

enum tl_engine_flags {
    TL_ENGINE_REWRITES = 1, // patch sites that have trapped often
    TL_ENGINE_TRAP = 2,     // a seccomp filter on the instruction pointer instead of dispatch
    TL_ENGINE_WAITS = 4,    // for the plan of each site that has trapped
    TL_ENGINE_VISITS = 8,   // the program ran before: without an answer its calls are what they were
};

// What our filter says of itself in SECCOMP_RET_DATA, and so in si_errno.
enum { tl_trap_data = 0x7470 };

// An instruction of a seccomp program, as struct sock_filter.
struct tl_bpf {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};

enum { tl_bpf_max = 4096 };

// A question about a site that has trapped often. Nobody waits for the answer: the site goes on to trap, and
// a later time finds it.
struct tl_question {
    uint32_t state; // enum tl_question_state
    int32_t pid;
    uint64_t site;
    uint64_t low, high; // where the agent has room for a block
    uint8_t plan[992];  // struct tl_plan and what follows it
    uint32_t awaited;   // somebody sleeps on the state
};

enum tl_question_state { TL_QUESTION_FREE, TL_QUESTION_TAKEN, TL_QUESTION_ASKED, TL_QUESTION_ANSWERED };

enum { tl_questions = 64 };

// Who wants to know of a call, bits of tl_session.interest.
enum {
    TL_WANTS_BEFORE = 1,
    TL_WANTS_RESULT = 2,
};

// What rewriting did in one process.
struct tl_report {
    int32_t pid; // 0: not used
    uint32_t sites, patched;
    uint16_t
        refused[32]; // by reason, see trapline.rewriting.windows.REASONS; 0: the agent could not write there
};

enum { tl_reports = 1024 };

// A plan, as trapline.rewriting.wire describes it: this, points, fixups, the window's bytes, the block's
// bytes.
struct tl_plan {
    uint16_t size;
    uint8_t reason, kind;
    int8_t start, end;
    uint8_t trapping, flags;
    uint16_t block_size, split, gate, pass, gate_end;
    uint8_t point_count, fixup_count, window_size, reserved[3];
    int32_t lowest, highest;
};

struct tl_plan_point {
    uint16_t offset;
    int8_t position;
    uint8_t reserved;
};

struct tl_plan_fixup {
    uint16_t offset;
    uint8_t kind, reserved;
    int32_t addend;
};

enum {
    TL_FIXUP_REL32_SITE = 1,
    TL_FIXUP_ABS64_SITE,
    TL_FIXUP_ABS64_BLOCK,
    TL_FIXUP_REL32_AGENT,
    TL_FIXUP_ABS64_AGENT,
    TL_FIXUP_PATCH = 16, // our own: the number of the patch
    TL_FIXUP_ENTRY,      // in the image only: TL_FIXUP_REL32_AGENT of the header's entry
};

struct tl_session {
    uint8_t
        classes[65536]; // enum tl_class, by the low bits of a call's number; blocks know where these two are
    int64_t constants[tl_calls]; // results of TL_CONSTANT
    uint32_t size;               // sizeof(struct tl_session): both sides were built together
    uint32_t flags;
    uint32_t threshold; // a site is patched when it has trapped so often
    int32_t supervisor;
    uint32_t dead;     // set, or its robust futex is, once nobody answers any more
    uint32_t doorbell; // a futex, counts the posts
    uint32_t sleeping; // supervisor threads that wait for it in the kernel
    uint32_t cpu;      // where the supervisor's receiving thread was last
    uint32_t last_cpu; // where the last caller was
    uint32_t program_length;
    uint32_t hide_vdso;
    uint32_t begun;                     // the first program has
    uint64_t base;                      // where the region is in every program; 0: wherever there is room
    uint32_t secret;                    // allows a call under the trap engine's filter
    uint32_t crowded;                   // somebody has found no mailbox free
    uint64_t posted[tl_mailboxes / 64]; // bit per mailbox
    uint64_t used[tl_mailboxes / 64];   // likewise: it was taken once; of all others no page was ever touched
    uint64_t traps, patches;            // counts, of all processes
    uint64_t asked;                     // bit per question that nobody has looked at
    uint32_t namespaces;                // the program has made one for processes: numbers differ in them
    struct tl_question questions[tl_questions];
    struct tl_report reports[tl_reports];
    uint8_t interest[tl_calls], other_interest; // other: numbers beyond the table
    uint8_t interest_i386[tl_calls];
    struct tl_bpf program[tl_bpf_max]; // says what becomes of a call, as a seccomp filter does
    struct tl_rule_table rules;
    struct tl_capture capture;
    bool constant[tl_calls]; // `constants` has the result, though every call is to be seen
    struct tl_mailbox mailboxes[tl_mailboxes];
};

_Static_assert(sizeof(struct tl_mailbox) == 1024, "mailboxes are 1 KB");
_Static_assert(sizeof(struct tl_session) <= tl_shared_size, "the session fits its part of the region");

// What the supervisor writes at tl_data before the agent runs: the beginning of struct tl_process.
struct tl_start {
    uint64_t registers[18]; // in the order of the kernel's signal frames
    uint64_t signal_mask;
    uint64_t ignored; // signals that the program ignores, though the kernel cannot know
    int32_t socket_fd, memory_fd;
    uint64_t image_size;
    uint64_t reserved[10]; // blocks know what follows
};

_Static_assert(sizeof(struct tl_start) == 256, "what follows stays where it is");

// The first bytes of the image.
struct tl_image_header {
    uint64_t magic;
    uint64_t size;
    uint32_t start;        // where a new program begins, with the registers in struct tl_start
    uint32_t gate;         // the template of every block
    uint32_t gate_info;    // struct tl_gate_info
    uint32_t entry;        // where a block goes with a call that it cannot do
    uint32_t enter, leave; // where a stopped thread of a running program begins with the agent, or is left by
                           // it; what it needs is in struct tl_visit
    uint32_t visit;        // that structure; its end is a stack
    uint32_t visited;      // where such a thread is when all is done but to set its registers
    uint32_t performed;    // where a thread is that waits for the result of the program's call,
    uint32_t performed_int80, pending; // if the word at `pending` in its record is 0
};

// What the agent is told of a stopped thread that it enters or leaves, and what becomes of that.
struct tl_visit {
    uint64_t registers[18]; // in the order of the kernel's signal frames; on return those to go on with
    uint64_t mask;          // signals that it blocks; on return those to block
    uint64_t dispatch[4];   // to enter: what the program has set, as the arguments of its prctl
    int32_t pid, tid;       // to enter: in the supervisor's namespace
    uint32_t is_first;      // of its process
    uint32_t is_last;       // to leave: of its process, which the agent leaves for good
    uint32_t is_restarted;  // to enter: the kernel goes on with its call, if it is made where it was
    uint32_t has_failed;    // on return
    uint32_t is_shared;     // on return: other processes use this memory and the agent in it
    uint32_t reserved;
    uint64_t stack[1024];
};

struct tl_gate_info {
    uint32_t size, pass; // pass: offset of the system call
    uint32_t fixup_count, reserved;
    struct tl_plan_fixup fixups[];
};

#endif
