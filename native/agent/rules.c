// Rules, applied where the call is made: nobody is asked, and all processes of the program count together.
//
//   before the call    delays, changed arguments and memory, errors, results, in order; the first with a
//   result
//                      ends it
//   after the call     changed memory, delays with the result in hand, signals
//
// A signal that a rule raises is there, for the program, when its call returns. A call that only waits for
// something is interrupted by it.
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
    PR_GET_NAME = 16,
    SI_KERNEL = 0x80,
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

static bool has_fd(const struct tl_thread *thread, unsigned fds, int32_t fd)
{
    for (unsigned i = 0; i < 6; i++)
        if (fds & 1u << i && (int32_t)thread->args[i] == fd)
            return true;
    return false;
}

static bool is_named(const char comm[16])
{
    char name[16] = "";

    tl_raw(__NR_prctl, PR_GET_NAME, (long)name, 0, 0, 0, 0);
    for (int i = 0; i < 16 && (name[i] || comm[i]); i++)
        if (name[i] != comm[i])
            return false;
    return true;
}

static bool is_about(const struct tl_rule_use *use, const struct tl_thread *thread)
{
    const struct tl_rule_table *table = &tl_session.rules;
    const struct tl_rule_more *more = &table->rules[use->rule - 1].more;
    uint32_t subcall = (uint32_t)thread->args[0];

    if (use->subcall >= 0 &&
        (uint32_t)use->subcall != ((uint32_t)thread->nr == i386_ipc ? subcall & 0xffff : subcall))
        return false;
    if (more->after && !__atomic_load_n(&table->counts[more->after - 1].acted, __ATOMIC_RELAXED))
        return false;
    if (more->fd >= 0 && !has_fd(thread, use->fds, more->fd))
        return false;
    return (more->pid < 0 || more->pid == thread->outer_pid) && (!more->comm[0] || is_named(more->comm));
}

static void poke(struct tl_thread *thread, const struct tl_rule *rule, bool at_exit)
{
    const uint8_t *at = tl_session.rules.pokes + rule->more.pokes, *end = at + rule->more.pokes_size;
    const struct tl_rule_poke *one;

    for (; at < end; at += sizeof *one + one->size) {
        one = (const struct tl_rule_poke *)at;
        if (one->at_exit == at_exit && one->arg < 6)
            tl_write(thread->args[one->arg], one + 1, one->size);
    }
}

// These wait for something and do nothing else.
static bool only_waits(const struct tl_thread *thread)
{
    switch (thread->arch == arch_i386 ? -1 : thread->nr) {
    case __NR_pause:
    case __NR_nanosleep:
    case __NR_clock_nanosleep:
    case __NR_rt_sigsuspend:
    case __NR_poll:
    case __NR_ppoll:
    case __NR_select:
    case __NR_pselect6:
    case __NR_epoll_wait:
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
        return true;
    default:
        return false;
    }
}

static bool never_returns(const struct tl_thread *thread)
{
    return thread->arch != arch_i386 && (thread->nr == __NR_exit || thread->nr == __NR_exit_group ||
                                         thread->nr == __NR_execve || thread->nr == __NR_execveat);
}

static void raise_signal(struct tl_thread *thread, uint32_t number)
{
    // As a tracer's would come; but one that looks like a fault would be taken for one.
    bool is_fault = number == SIGSEGV || number == SIGBUS || tl_held_signals() & tl_bit((int)number);
    const struct tl_siginfo info = {.number = (int32_t)number, .code = is_fault ? 0 : SI_KERNEL};

    tl_send(thread, &info);
}

// True: *RESULT is that of the interrupted call.
static bool signal_before(struct tl_thread *thread, uint32_t number, long *result)
{
    bool is_caught =
        thread->handlers->action[number].handler > 1 && !(tl_mask_seen(thread) & tl_bit((int)number));

    if (never_returns(thread)) {
        raise_signal(thread, number);
        return false;
    }
    thread->rule_signal = number;
    *result = -EINTR;
    return is_caught && only_waits(thread);
}

// What a rule does besides deciding. True: that has given the call a result.
static bool act(struct tl_thread *thread, const struct tl_rule_use *use, const struct tl_rule *rule,
                long *result)
{
    const struct tl_rule_more *more = &rule->more;

    for (unsigned i = 0; more->set_args && i < 6; i++)
        if (more->set_args & 1u << i)
            thread->args[i] = more->args[i];
    if (use->size >= 0 && thread->args[use->size] > more->most)
        thread->args[use->size] = more->most;
    if (more->pokes_size)
        poke(thread, rule, false);
    if (more->flags & TL_RULE_POKES_EXIT &&
        thread->rule_pokes < sizeof thread->poking / sizeof *thread->poking)
        thread->poking[thread->rule_pokes++] = (uint16_t)(use->rule - 1);
    return more->signal && signal_before(thread, more->signal, result);
}

static bool is_due(struct tl_thread *thread, const struct tl_rule_use *use, const struct tl_rule *rule)
{
    struct tl_rule_table *table = &tl_session.rules;
    uint32_t number = use->rule - 1u;
    uint64_t which;

    if (!tl_rule_is_due(rule, &table->counts[number], table->turns,
                        tl_rule_key(number, (int32_t)thread->nr, thread->outer_tid), &which))
        return false;
    if (rule->more.flags & TL_RULE_LOGS)
        tl_rule_log(table, (struct tl_rule_hit){thread->outer_pid, thread->outer_tid, (int32_t)thread->nr,
                                                thread->arch, number, 0, which});
    return true;
}

// A thread id may come again.
void tl_rules_begin(const struct tl_thread *thread)
{
    struct tl_rule_table *table = &tl_session.rules;

    for (unsigned i = 0; table->per_thread && i < tl_rule_turns_max; i++)
        if (table->turns[i].key >> 32 == (uint32_t)thread->outer_tid)
            table->turns[i].count = 0;
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
    thread->rule_signal = 0;
    thread->rule_pokes = 0;
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
            if (!is_about(&uses[at], thread) || !is_due(thread, &uses[at], rule))
                continue;
            thread->delay_exit_ns += rule->delay_exit_ns;
            until = rule->delay_enter_ns ? now_ns() + rule->delay_enter_ns : 0;
        }
        if (until && !sleep_until(thread, until, TL_SLEEPS_BEFORE)) {
            remember(thread, at, until);
            thread->aborted = 1;
            return true;
        }
        bool interrupted = act(thread, &uses[at], rule, result);
        if (rule->action != TL_RULE_CONTINUE) {
            *result = rule->action == TL_RULE_ERROR ? -(long)rule->value : (long)rule->value;
            return true;
        }
        if (interrupted)
            return true;
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
    for (unsigned i = 0; i < thread->rule_pokes; i++)
        poke(thread, &tl_session.rules.rules[thread->poking[i]], true);
    if (thread->delay_exit_ns) {
        thread->result = result;
        sleep_until(thread, now_ns() + thread->delay_exit_ns, TL_SLEEPS_AFTER);
    }
    if (thread->rule_signal)
        raise_signal(thread, thread->rule_signal);
}
