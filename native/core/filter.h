// A seccomp filter evaluated here, for programs that are not under it themselves.
#ifndef TL_FILTER_H
#define TL_FILTER_H

#include <linux/filter.h>
#include <stdint.h>

#include "transport.h"

// The SECCOMP_RET_* value that the kernel would come to for CALL. The filter is one that the kernel accepts.
uint32_t tl_filter_run(const struct sock_filter *filter, unsigned length, const struct tl_call *call);

#endif
