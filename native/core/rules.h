// Rules: what is decided about a call without Python.
#ifndef TL_RULES_H
#define TL_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "listener.h"
#include "rule.h"

// A call that a rule is about, and where its paths are.
struct tl_rule_target {
    uint32_t arch;
    int32_t nr;      // -1: every number that no other target of this rule has
    int32_t subcall; // args[0] of a multiplexer such as i386 socketcall, or -1
    int8_t path[2];  // index of the argument, or -1
    int8_t dirfd[2]; // index of the argument, or -1 for the working directory
    uint8_t fds;     // bit per argument that is a descriptor
    int8_t size;     // which argument is a size that can be cut down, or -1
};

struct tl_rules;

// TABLE: where agents find the rules, and all counts are kept; NULL where there are none.
struct tl_error *tl_rules_new(struct tl_rule_table *table, struct tl_rules **rules);
// GLOB: fnmatch(3) over each path of the call; NULL: any call. Without targets only agents apply the rule.
// POKES: struct tl_rule_poke after struct tl_rule_poke, each with its bytes.
struct tl_error *tl_rules_add(struct tl_rules *rules, const struct tl_rule *rule, const char *glob,
                              const struct tl_rule_target *targets, unsigned count, const void *pokes,
                              size_t pokes_size);
void tl_rules_free(struct tl_rules *rules);

// How often rule number INDEX has acted.
uint64_t tl_rules_count(const struct tl_rules *rules, unsigned index);

// Where rules have acted that log it.
const struct tl_rule_table *tl_rules_table(const struct tl_rules *rules);

// What they have to be told of a call, besides what hooks want. NR: -1 for all others.
void tl_rules_wants(const struct tl_rules *rules, uint32_t arch, int nr, bool *before, bool *returned);

// Calls TELL for every call that a rule is about.
void tl_rules_each(const struct tl_rules *rules, void (*tell)(void *context, uint32_t arch, int nr),
                   void *context);

// True when the call needs nothing more: it was answered, or will be delivered again after a delay. RESULTS:
// somebody may want to see results; a call that a rule has decided then becomes one with a result.
bool tl_rules_apply(struct tl_rules *rules, struct tl_listener *listener, struct tl_call *call, bool results);

#endif
