#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "path.h"

struct entry {
    struct tl_rule rule; // our own copy: a program may write where its agents look
    char *glob;
    struct tl_rule_target *targets;
    unsigned target_count;
    struct tl_rule_counts *counts, own_counts;
};

// A call that is to be held when it returns.
struct held {
    struct held *next;
    uint64_t delay_ns;
    uint32_t arch;
    int32_t nr, tid;
};

enum { held_buckets = 64 };

struct tl_rules {
    struct tl_rule_table *table;
    struct entry **entries;
    unsigned count;
    bool delays_exit;
    pthread_mutex_t lock; // of what follows
    struct held *held[held_buckets];
};

struct tl_error *tl_rules_new(struct tl_rule_table *table, struct tl_rules **rules)
{
    *rules = calloc(1, sizeof **rules);
    if (!*rules)
        return tl_error_new(ENOMEM, "cannot keep rules");
    (*rules)->table = table;
    pthread_mutex_init(&(*rules)->lock, NULL);
    return NULL;
}

static void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    free(entry->glob);
    free(entry->targets);
    free(entry);
}

struct tl_error *tl_rules_add(struct tl_rules *rules, const struct tl_rule *rule, const char *glob,
                              const struct tl_rule_target *targets, unsigned count)
{
    struct entry **grown = realloc(rules->entries, (rules->count + 1) * sizeof *grown);

    if (!grown)
        return tl_error_new(ENOMEM, "cannot add a rule");
    rules->entries = grown;
    if (rules->count == tl_rules_max)
        return tl_error_new(E2BIG, "cannot add a rule");
    struct entry *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->rule = *rule;
        entry->glob = glob ? strdup(glob) : NULL;
        entry->targets = malloc(count * sizeof *targets + 1);
        entry->target_count = count;
        entry->counts = rules->table ? &rules->table->counts[rules->count] : &entry->own_counts;
    }
    if (!entry || !entry->targets || (glob && !entry->glob)) {
        entry_free(entry);
        return tl_error_new(ENOMEM, "cannot add a rule");
    }
    memcpy(entry->targets, targets, count * sizeof *targets);
    rules->delays_exit = rules->delays_exit || (count && rule->delay_exit_ns);
    rules->entries[rules->count] = entry;
    if (rules->table)
        rules->table->rules[rules->count] = *rule;
    rules->count++;
    if (rules->table)
        rules->table->count = rules->count;
    return NULL;
}

void tl_rules_free(struct tl_rules *rules)
{
    if (!rules)
        return;
    for (unsigned i = 0; i < rules->count; i++)
        entry_free(rules->entries[i]);
    free(rules->entries);
    for (unsigned i = 0; i < held_buckets; i++) {
        while (rules->held[i]) {
            struct held *next = rules->held[i]->next;
            free(rules->held[i]);
            rules->held[i] = next;
        }
    }
    pthread_mutex_destroy(&rules->lock);
    free(rules);
}

uint64_t tl_rules_count(const struct tl_rules *rules, unsigned index)
{
    return index < rules->count ? __atomic_load_n(&rules->entries[index]->counts->acted, __ATOMIC_RELAXED)
                                : 0;
}

void tl_rules_each(const struct tl_rules *rules, void (*tell)(void *context, uint32_t arch, int nr),
                   void *context)
{
    for (unsigned i = 0; rules && i < rules->count; i++)
        for (unsigned j = 0; j < rules->entries[i]->target_count; j++)
            tell(context, rules->entries[i]->targets[j].arch, rules->entries[i]->targets[j].nr);
}

// Of i386 ipc, the version is in the upper half.
static int subcall_of(const struct tl_call *call)
{
    enum { ipc = 117 };

    return (int)(call->nr == ipc ? call->args[0] & 0xffff : call->args[0]);
}

