#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"
#include "path.h"
#include "task.h"

struct entry {
    struct tl_rule rule; // our own copy: a program may write where its agents look
    char *glob;
    struct tl_rule_target *targets;
    unsigned target_count;
    struct tl_rule_counts *counts;
    uint8_t *pokes; // likewise our own
};

// A call that is to be held when it returns.
struct held {
    struct held *next;
    uint64_t delay_ns;
    const struct entry *poke; // whose memory is overwritten then
    uint32_t arch;
    int32_t nr, tid;
};

enum { held_buckets = 64 };

struct tl_rules {
    struct tl_rule_table *table, *own_table; // own: there are no agents
    struct entry **entries;
    unsigned count;
    bool wants_returns;
    pthread_mutex_t lock; // of what follows
    struct held *held[held_buckets];
};

struct tl_error *tl_rules_new(struct tl_rule_table *table, struct tl_rules **rules)
{
    *rules = calloc(1, sizeof **rules);
    if (!*rules)
        return tl_error_new(ENOMEM, "cannot keep rules");
    if (!table)
        (*rules)->own_table = table =
            mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) {
        free(*rules);
        return tl_error_new(ENOMEM, "cannot keep rules");
    }
    (*rules)->table = table;
    pthread_mutex_init(&(*rules)->lock, NULL);
    return NULL;
}

static void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    free(entry->glob);
    free(entry->pokes);
    free(entry->targets);
    free(entry);
}

static bool wants_return(const struct tl_rule *rule)
{
    return rule->delay_exit_ns || rule->more.flags & TL_RULE_POKES_EXIT;
}

struct tl_error *tl_rules_add(struct tl_rules *rules, const struct tl_rule *rule, const char *glob,
                              const struct tl_rule_target *targets, unsigned count, const void *pokes,
                              size_t pokes_size)
{
    struct tl_rule_table *table = rules->table;
    struct entry **grown = realloc(rules->entries, (rules->count + 1) * sizeof *grown);

    if (!grown)
        return tl_error_new(ENOMEM, "cannot add a rule");
    rules->entries = grown;
    if (rules->count == tl_rules_max || table->poke_bytes + pokes_size > tl_rule_pokes_max)
        return tl_error_new(E2BIG, "cannot add a rule");
    struct entry *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->rule = *rule;
        entry->glob = glob ? strdup(glob) : NULL;
        entry->targets = malloc(count * sizeof *targets + 1);
        entry->target_count = count;
        entry->counts = &table->counts[rules->count];
        entry->pokes = malloc(pokes_size + 1);
        entry->rule.more.pokes = table->poke_bytes;
        entry->rule.more.pokes_size = (uint32_t)pokes_size;
    }
    if (!entry || !entry->targets || !entry->pokes || (glob && !entry->glob)) {
        entry_free(entry);
        return tl_error_new(ENOMEM, "cannot add a rule");
    }
    memcpy(entry->targets, targets, count * sizeof *targets);
    memcpy(entry->pokes, pokes, pokes_size);
    memcpy(table->pokes + table->poke_bytes, pokes, pokes_size);
    table->poke_bytes += (uint32_t)pokes_size;
    rules->wants_returns = rules->wants_returns || (count && wants_return(rule));
    table->per_thread |= rule->more.flags & TL_RULE_PER_THREAD;
    rules->entries[rules->count] = entry;
    table->rules[rules->count] = entry->rule;
    table->count = ++rules->count;
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
    if (rules->own_table)
        munmap(rules->own_table, sizeof *rules->own_table);
    pthread_mutex_destroy(&rules->lock);
    free(rules);
}

uint64_t tl_rules_count(const struct tl_rules *rules, unsigned index)
{
    return index < rules->count ? __atomic_load_n(&rules->entries[index]->counts->acted, __ATOMIC_RELAXED)
                                : 0;
}

const struct tl_rule_table *tl_rules_table(const struct tl_rules *rules)
{
    return rules->table;
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
        *returned = *returned || wants_return(&rules->entries[i]->rule);
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

static void poke(const struct entry *entry, const struct tl_call *call, bool at_exit)
{
    const uint8_t *at = entry->pokes, *end = at + entry->rule.more.pokes_size;
    struct tl_rule_poke one;

    for (; at < end; at += sizeof one + one.size) {
        size_t done;
        memcpy(&one, at, sizeof one);
        if (one.at_exit == at_exit && one.arg < 6)
            tl_memory_write(call->tid, call->args[one.arg], at + sizeof one, one.size, &done);
    }
}

static bool has_fd(const struct tl_call *call, unsigned fds, int32_t fd)
{
    for (unsigned i = 0; i < 6; i++)
        if (fds & 1u << i && (int32_t)call->args[i] == fd)
            return true;
    return false;
}

static bool is_named(const struct tl_call *call, const char comm[16])
{
    char path[64], name[32] = "";

    snprintf(path, sizeof path, "/proc/%d/comm", call->tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, name, sizeof name - 1) < 0)
        name[0] = 0;
    if (fd >= 0)
        close(fd);
    name[strcspn(name, "\n")] = 0;
    return strncmp(name, comm, 16) == 0;
}

