// A rule, and how it is decided whether it acts: the same for the supervisor and for agents. Needs no libc.
#ifndef TL_RULE_H
#define TL_RULE_H

#include <stdbool.h>
#include <stdint.h>

enum tl_rule_action {
    TL_RULE_CONTINUE, // leaves the decision to the rules and hooks that follow
    TL_RULE_ERROR,
    TL_RULE_VALUE,
};

struct tl_rule {
    uint64_t first, last,
        step;        // which of the calls that match, counted from 1: first..last+step; last 0: no end
    uint64_t misses; // of 2^64 random numbers, those that do not make it act; 0: it always does
    uint64_t seed;   // of these numbers
    uint64_t delay_enter_ns;   // before the action
    uint64_t delay_exit_ns;    // when the call has its result
    int64_t value;             // an errno, or the result
    uint32_t action, reserved; // enum tl_rule_action
};

// Shared by all who apply the rule, and a cache line of its own.
struct tl_rule_counts {
    uint64_t matched, acted;
    uint64_t reserved[6];
};

// An entry of the list of rules on one call.
struct tl_rule_use {
    uint16_t rule;   // its number plus one; 0 ends the list
    int16_t subcall; // args[0] of a multiplexer such as i386 socketcall, or -1
};

enum {
    tl_rules_max = 1024,
    tl_rule_uses_max = 16384,
    tl_rule_calls = 1024,
    tl_rule_numbers_max = 64,
};

// What agents look up. Lists are positions in `uses`; 0: no rules. Index 0 is the native architecture, 1 the
// other.
struct tl_rule_table {
    uint32_t count;
    uint32_t use_count; // position 0 is not used
    uint16_t calls[2][tl_rule_calls];
    uint16_t others[2]; // of numbers that are in neither table
    struct tl_rule_number {
        uint16_t arch, list;
        uint32_t nr;
    } numbers[tl_rule_numbers_max]; // numbers beyond `calls`
    uint32_t number_count;
    struct tl_rule_use uses[tl_rule_uses_max];
    struct tl_rule rules[tl_rules_max];
    _Alignas(64) struct tl_rule_counts counts[tl_rules_max];
};

static inline uint64_t tl_rule_mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
    return x ^ x >> 32;
}

// The random number of a rule's NUMBERth match: no state, so that whoever counts a call knows whether it is
// hit.
static inline uint64_t tl_rule_random(uint64_t seed, uint64_t number)
{
    return tl_rule_mix(tl_rule_mix(seed + 0x9e3779b97f4a7c15) + number * 0x9e3779b97f4a7c15);
}

// One more call matches. Is it this one's turn?
static inline bool tl_rule_is_due(const struct tl_rule *rule, struct tl_rule_counts *counts)
{
    uint64_t number = __atomic_add_fetch(&counts->matched, 1, __ATOMIC_RELAXED);
    uint64_t step = rule->step;

    if (number < rule->first || (rule->last && number > rule->last))
        return false;
    if (step != 1 && number != rule->first && (!step || (number - rule->first) % step))
        return false;
    if (rule->misses && tl_rule_random(rule->seed, number) < rule->misses)
        return false;
    __atomic_add_fetch(&counts->acted, 1, __ATOMIC_RELAXED);
    return true;
}

#endif
