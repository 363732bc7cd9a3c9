// Where assembly finds what struct tl_thread and struct tl_process hold; layout.c asserts each.
#define THREAD_R8      0
#define THREAD_R9      8
#define THREAD_R10     16
#define THREAD_R11     24
#define THREAD_R12     32
#define THREAD_R13     40
#define THREAD_R14     48
#define THREAD_R15     56
#define THREAD_RDI     64
#define THREAD_RSI     72
#define THREAD_RBP     80
#define THREAD_RBX     88
#define THREAD_RDX     96
#define THREAD_RAX     104
#define THREAD_RCX     112
#define THREAD_RSP     120
#define THREAD_RIP     128
#define THREAD_EFLAGS  136
#define THREAD_BLOCK   152
#define THREAD_ARGS    160
#define THREAD_NR      208
#define THREAD_PENDING 216
#define THREAD_ABORTED 220

#define THREAD_LEAVE_TO 224
#define THREAD_EXACT    232
#define THREAD_DIRECT   236
#define THREAD_SEGMENTS 240

#define SESSION_CLASSES   0x500000
#define SESSION_CONSTANTS 0x510000
#define PROCESS_SEGMENT   0x400100
#define PROCESS_THREADS   0x400108
#define PROCESS_VISIT     0x420108

#define ABS64_SITE   2
#define REL32_AGENT  4
#define ABS64_AGENT  5
#define PATCH_NUMBER 16
#define ENTRY        17

#define THREAD_SIZE   0x20000
#define STACK_TOP     0x10000
#define STATE_ENDING  2
#define PLAIN_FLAGS   0x202
#define UNUSUAL_FLAGS 0x244500 // TF, DF, NT, AC and ID: popfq alone changes them

#define NR_PRCTL                     157
#define PR_SET_SYSCALL_USER_DISPATCH 59
