// Rules: what is decided about a call without Python.
#ifndef TL_RULES_H
#define TL_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "listener.h"

enum tl_rule_action { TL_RULE_CONTINUE, TL_RULE_ERROR, TL_RULE_VALUE };

struct tl_rule {
    const char *glob; // fnmatch(3) over each path of the call; NULL: any call
    uint64_t first, last,
        step;          // which of the calls that match, counted from 1: first..last+step; last 0: no end
    uint64_t delay_ns; // before the action
    enum tl_rule_action action; // TL_RULE_CONTINUE leaves the decision to the rules and hooks that follow
    int64_t value;              // an errno, or the result
};

// A call that a rule is about, and where its paths are.
struct tl_rule_target {
    uint32_t arch;
    int32_t nr;
    int32_t subcall; // args[0] of a multiplexer such as i386 socketcall, or -1
    int8_t path[2];  // index of the argument, or -1
    int8_t dirfd[2]; // index of the argument, or -1 for the working directory
};

struct tl_rules;

struct tl_error *tl_rules_new(struct tl_rules **rules);
struct tl_error *tl_rules_add(struct tl_rules *rules, const struct tl_rule *rule,
                              const struct tl_rule_target *targets, unsigned count);
void tl_rules_free(struct tl_rules *rules);

// How often rule number INDEX has acted.
uint64_t tl_rules_count(const struct tl_rules *rules, unsigned index);

// True when the call needs nothing more: it was answered, or will be delivered again after a delay.
bool tl_rules_apply(struct tl_rules *rules, struct tl_listener *listener, struct tl_call *call);

#endif
