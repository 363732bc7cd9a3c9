#include "filter.h"

#include <linux/seccomp.h>
#include <string.h>

static uint32_t compute(uint16_t code, uint32_t a, uint32_t b)
{
    switch (BPF_OP(code)) {
    case BPF_ADD:
        return a + b;
    case BPF_SUB:
        return a - b;
    case BPF_MUL:
        return a * b;
    case BPF_DIV:
        return b ? a / b : 0;
    case BPF_AND:
        return a & b;
    case BPF_OR:
        return a | b;
    case BPF_XOR:
        return a ^ b;
    case BPF_LSH:
        return b < 32 ? a << b : 0;
    case BPF_RSH:
        return b < 32 ? a >> b : 0;
    case BPF_NEG:
        return -a;
    }
    return a;
}

static bool jumps(uint16_t code, uint32_t a, uint32_t b)
{
    switch (BPF_OP(code)) {
    case BPF_JEQ:
        return a == b;
    case BPF_JGT:
        return a > b;
    case BPF_JGE:
        return a >= b;
    case BPF_JSET:
        return a & b;
    }
    return true;
}

static uint32_t load(const struct seccomp_data *data, uint32_t offset)
{
    uint32_t word = 0;

    if (offset <= sizeof *data - sizeof word)
        memcpy(&word, (const char *)data + offset, sizeof word);
    return word;
}

uint32_t tl_filter_run(const struct sock_filter *filter, unsigned length, const struct tl_call *call)
{
    struct seccomp_data data = {.nr = call->nr, .arch = call->arch, .instruction_pointer = call->ip};
    uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {0};

    memcpy(data.args, call->args, sizeof data.args);
    for (unsigned at = 0; at < length; at++) {
        const struct sock_filter *f = &filter[at];
        uint32_t operand = BPF_SRC(f->code) == BPF_X ? x : f->k;
        uint32_t word = BPF_MODE(f->code) == BPF_IMM   ? f->k
                        : BPF_MODE(f->code) == BPF_MEM ? memory[f->k % BPF_MEMWORDS]
                        : BPF_MODE(f->code) == BPF_LEN ? (uint32_t)sizeof data
                                                       : load(&data, f->k);
        switch (BPF_CLASS(f->code)) {
        case BPF_LD:
            a = word;
            break;
        case BPF_LDX:
            x = word;
            break;
        case BPF_ST:
            memory[f->k % BPF_MEMWORDS] = a;
            break;
        case BPF_STX:
            memory[f->k % BPF_MEMWORDS] = x;
            break;
        case BPF_ALU:
            a = compute(f->code, a, operand);
            break;
        case BPF_JMP:
            if (BPF_OP(f->code) == BPF_JA)
                at += f->k;
            else
                at += jumps(f->code, a, operand) ? f->jt : f->jf;
            break;
        case BPF_RET:
            return BPF_RVAL(f->code) == BPF_A ? a : f->k;
        case BPF_MISC:
            if (BPF_MISCOP(f->code) == BPF_TAX)
                x = a;
            else
                a = x;
            break;
        }
    }
    return SECCOMP_RET_KILL_PROCESS; // not reached: the kernel wants every path to end
}