static const struct tl_rule_target *find_target(const struct entry *entry, uint32_t arch, int32_t nr,
                                                const struct tl_call *call)
{
    const struct tl_rule_target *any = NULL;

    for (unsigned i = 0; i < entry->target_count; i++) {
        const struct tl_rule_target *target = &entry->targets[i];
        if (target->arch != arch)
            continue;
        if (target->nr == nr && (target->subcall < 0 || !call || target->subcall == subcall_of(call)))
            return target;
        if (target->nr == -1)
            any = target;
    }
    return any;
}

void tl_rules_wants(const struct tl_rules *rules, uint32_t arch, int nr, bool *before, bool *returned)
{
    for (unsigned i = 0; rules && i < rules->count; i++) {
        if (!find_target(rules->entries[i], arch, nr, NULL))
            continue;
        *before = true;
        *returned = *returned || rules->entries[i]->rule.delay_exit_ns;
    }
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

static struct held **find_held(struct tl_rules *rules, const struct tl_call *call)
{
    struct held **at = &rules->held[(uint32_t)call->tid % held_buckets];

    while (*at && ((*at)->tid != call->tid || (*at)->nr != call->nr || (*at)->arch != call->arch))
        at = &(*at)->next;
    return at;
}

// Keeps, or forgets, how long a call that happens now is to be held when it returns.
static void hold_return(struct tl_rules *rules, const struct tl_call *call)
{
    pthread_mutex_lock(&rules->lock);
    struct held **at = find_held(rules, call), *found = *at;
    if (!call->delay_exit_ns && found) {
        *at = found->next;
        free(found);
    } else if (call->delay_exit_ns && (found || (found = malloc(sizeof *found)))) {
        struct held *next = *at ? found->next : NULL;
        *found = (struct held){next, call->delay_exit_ns, call->arch, call->nr, call->tid};
        *at = found;
    }
    pthread_mutex_unlock(&rules->lock);
}

static bool delay_return(struct tl_rules *rules, struct tl_listener *listener, const struct tl_call *call)
{
    uint64_t delay_ns = 0;

    pthread_mutex_lock(&rules->lock);
    struct held **at = find_held(rules, call), *found = *at;
    if (found) {
        delay_ns = found->delay_ns;
        *at = found->next;
        free(found);
    }
    pthread_mutex_unlock(&rules->lock);
    return delay_ns && tl_listener_delay(listener, call, delay_ns) == 0;
}

static bool decide(const struct entry *entry, struct tl_listener *listener, struct tl_call *call,
                   bool results)
{
    bool fails = entry->rule.action == TL_RULE_ERROR;
    int64_t value = entry->rule.value;

    if (!results && !call->delay_exit_ns) {
        tl_listener_reply(listener, call->id, fails ? 0 : value, fails ? (int)value : 0);
        return true;
    }
    call->returned = call->emulated = call->ruled = true;
    call->result = fails ? -value : value;
    return call->delay_exit_ns && tl_listener_delay(listener, call, call->delay_exit_ns) == 0;
}

bool tl_rules_apply(struct tl_rules *rules, struct tl_listener *listener, struct tl_call *call, bool results)
{
    if (call->returned)
        return rules->delays_exit && !call->emulated && delay_return(rules, listener, call);
    // Two stages a rule: before its delay, and after it.
    for (unsigned stage = call->stage; stage < 2 * rules->count; stage++) {
        struct entry *entry = rules->entries[stage / 2];
        if (stage % 2 == 0) {
            const struct tl_rule_target *target = find_target(entry, call->arch, call->nr, call);
            if (!target || (entry->glob && !path_matches(entry, target, listener, call)) ||
                !tl_rule_is_due(&entry->rule, entry->counts)) {
                stage++;
                continue;
            }
            call->delay_exit_ns += entry->rule.delay_exit_ns;
            if (entry->rule.delay_enter_ns) {
                call->stage = stage + 1;
                if (tl_listener_delay(listener, call, entry->rule.delay_enter_ns) == 0)
                    return true;
            }
        } else if (entry->rule.action != TL_RULE_CONTINUE) {
            return decide(entry, listener, call, results);
        }
    }
    if (rules->delays_exit && call->stage != TL_STAGE_PAST_RULES)
        hold_return(rules, call);
    return false;
}
