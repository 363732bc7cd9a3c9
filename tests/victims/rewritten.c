// Runs pieces of machine code, as they are or rewritten by an answer of the planner, and tells what they did.
// What it does with an answer is what an agent does: choose an address, copy, fill in fields, write the
// window, send on threads that trap inside it, and translate addresses in the block back to the program's.
//
// stdin: struct job, code, answer; stdout: struct outcome, trace. Until stdin ends.
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { data_at = 0x20000000, stack_at = 0x30000000, area = 0x10000, page = 4096, trace_max = 4096 };

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, registers };

static const int in_context[registers] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                          REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                          REG_R12, REG_R13, REG_R14, REG_R15};

struct job {
    uint64_t code, site, entry, gate;
    uint64_t regs[registers];
    uint64_t flags;
    uint32_t code_size, answer_size;
};

struct outcome {
    int32_t signal;
    uint32_t traced;
    uint64_t rip;
    uint64_t regs[registers];
    uint64_t flags, memory, block, landings;
};

struct point {
    uint16_t offset;
    int8_t position;
    uint8_t reserved;
};

struct fixup {
    uint16_t offset;
    uint8_t kind, reserved;
    int32_t addend;
};

struct plan {
    uint16_t size;
    uint8_t reason, kind;
    int8_t start, end;
    uint8_t trapping, flags;
    uint16_t block_size, split, gate, pass, gate_end;
    uint8_t point_count, fixup_count, window_size, reserved[3];
    int32_t lowest, highest;
};

_Static_assert(sizeof(struct plan) == 32, "as the supervisor writes it");

struct {
    uint64_t regs[registers], flags, rip, host_rsp;
} state;

void enter(void);
extern const char leave[], restored[], enter_end[];

// clang-format off
__asm__(".text\n"
        ".globl enter, leave, restored, enter_end\n"
        "enter: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        " mov %rsp, state+144\n"
        " pushq state+128; popfq\n"
        " mov state+0, %rax; mov state+8, %rcx; mov state+16, %rdx; mov state+24, %rbx\n"
        " mov state+40, %rbp; mov state+48, %rsi; mov state+56, %rdi\n"
        " mov state+64, %r8; mov state+72, %r9; mov state+80, %r10; mov state+88, %r11\n"
        " mov state+96, %r12; mov state+104, %r13; mov state+112, %r14; mov state+120, %r15\n"
        " mov state+32, %rsp\n"
        " jmp *state+136\n"
        "leave: mov %rax, state+0; mov %rcx, state+8; mov %rdx, state+16; mov %rbx, state+24\n"
        " mov %rsp, state+32; mov %rbp, state+40; mov %rsi, state+48; mov %rdi, state+56\n"
        " mov %r8, state+64; mov %r9, state+72; mov %r10, state+80; mov %r11, state+88\n"
        " mov %r12, state+96; mov %r13, state+104; mov %r14, state+112; mov %r15, state+120\n"
        " mov state+144, %rsp\n"
        " pushfq; popq state+128\n"
        "restored: mov state+144, %rsp\n"
        " pushq $0x202; popfq\n"
        " pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
        "enter_end:\n");
// clang-format on

static struct job job;
static struct outcome outcome;
static uint64_t trace[trace_max];
static const uint8_t *answer;
static const struct plan *plan;
static const struct point *points;
static uint64_t block;

static uint64_t place(unsigned offset)
{
    return offset < plan->split ? block + offset : job.gate + offset - plan->split;
}

// The program's address for one in the block; others stay as they are.
static uint64_t native(uint64_t rip)
{
    if (!plan)
        return rip;
    unsigned offset;
    if (rip - block < plan->split)
        offset = rip - block;
    else if (rip - job.gate < (unsigned)(plan->block_size - plan->split))
        offset = plan->split + (rip - job.gate);
    else
        return rip;
    if (offset > plan->pass && offset < plan->gate_end)
        return job.site + 2;
    int position = 0;
    for (int i = 0; i < plan->point_count && points[i].offset <= offset; i++)
        position = points[i].position;
    return job.site + position;
}

// Where a thread goes on that trapped inside the window; 0 elsewhere.
static uint64_t landing(uint64_t rip)
{
    if (!plan || rip <= job.site + plan->start || rip >= job.site + plan->end)
        return 0;
    for (int i = 0; i < plan->point_count; i++)
        if (job.site + points[i].position == rip)
            return place(points[i].offset);
    return 0;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t rip = gregs[REG_RIP];
    if (rip >= (uint64_t)enter && rip < (uint64_t)enter_end)
        return;
    if (number == SIGTRAP && info->si_code == TRAP_TRACE) {
        uint64_t at = native(rip);
        if (outcome.traced < trace_max && (!outcome.traced || trace[outcome.traced - 1] != at))
            trace[outcome.traced++] = at;
        return;
    }
    if (number == SIGTRAP)
        rip--;
    uint64_t to = number == SIGTRAP || number == SIGILL ? landing(rip) : 0;
    if (to) {
        outcome.landings++;
        gregs[REG_RIP] = to;
        return;
    }
    outcome.signal = number;
    outcome.rip = native(rip);
    for (int i = 0; i < registers; i++)
        state.regs[i] = gregs[in_context[i]];
    state.flags = gregs[REG_EFL];
    gregs[REG_EFL] = 0x202;
    gregs[REG_RIP] = (greg_t)restored;
}

