#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "path.h"

struct entry {
    struct tl_rule rule;
    char *glob;
    struct tl_rule_target *targets;
    unsigned target_count;
    atomic_ullong matched, acted;
};

struct tl_rules {
    struct entry **entries;
    unsigned count;
};

struct tl_error *tl_rules_new(struct tl_rules **rules)
{
    *rules = calloc(1, sizeof **rules);
    return *rules ? NULL : tl_error_new(ENOMEM, "cannot keep rules");
}

static void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    free(entry->glob);
    free(entry->targets);
    free(entry);
}

struct tl_error *tl_rules_add(struct tl_rules *rules, const struct tl_rule *rule,
                              const struct tl_rule_target *targets, unsigned count)
{
    struct entry **grown = realloc(rules->entries, (rules->count + 1) * sizeof *grown);

    if (!grown)
        return tl_error_new(ENOMEM, "cannot add a rule");
    rules->entries = grown;
    struct entry *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->rule = *rule;
        entry->glob = rule->glob ? strdup(rule->glob) : NULL;
        entry->targets = malloc(count * sizeof *targets + 1);
        entry->target_count = count;
    }
    if (!entry || !entry->targets || (rule->glob && !entry->glob)) {
        entry_free(entry);
        return tl_error_new(ENOMEM, "cannot add a rule");
    }
    memcpy(entry->targets, targets, count * sizeof *targets);
    rules->entries[rules->count++] = entry;
    return NULL;
}

void tl_rules_free(struct tl_rules *rules)
{
    if (!rules)
        return;
    for (unsigned i = 0; i < rules->count; i++)
        entry_free(rules->entries[i]);
    free(rules->entries);
    free(rules);
}

uint64_t tl_rules_count(const struct tl_rules *rules, unsigned index)
{
    return index < rules->count ? atomic_load(&rules->entries[index]->acted) : 0;
}

static const struct tl_rule_target *find_target(const struct entry *entry, const struct tl_call *call)
{
    for (unsigned i = 0; i < entry->target_count; i++) {
        const struct tl_rule_target *target = &entry->targets[i];
        if (target->nr == call->nr && target->arch == call->arch &&
            (target->subcall < 0 || (uint32_t)target->subcall == (uint32_t)call->args[0]))
            return target;
    }
    return NULL;
}

static bool path_matches(const struct entry *entry, const struct tl_rule_target *target,
                         struct tl_listener *listener, const struct tl_call *call)
{
    char name[PATH_MAX], path[TL_PATH_MAX];

    for (int i = 0; i < 2 && target->path[i] >= 0; i++) {
        size_t length;
        int dirfd = target->dirfd[i] < 0 ? AT_FDCWD : (int)call->args[target->dirfd[i]];
        int error =
            tl_memory_read_string(call->tid, call->args[target->path[i]], name, sizeof name - 1, &length);
        if (!error) {
            name[length] = 0;
            error = tl_path_resolve(call->tid, dirfd, name, path);
        }
        if (error) {
            // Where we may not look while the kernel may, a rule that refuses must not be evaded.
            if (!tl_path_is_refused(error) && entry->rule.action == TL_RULE_ERROR)
                return true;
            continue;
        }
        // What was read by a thread id counts only while that thread still waits.
        if (fnmatch(entry->glob, path, 0) == 0 && tl_listener_is_waiting(listener, call->id))
            return true;
    }
    return false;
}

// Is it this one's turn, by first..last+step?
static bool is_due(struct entry *entry)
{
    const struct tl_rule *rule = &entry->rule;
    uint64_t number = atomic_fetch_add(&entry->matched, 1) + 1;

    if (number < rule->first || (rule->last && number > rule->last))
        return false;
    return rule->step ? (number - rule->first) % rule->step == 0 : number == rule->first;
}

static bool act(const struct entry *entry, struct tl_listener *listener, const struct tl_call *call)
{
    switch (entry->rule.action) {
    case TL_RULE_ERROR:
        tl_listener_reply(listener, call->id, 0, (int)entry->rule.value);
        return true;
    case TL_RULE_VALUE:
        tl_listener_reply(listener, call->id, entry->rule.value, 0);
        return true;
    case TL_RULE_CONTINUE:
        break;
    }
    return false;
}

bool tl_rules_apply(struct tl_rules *rules, struct tl_listener *listener, struct tl_call *call)
{
    // Two stages a rule: before its delay, and after it.
    for (unsigned stage = call->stage; stage < 2 * rules->count; stage++) {
        struct entry *entry = rules->entries[stage / 2];
        if (stage % 2 == 0) {
            const struct tl_rule_target *target = find_target(entry, call);
            if (!target || (entry->glob && !path_matches(entry, target, listener, call)) || !is_due(entry)) {
                stage++;
                continue;
            }
            atomic_fetch_add(&entry->acted, 1);
            if (entry->rule.delay_ns) {
                call->stage = stage + 1;
                if (tl_listener_delay(listener, call, entry->rule.delay_ns) == 0)
                    return true;
            }
            continue;
        }
        if (act(entry, listener, call))
            return true;
    }
    return false;
}
