// The first bytes of the image, and what assembly takes for granted.
#include "inside.h"
#include "x86_64/offsets.h"

#define QUOTED(x) #x
#define NUMBER(x) QUOTED(x)

// struct tl_image_header. Distances, since nothing in the image may depend on where it is.
__asm__(".section .header, \"a\"\n"
        "tl_header: .quad 0x656e696c70617274\n" // "trapline"
        ".quad tl_image_end - tl_header\n"
        ".long tl_start - tl_header\n"
        ".long tl_gate - tl_header, tl_gate_info - tl_header, tl_entry_start - tl_header\n"
        ".long tl_enter_stopped - tl_header, tl_leave_stopped - tl_header\n"
        ".long " NUMBER(PROCESS_VISIT) ", tl_visited - tl_header, tl_perform_done - tl_header\n"
                                       ".long tl_perform_int80_done - tl_header, " NUMBER(
                                           THREAD_PENDING) "\n"
                                                           ".previous\n");

#define AT(field, value) _Static_assert(offsetof(struct tl_thread, field) == (value), #field)
AT(regs[R8], THREAD_R8);
AT(regs[RBX], THREAD_RBX);
AT(regs[RAX], THREAD_RAX);
AT(regs[RSP], THREAD_RSP);
AT(regs[RIP], THREAD_RIP);
AT(regs[EFLAGS], THREAD_EFLAGS);
AT(block, THREAD_BLOCK);
AT(args, THREAD_ARGS);
AT(nr, THREAD_NR);
AT(pending, THREAD_PENDING);
AT(exact, THREAD_EXACT);
AT(direct, THREAD_DIRECT);
AT(segments, THREAD_SEGMENTS);
AT(regs[RCX], THREAD_RCX);
AT(regs[R11], THREAD_R11);
AT(aborted, THREAD_ABORTED);
AT(leave_to, THREAD_LEAVE_TO);
_Static_assert(tl_shared + offsetof(struct tl_session, classes) == SESSION_CLASSES, "classes");
_Static_assert(tl_shared + offsetof(struct tl_session, constants) == SESSION_CONSTANTS, "constants");
_Static_assert(tl_data + offsetof(struct tl_process, segment) == PROCESS_SEGMENT, "segment");
_Static_assert(tl_data + offsetof(struct tl_process, visit) == PROCESS_VISIT, "visit");
_Static_assert(tl_data + offsetof(struct tl_process, threads) == PROCESS_THREADS, "threads");
_Static_assert(sizeof(struct tl_thread) <= tl_record_size, "a thread's record fits");
_Static_assert((uint64_t)tl_thread_size == THREAD_SIZE && (uint64_t)tl_stack_top == STACK_TOP, "sizes");
_Static_assert((int)TL_THREAD_ENDING == STATE_ENDING, "states");
_Static_assert(sizeof(struct tl_process) <= tl_first - tl_data, "the process's data fits");
_Static_assert(sizeof(struct tl_siginfo) == 128 && sizeof(struct tl_context) == 304, "the kernel's layout");
