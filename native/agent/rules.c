// Rules, applied where the call is made: nobody is asked, and all processes of the program count together.
//
//   before the call    delays, errors, results, in order; the first with a result ends it
//   after the call     delays with the result in hand
//
// A signal with a handler ends a delay. Before the call that is as if it had come a moment earlier: the
// handler runs, then the program makes the call again. It is known by its place and stack, and goes on with
// the rest of the delay, uncounted; so does a call that the kernel restarts. After the call, the handler
// finds the result.
#include "inside.h"

#include <asm/unistd.h>

enum {
    CLOCK_MONOTONIC = 1,
    TIMER_ABSTIME = 1,
    arch_i386 = 0x40000003,
    i386_ipc = 117,
    second = 1000 * 1000 * 1000,
};

_Static_assert((int)tl_rule_calls == (int)tl_calls, "rules and hooks are found by the same numbers");

struct time {
    int64_t seconds, nanoseconds;
};

static uint64_t now_ns(void)
{
    struct time now = {0, 0};

    tl_call3(__NR_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0);
    return (uint64_t)now.seconds * second + (uint64_t)now.nanoseconds;
}

// Performed as if it were the program's call, so that no signal is missed in between. False: one has come.
static bool sleep_until(struct tl_thread *thread, uint64_t until, enum tl_sleep sleeps)
{
    struct time time = {(int64_t)(until / second), (int64_t)(until % second)};
    int64_t nr = thread->nr;
    uint64_t args[6];

    __builtin_memcpy(args, thread->args, sizeof args);
    thread->nr = __NR_clock_nanosleep;
    thread->args[0] = CLOCK_MONOTONIC;
    thread->args[1] = TIMER_ABSTIME;
    thread->args[2] = (uint64_t)&time;
    thread->args[3] = 0;
    thread->sleeps = sleeps;
    tl_perform_native(thread);
    thread->sleeps = TL_SLEEPS_NOT;
    thread->nr = nr;
    __builtin_memcpy(thread->args, args, sizeof args);
    thread->aborted = 0;
    return !thread->pending;
}

static const struct tl_rule_use *uses_of(const struct tl_thread *thread)
{
    const struct tl_rule_table *table = &tl_session.rules;
    unsigned arch = thread->arch == arch_i386;
    uint32_t nr = (uint32_t)thread->nr;
    unsigned list = table->others[arch];

    if (nr < tl_calls)
        list = table->calls[arch][nr];
    else
        for (uint32_t i = 0; i < table->number_count; i++)
            if (table->numbers[i].nr == nr && table->numbers[i].arch == arch)
                list = table->numbers[i].list;
    return list ? &table->uses[list] : NULL;
}

static bool is_about(const struct tl_rule_use *use, const struct tl_thread *thread)
{
    uint32_t subcall = (uint32_t)thread->args[0];

    if (use->subcall < 0)
        return true;
    return (uint32_t)use->subcall == ((uint32_t)thread->nr == i386_ipc ? subcall & 0xffff : subcall);
}

// The call is about to be made again, after a handler.
static void remember(struct tl_thread *thread, uint32_t at, uint64_t until)
{
    struct tl_again *again =
        &thread->again[thread->again_next++ % (sizeof thread->again / sizeof *thread->again)];

    *again = (struct tl_again){
        TL_AGAIN_HANDLED, at, thread->nr, thread->regs[RIP], thread->regs[RSP], until, thread->delay_exit_ns,
    };
}

void tl_rules_handled(struct tl_thread *thread, uint64_t rip, uint64_t rsp)
{
    for (size_t i = 0; thread->again_next && i < sizeof thread->again / sizeof *thread->again; i++) {
        struct tl_again *again = &thread->again[i];
        if (again->state == TL_AGAIN_HANDLED && again->rip == rip + 2 && again->rsp == rsp)
            again->state = TL_AGAIN_DUE;
    }
}

static bool begins_again(struct tl_thread *thread, struct tl_again *found)
{
    for (size_t i = 0; thread->again_next && i < sizeof thread->again / sizeof *thread->again; i++) {
        struct tl_again *again = &thread->again[i];
        if (again->state == TL_AGAIN_DUE && again->rip == thread->regs[RIP] &&
            again->rsp == thread->regs[RSP] && again->nr == thread->nr) {
            *found = *again;
            again->state = TL_AGAIN_UNUSED;
            return true;
        }
    }
    return false;
}

bool tl_rules_before(struct tl_thread *thread, long *result)
{
    struct tl_rule_table *table = &tl_session.rules;
    struct tl_again again = {0};
    uint32_t at;

    thread->delay_exit_ns = 0;
    thread->begins_again = false;
    if (!table->count)
        return false;
    thread->begins_again = begins_again(thread, &again);
    const struct tl_rule_use *uses = uses_of(thread);
    if (!uses)
        return false;
    thread->delay_exit_ns = again.delay_exit_ns;
    for (at = again.at; uses[at].rule; at++) {
        const struct tl_rule *rule = &table->rules[uses[at].rule - 1];
        uint64_t until = again.until;
        again.until = 0;
        if (!until) {
            if (!is_about(&uses[at], thread) || !tl_rule_is_due(rule, &table->counts[uses[at].rule - 1]))
                continue;
            thread->delay_exit_ns += rule->delay_exit_ns;
            until = rule->delay_enter_ns ? now_ns() + rule->delay_enter_ns : 0;
        }
        if (until && !sleep_until(thread, until, TL_SLEEPS_BEFORE)) {
            remember(thread, at, until);
            thread->aborted = 1;
            return true;
        }
        if (rule->action != TL_RULE_CONTINUE) {
            *result = rule->action == TL_RULE_ERROR ? -(long)rule->value : (long)rule->value;
            return true;
        }
    }
    thread->rules_end = at;
    return false;
}

void tl_rules_aborted(struct tl_thread *thread)
{
    if (tl_session.rules.count)
        remember(thread, thread->rules_end, 0);
}

void tl_rules_after(struct tl_thread *thread, long result)
{
    if (!thread->delay_exit_ns)
        return;
    thread->result = result;
    sleep_until(thread, now_ns() + thread->delay_exit_ns, TL_SLEEPS_AFTER);
}
