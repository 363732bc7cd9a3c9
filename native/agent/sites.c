// The system call instructions that have trapped, and what is asked and answered about each.
#include "inside.h"

#include <asm/unistd.h>

enum {
    FUTEX_WAIT = 0,
    nap_ns = 50 * 1000,
    naps = 20 * 1000, // a second
    // A site that goes on trapping while it is planned: threads that have nothing better to do let the
    // planner run. With many threads and few processors it would else come last, and all of their calls would
    // trap.
    late_traps = 48,
    short_nap_ns = 1000 * 1000,
    short_naps = 512, // for one site
    all_naps = 2000,  // for all
};

static struct tl_site *find_site(uint64_t address)
{
    struct tl_process *process = &tl_process;
    uint64_t hash = address * 0x9e3779b97f4a7c15;

    for (uint32_t i = 0; i < 64; i++) {
        struct tl_site *site = &process->sites[((hash >> 48) + i) & (sites_max - 1)];
        uint64_t expected = 0;
        if (site->address == address)
            return site;
        if (!site->address && __atomic_compare_exchange_n(&site->address, &expected, address, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            site->count = site->naps = 0;
            __atomic_add_fetch(&process->report->sites, 1, __ATOMIC_RELAXED);
            return site;
        }
        if (expected == address)
            return site;
    }
    return NULL;
}

static void ask(struct tl_site *site)
{
    struct tl_session *session = &tl_session;
    uint32_t free = TL_QUESTION_FREE, unasked = 0;

    if (!__atomic_compare_exchange_n(&site->question, &unasked, site_asking, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return;
    for (uint32_t i = 0; i < tl_questions; i++, free = TL_QUESTION_FREE) {
        struct tl_question *question = &session->questions[i];
        if (!__atomic_compare_exchange_n(&question->state, &free, TL_QUESTION_TAKEN, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        question->pid = tl_process.outer_pid;
        question->site = site->address;
        question->low = (uint64_t)tl_blocks_start;
        question->high = (uint64_t)tl_image + tl_data;
        __atomic_store_n(&question->state, TL_QUESTION_ASKED, __ATOMIC_RELEASE);
        __atomic_or_fetch(&session->asked, (uint64_t)1 << i, __ATOMIC_SEQ_CST);
        __atomic_store_n(&site->question, i + 1, __ATOMIC_RELEASE);
        tl_ring();
        return;
    }
    __atomic_store_n(&site->question, 0, __ATOMIC_RELEASE); // all are in use: later
}

static void take_answer(struct tl_site *site, struct tl_question *question)
{
    struct tl_process *process = &tl_process;
    uint32_t answered = TL_QUESTION_ANSWERED;
    const struct tl_plan *plan = (const struct tl_plan *)(const void *)question->plan;

    if (!__atomic_compare_exchange_n(&question->state, &answered, TL_QUESTION_TAKEN, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return;
    // Somebody else's: ours was given up, or asked before a fork.
    bool is_ours = question->pid == process->outer_pid && question->site == site->address;
    int reason = plan->reason;
    if (is_ours && !reason) {
        tl_lock(&process->patch_lock);
        reason = tl_patch_commit(plan, site->address);
        tl_unlock(&process->patch_lock);
    }
    __atomic_store_n(&question->state, is_ours ? TL_QUESTION_FREE : TL_QUESTION_ANSWERED, __ATOMIC_RELEASE);
    __atomic_store_n(&site->question, is_ours ? site_done : 0, __ATOMIC_RELEASE);
    if (!is_ours)
        return;
    if (reason < 0)
        __atomic_add_fetch(&process->report->patched, 1, __ATOMIC_RELAXED);
    else
        __atomic_add_fetch(&process->report->refused[reason & 31], 1, __ATOMIC_RELAXED);
}

// For who wants to know what a program does once it is patched: it is, before its second call.
static void wait_for_answer(struct tl_site *site)
{
    const int64_t time[2] = {0, nap_ns};
    uint32_t number = __atomic_load_n(&site->question, __ATOMIC_ACQUIRE);

    if (!number || number > tl_questions)
        return;
    struct tl_question *question = &tl_session.questions[number - 1];
    for (int i = 0; i < naps && __atomic_load_n(&question->state, __ATOMIC_ACQUIRE) == TL_QUESTION_ASKED; i++)
        tl_raw(__NR_futex, (long)&question->state, FUTEX_WAIT, TL_QUESTION_ASKED, (long)time, 0, 0);
    take_answer(site, question);
}

static void wait_a_little(struct tl_site *site, struct tl_question *question)
{
    const int64_t time[2] = {0, short_nap_ns};

    // Nobody may ever answer.
    if (__atomic_load_n(&tl_process.naps, __ATOMIC_RELAXED) > all_naps ||
        __atomic_add_fetch(&site->naps, 1, __ATOMIC_RELAXED) > short_naps)
        return;
    __atomic_add_fetch(&tl_process.naps, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&question->awaited, 1, __ATOMIC_SEQ_CST);
    tl_raw(__NR_futex, (long)&question->state, FUTEX_WAIT, TL_QUESTION_ASKED, (long)time, 0, 0);
    if (__atomic_load_n(&question->state, __ATOMIC_ACQUIRE) == TL_QUESTION_ANSWERED)
        take_answer(site, question);
}

void tl_site_trapped(uint64_t address)
{
    struct tl_process *process = &tl_process;
    struct tl_session *session = &tl_session;
    struct tl_site *site = process->no_patches ? NULL : find_site(address);
    uint16_t bytes;

    uint32_t count = site ? __atomic_add_fetch(&site->count, 1, __ATOMIC_RELAXED) : 0;
    if (!site || count < session->threshold)
        return;
    uint32_t number = __atomic_load_n(&site->question, __ATOMIC_ACQUIRE);
    if (number == site_done || number == site_asking)
        return;
    if (number) {
        struct tl_question *question = &session->questions[number - 1];
        uint32_t state = __atomic_load_n(&question->state, __ATOMIC_ACQUIRE);
        if (state == TL_QUESTION_ANSWERED)
            take_answer(site, question);
        else if (state == TL_QUESTION_FREE || question->pid != process->outer_pid ||
                 question->site != address)
            __atomic_store_n(&site->question, 0, __ATOMIC_RELEASE);
        else if (count >= session->threshold + late_traps)
            wait_a_little(site, question);
    } else if (tl_read(&bytes, address, sizeof bytes) && bytes == syscall_bytes) {
        ask(site);
        if (session->flags & TL_ENGINE_WAITS)
            wait_for_answer(site);
    }
}

void tl_sites_forget(uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < sites_max; i++) {
        struct tl_site *site = &tl_process.sites[i];
        if (site->address >= start && site->address < end)
            site->count = site->question = site->naps = 0;
    }
}