static bool map(uint64_t at, size_t size)
{
    void *want = (void *)(at & -page);
    size_t length = ((at + size + page - 1) & -page) - (at & -page);
    return mmap(want, length, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == want;
}

static void unmap(uint64_t at, size_t size)
{
    munmap((void *)(at & -page), ((at + size + page - 1) & -page) - (at & -page));
}

static bool traps(uint8_t byte)
{
    return memchr("\x06\x07\x0e\x16\x17\x1e\x1f\x27\x2f\x37\x3f\x60\x61\xcc\xce\xd6", byte, 16);
}

// The first address from `from` on that the trapping bytes allow and that is free.
static uint64_t choose(uint64_t from)
{
    uint64_t origin = job.site + plan->start + 5;
    int64_t offset = from - origin;
again:
    for (int n = 3; n >= 0; n--)
        if (plan->trapping >> n & 1 && !traps(offset >> 8 * n)) {
            offset = ((offset >> 8 * n) + 1) << 8 * n;
            goto again;
        }
    int64_t distance = origin + offset - job.site;
    if (distance > plan->highest)
        return 0;
    if (distance < plan->lowest || !map(origin + offset, plan->split)) {
        offset += page;
        goto again;
    }
    return origin + offset;
}

static void rewrite(void)
{
    points = (const struct point *)(answer + sizeof *plan);
    const struct fixup *fixups = (const struct fixup *)(points + plan->point_count);
    const uint8_t *window = (const uint8_t *)(fixups + plan->fixup_count);
    const uint8_t *bytes = window + plan->window_size;
    uint8_t *at = (uint8_t *)(job.site + plan->start);
    unsigned gate_size = plan->block_size - plan->split;
    block = choose(job.site + 0x100000);
    if (!block || memcmp(at, window, plan->window_size) || (gate_size && !map(job.gate, gate_size)))
        abort();
    memcpy((void *)block, bytes, plan->split);
    memcpy((void *)job.gate, bytes + plan->split, gate_size);
    for (int i = 0; i < plan->fixup_count; i++) {
        uint64_t field = place(fixups[i].offset);
        int64_t addend = fixups[i].addend;
        uint64_t wide = fixups[i].kind == 2 ? job.site + addend : place(addend);
        int32_t near = job.site + addend - field;
        if (fixups[i].kind == 1 && near != (int64_t)(job.site + addend - field))
            abort();
        memcpy((void *)field, fixups[i].kind == 1 ? (void *)&near : (void *)&wide,
               fixups[i].kind == 1 ? 4 : 8);
    }
    int32_t offset = block - (uint64_t)(at + 5);
    memset(at, 0xcc, plan->window_size - (plan->flags & 1 ? 2 : 0));
    at[0] = 0xe9;
    memcpy(at + 1, &offset, 4);
}

static void fill(uint64_t at)
{
    for (unsigned i = 0; i < area; i++)
        ((uint8_t *)at)[i] = i * 167 + (i >> 8);
}

static uint64_t sum(uint64_t at)
{
    uint64_t found = 14695981039346656037u;
    for (unsigned i = 0; i < area; i++)
        found = (found ^ ((uint8_t *)at)[i]) * 1099511628211u;
    return found;
}

static void run(const uint8_t *code)
{
    memset(&outcome, 0, sizeof outcome);
    if (!map(job.code, job.code_size))
        abort();
    memcpy((void *)job.code, code, job.code_size);
    fill(data_at);
    fill(stack_at);
    plan = NULL;
    block = 0;
    if (job.answer_size) {
        plan = (const struct plan *)answer;
        rewrite();
    }
    memcpy(state.regs, job.regs, sizeof state.regs);
    state.flags = job.flags;
    state.rip = job.entry;
    enter();
    memcpy(outcome.regs, state.regs, sizeof outcome.regs);
    outcome.flags = state.flags;
    outcome.memory = sum(data_at) ^ sum(stack_at) * 3;
    outcome.block = block;
    unmap(job.code, job.code_size);
    if (plan) {
        unmap(block, plan->split);
        if (plan->block_size > plan->split)
            unmap(job.gate, plan->block_size - plan->split);
    }
}

int main(void)
{
    static uint8_t code[area], bytes[area], signal_stack[area];
    const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    for (const int *each = (const int[]){SIGTRAP, SIGILL, SIGSEGV, SIGBUS, SIGFPE, 0}; *each; each++)
        sigaction(*each, &action, NULL);
    if (!map(data_at, area) || !map(stack_at, area))
        return 1;
    printf("%p\n", (const void *)leave);
    fflush(stdout);
    answer = bytes;
    while (fread(&job, sizeof job, 1, stdin) == 1) {
        if (job.code_size > area || job.answer_size > area ||
            fread(code, 1, job.code_size, stdin) != job.code_size ||
            fread(bytes, 1, job.answer_size, stdin) != job.answer_size)
            return 1;
        run(code);
        fwrite(&outcome, sizeof outcome, 1, stdout);
        fwrite(trace, sizeof *trace, outcome.traced, stdout);
        fflush(stdout);
    }
    return 0;
}
