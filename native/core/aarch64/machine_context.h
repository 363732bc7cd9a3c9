// The instruction pointer in a signal handler's context.
#ifndef TL_MACHINE_CONTEXT_H
#define TL_MACHINE_CONTEXT_H

#include <stdint.h>
#include <ucontext.h>

static inline uint64_t tl_context_ip(const ucontext_t *context)
{
    return context->uc_mcontext.pc;
}

static inline void tl_context_set_ip(ucontext_t *context, uint64_t ip)
{
    context->uc_mcontext.pc = ip;
}

#endif
