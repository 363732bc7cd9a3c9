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

enum tl_rule_flag {
    TL_RULE_PER_THREAD = 1, // `first`, `last` and `step` count each call of each thread by itself
    TL_RULE_LOGS = 2,       // says where it has acted
    TL_RULE_POKES_EXIT = 4, // some of its pokes are for when the call has returned
};

// What only few rules have. Python packs it: rules.py has the format.
struct tl_rule_more {
    uint32_t flags;   // enum tl_rule_flag
    uint32_t signal;  // raised in the caller, or 0
    int32_t pid, fd;  // of the callers and calls that match, or -1
    uint16_t after;   // number plus one of a rule that must have acted before, or 0
    uint8_t set_args; // bit per argument that is replaced
    uint8_t reserved[5];
    uint64_t most; // a size is cut down to this
    uint64_t args[6];
    char comm[16];              // of the callers that match, or ""
    uint32_t pokes, pokes_size; // where tl_rule_table.pokes has struct tl_rule_poke after struct tl_rule_poke
};

// Overwrites what an argument points to; the bytes follow.
struct tl_rule_poke {
    uint8_t arg, at_exit;
    uint16_t size;
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
    struct tl_rule_more more;
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
    uint8_t fds;     // bit per argument that is a descriptor
    int8_t size;     // which argument is a size that can be cut down, or -1
    uint16_t reserved;
};

// How often a rule has met one call of one thread.
struct tl_rule_turn {
    uint64_t key, count;
};

// Where a rule has acted.
struct tl_rule_hit {
    int32_t pid, tid, nr;
    uint32_t arch, rule, written; // written: all else is
    uint64_t number;              // which of the calls it was, as the rule counts
};

enum {
    tl_rules_max = 1024,
    tl_rule_uses_max = 16384,
    tl_rule_calls = 1024,
    tl_rule_numbers_max = 64,
    tl_rule_turns_max = 16384, // a power of two
    tl_rule_turn_tries = 32,
    tl_rule_hits_max = 8192,
    tl_rule_pokes_max = 65536,
};

// What agents look up. Lists are positions in `uses`; 0: no rules. Index 0 is the native architecture, 1 the
// other.
struct tl_rule_table {
    uint32_t count;
    uint32_t use_count;  // position 0 is not used
    uint32_t per_thread; // some rule counts threads by themselves
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
    struct tl_rule_turn turns[tl_rule_turns_max];
    uint64_t hit_count; // more than tl_rule_hits_max: the later ones were not kept
    struct tl_rule_hit hits[tl_rule_hits_max];
    uint32_t poke_bytes;
    uint8_t pokes[tl_rule_pokes_max];
};

// What is counted: one rule, one call, one thread.
static inline uint64_t tl_rule_key(uint32_t rule, int32_t nr, int32_t tid)
{
    return (uint64_t)(uint32_t)tid << 32 | (uint64_t)((uint32_t)nr & 0xffff) << 16 | (rule + 1);
}

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

// Where the turns of a key are counted, found by a short search. With so many threads that it finds no room,
// one that is long gone, most likely, is forgotten.
static inline struct tl_rule_turn *tl_rule_turn_of(struct tl_rule_turn *turns, uint64_t key)
{
    uint64_t start = tl_rule_mix(key);

    for (unsigned i = 0; i < tl_rule_turn_tries; i++) {
        struct tl_rule_turn *turn = &turns[(start + i) % tl_rule_turns_max];
        uint64_t expected = 0;
        if (turn->key == key || __atomic_compare_exchange_n(&turn->key, &expected, key, false,
                                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return turn;
    }
    struct tl_rule_turn *turn = &turns[start % tl_rule_turns_max];
    turn->count = 0;
    turn->key = key;
    return turn;
}

// One more call matches. Is it this one's turn? *WHICH is the number that `first` and the others are about.
static inline bool tl_rule_is_due(const struct tl_rule *rule, struct tl_rule_counts *counts,
                                  struct tl_rule_turn *turns, uint64_t key, uint64_t *which)
{
    uint64_t match = __atomic_add_fetch(&counts->matched, 1, __ATOMIC_RELAXED), number = match;
    uint64_t step = rule->step;

    if (rule->more.flags & TL_RULE_PER_THREAD)
        number = ++tl_rule_turn_of(turns, key)->count;
    *which = number;

    if (number < rule->first || (rule->last && number > rule->last))
        return false;
    if (step != 1 && number != rule->first && (!step || (number - rule->first) % step))
        return false;
    if (rule->misses && tl_rule_random(rule->seed, match) < rule->misses)
        return false;
    __atomic_add_fetch(&counts->acted, 1, __ATOMIC_RELAXED);
    return true;
}

static inline void tl_rule_log(struct tl_rule_table *table, struct tl_rule_hit hit)
{
    uint64_t index = __atomic_fetch_add(&table->hit_count, 1, __ATOMIC_RELAXED);

    if (index >= tl_rule_hits_max)
        return;
    table->hits[index] = hit;
    __atomic_store_n(&table->hits[index].written, 1, __ATOMIC_RELEASE);
}

#endif
