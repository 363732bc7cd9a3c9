// Kernel features, found by trying them.
//
// Every probe runs in a forked child under a deadline, so that it can neither hang, crash nor change the
// caller:
//
//   caller --clone--> probe child (own process group) --clone--> subjects: tracees, tasks under a filter, ...
//      ^                   |
//      '------ pipe -------'   one struct tl_probe_result; no answer means that it died or that it hangs
#ifndef TL_PROBE_H
#define TL_PROBE_H

#include <stddef.h>

#include "error.h"

enum tl_probe_state {
    TL_PROBE_MISSING,
    TL_PROBE_WORKS,
    TL_PROBE_UNTESTED, // it could not be tried here, so nothing is known
};

struct tl_probe_result {
    enum tl_probe_state state;
    int code;         // the errno that decided it, or 0
    char detail[232]; // a value, or what failed and how; may be empty
};

// The name of probe INDEX, or NULL past the last one. Self tests are not listed.
const char *tl_probe_name(size_t index);

// Runs the probe called NAME and fills OUT. Fails when there is no such probe, or no process to run it in.
struct tl_error *tl_probe_run(const char *name, int timeout_ms, struct tl_probe_result *out);

#endif
