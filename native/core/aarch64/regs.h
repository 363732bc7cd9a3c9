// What PTRACE_GETREGSET(NT_PRSTATUS) gives on this architecture.
#ifndef TL_REGS_H
#define TL_REGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

enum { arm_registers = 18, arm_sp = 13 };

// The stack pointer, and the size of a word in that program; SIZE says which kind of program it is.
static inline bool tl_regs_stack(const void *regs, size_t size, uint64_t *stack, unsigned *word)
{
    if (size == sizeof(struct user_regs_struct)) {
        *stack = ((const struct user_regs_struct *)regs)->sp;
        *word = 8;
        return true;
    }
    if (size == arm_registers * sizeof(uint32_t)) {
        *stack = ((const uint32_t *)regs)[arm_sp];
        *word = 4;
        return true;
    }
    return false;
}

#endif
