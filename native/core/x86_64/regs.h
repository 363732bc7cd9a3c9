// What PTRACE_GETREGSET(NT_PRSTATUS) gives on this architecture.
#ifndef TL_REGS_H
#define TL_REGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

enum { i386_registers = 17, i386_esp = 15 };

// The stack pointer, and the size of a word in that program; SIZE says which kind of program it is.
static inline bool tl_regs_stack(const void *regs, size_t size, uint64_t *stack, unsigned *word)
{
    if (size == sizeof(struct user_regs_struct)) {
        *stack = ((const struct user_regs_struct *)regs)->rsp;
        *word = 8;
        return true;
    }
    if (size == i386_registers * sizeof(uint32_t)) {
        *stack = ((const uint32_t *)regs)[i386_esp];
        *word = 4;
        return true;
    }
    return false;
}

#endif