static bool is_about(const struct tl_rules *rules, const struct entry *entry,
                     const struct tl_rule_target *target, const struct tl_call *call)
{
    const struct tl_rule_more *more = &entry->rule.more;

    if (more->after && !__atomic_load_n(&rules->table->counts[more->after - 1].acted, __ATOMIC_RELAXED))
        return false;
    if (more->fd >= 0 && !has_fd(call, target->fds, more->fd))
        return false;
    if (more->pid >= 0 && tl_task_process(call->tid) != more->pid)
        return false;
    return !more->comm[0] || is_named(call, more->comm);
}

static bool is_due(struct tl_rules *rules, unsigned index, const struct tl_call *call)
{
    struct tl_rule_table *table = rules->table;
    const struct tl_rule *rule = &rules->entries[index]->rule;
    uint64_t which;

    if (!tl_rule_is_due(rule, &table->counts[index], table->turns, tl_rule_key(index, call->nr, call->tid),
                        &which))
        return false;
    if (rule->more.flags & TL_RULE_LOGS)
        tl_rule_log(table, (struct tl_rule_hit){tl_task_process(call->tid), call->tid, call->nr, call->arch,
                                                index, 0, which});
    return true;
}

static void set_arg(struct tl_listener *listener, struct tl_call *call, unsigned index, uint64_t value)
{
    if (tl_listener_set_arg(listener, call->id, index, value) == 0)
        call->args[index] = value;
}

// What a rule does besides deciding.
static void act(const struct entry *entry, struct tl_listener *listener, struct tl_call *call)
{
    const struct tl_rule_more *more = &entry->rule.more;
    const struct tl_rule_target *target = find_target(entry, call->arch, call->nr, call);

    for (unsigned i = 0; more->set_args && i < 6; i++)
        if (more->set_args & 1u << i)
            set_arg(listener, call, i, more->args[i]);
    if (target && target->size >= 0 && call->args[target->size] > more->most)
        set_arg(listener, call, (unsigned)target->size, more->most);
    if (more->pokes_size)
        poke(entry, call, false);
    if (more->flags & TL_RULE_POKES_EXIT)
        call->poke = entry;
    if (more->signal) // it finds the call begun
        syscall(SYS_tgkill, tl_task_process(call->tid), call->tid, more->signal);
}

// Keeps, or forgets, what is to be done to a call that happens now when it returns.
static void hold_return(struct tl_rules *rules, const struct tl_call *call)
{
    bool wanted = call->delay_exit_ns || call->poke;

    pthread_mutex_lock(&rules->lock);
    struct held **at = find_held(rules, call), *found = *at;
    if (!wanted && found) {
        *at = found->next;
        free(found);
    } else if (wanted && (found || (found = malloc(sizeof *found)))) {
        struct held *next = *at ? found->next : NULL;
        *found = (struct held){next, call->delay_exit_ns, call->poke, call->arch, call->nr, call->tid};
        *at = found;
    }
    pthread_mutex_unlock(&rules->lock);
}

static bool returned(struct tl_rules *rules, struct tl_listener *listener, const struct tl_call *call)
{
    const struct entry *poking = NULL;
    uint64_t delay_ns = 0;

    pthread_mutex_lock(&rules->lock);
    struct held **at = find_held(rules, call), *found = *at;
    if (found) {
        delay_ns = found->delay_ns;
        poking = found->poke;
        *at = found->next;
        free(found);
    }
    pthread_mutex_unlock(&rules->lock);
    if (poking)
        poke(poking, call, true);
    return delay_ns && tl_listener_delay(listener, call, delay_ns) == 0;
}

static bool decide(const struct entry *entry, struct tl_listener *listener, struct tl_call *call,
                   bool results)
{
    bool fails = entry->rule.action == TL_RULE_ERROR;
    int64_t value = entry->rule.value;

    if (call->poke)
        poke(call->poke, call, true);
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
        return rules->wants_returns && !call->emulated && returned(rules, listener, call);
    // Two stages a rule: before its delay, and after it.
    for (unsigned stage = call->stage; stage < 2 * rules->count; stage++) {
        struct entry *entry = rules->entries[stage / 2];
        if (stage % 2 == 0) {
            const struct tl_rule_target *target = find_target(entry, call->arch, call->nr, call);
            if (!target || !is_about(rules, entry, target, call) ||
                (entry->glob && !path_matches(entry, target, listener, call)) ||
                !is_due(rules, stage / 2, call)) {
                stage++;
                continue;
            }
            call->delay_exit_ns += entry->rule.delay_exit_ns;
            if (entry->rule.delay_enter_ns) {
                call->stage = stage + 1;
                if (tl_listener_delay(listener, call, entry->rule.delay_enter_ns) == 0)
                    return true;
            }
        } else {
            act(entry, listener, call);
            if (entry->rule.action != TL_RULE_CONTINUE)
                return decide(entry, listener, call, results);
        }
    }
    if (rules->wants_returns && call->stage != TL_STAGE_PAST_RULES)
        hold_return(rules, call);
    return false;
}
