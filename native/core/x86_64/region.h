// The agent's region in a program that somebody makes calls in.
#ifndef TL_REGION_H
#define TL_REGION_H

#include "agent.h"

typedef struct tl_error *tl_remote_call(void *remote, long nr, const uint64_t args[6], int64_t *result);

// Where the region may be, for a program whose code is around ENTRY.
bool tl_region_find_place(pid_t pid, uint64_t entry, uint64_t *base);
struct tl_error *tl_region_reserve(const struct tl_agent *agent, tl_remote_call *call, void *remote,
                                   uint64_t base);
// The image, over the beginning of what is reserved.
struct tl_error *tl_region_load(const struct tl_agent *agent, tl_remote_call *call, void *remote,
                                int memory_fd, uint64_t base);

#endif
