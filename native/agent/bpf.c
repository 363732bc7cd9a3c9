// The conditions of hooks: the very program that the notify engine gives to the kernel, interpreted here.
#include "inside.h"

// struct seccomp_data
struct data {
    int32_t nr;
    uint32_t arch;
    uint64_t ip;
    uint64_t args[6];
};

enum { verdict_allow = 0x7fff0000 };

// The value that the program returns, 0 for SECCOMP_RET_ALLOW. Programs come from our own compiler: loads,
// jumps, masks and returns.
uint32_t tl_bpf_run(const struct tl_thread *thread)
{
    const struct tl_bpf *program = tl_session.program;
    uint32_t length = tl_session.program_length;
    struct data data = {(int32_t)thread->nr, thread->arch, thread->regs[RIP], {0}};
    uint32_t a = 0, x = 0, memory[16] = {0};

    __builtin_memcpy(data.args, thread->args, sizeof data.args);
    for (uint32_t at = 0; at < length; at++) {
        const struct tl_bpf *one = &program[at];
        uint32_t operand = one->code & 8 ? x : one->k;
        bool jump;

        switch (one->code & 7) {
        case 0: // ld
            if (one->code == 0x20)
                a = one->k + 4 <= sizeof data ? *(const uint32_t *)((const char *)&data + one->k) : 0;
            else if (one->code == 0x60)
                a = memory[one->k & 15];
            else
                a = one->k;
            break;
        case 1: // ldx
            x = one->code == 0x61 ? memory[one->k & 15] : one->k;
            break;
        case 2:
            memory[one->k & 15] = a;
            break;
        case 3:
            memory[one->k & 15] = x;
            break;
        case 4: // alu
            switch (one->code & 0xf0) {
            case 0x00:
                a += operand;
                break;
            case 0x10:
                a -= operand;
                break;
            case 0x20:
                a *= operand;
                break;
            case 0x40:
                a |= operand;
                break;
            case 0x50:
                a &= operand;
                break;
            case 0x60:
                a <<= operand & 31;
                break;
            case 0x70:
                a >>= operand & 31;
                break;
            case 0x80:
                a = -a;
                break;
            case 0xa0:
                a ^= operand;
                break;
            }
            break;
        case 5: // jmp
            if ((one->code & 0xf0) == 0) {
                at += one->k;
                break;
            }
            switch (one->code & 0xf0) {
            case 0x10:
                jump = a == operand;
                break;
            case 0x20:
                jump = a > operand;
                break;
            case 0x30:
                jump = a >= operand;
                break;
            default:
                jump = (a & operand) != 0;
                break;
            }
            at += jump ? one->jt : one->jf;
            break;
        case 6: // ret
            operand = one->code & 0x10 ? a : one->k;
            return operand == verdict_allow ? 0 : operand;
        default: // misc
            if (one->code == 0x07)
                x = a;
            else
                a = x;
        }
    }
    return 0;
}
