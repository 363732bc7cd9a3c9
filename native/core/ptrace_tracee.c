// The table of tracees.
#include <stdlib.h>

#include "ptrace_state.h"

static struct tracee **bucket_of(struct tl_tracer *tracer, pid_t tid)
{
    return &tracer->table[(unsigned)tid % tracee_buckets];
}

struct tracee *tl_tracee_find(struct tl_tracer *tracer, pid_t tid)
{
    struct tracee *t = *bucket_of(tracer, tid);

    while (t && t->tid != tid)
        t = t->next;
    return t;
}

struct tracee *tl_tracee_of_call(struct tl_tracer *tracer, uint64_t id)
{
    struct tracee *t = id ? tl_tracee_find(tracer, (pid_t)(id & ((1U << tid_bits) - 1))) : NULL;

    return t && t->id == id ? t : NULL;
}

static void link_in(struct tl_tracer *tracer, struct tracee *t)
{
    struct tracee **bucket = bucket_of(tracer, t->tid);

    t->next = *bucket;
    *bucket = t;
}

static void unlink_from(struct tl_tracer *tracer, struct tracee *t)
{
    struct tracee **at = bucket_of(tracer, t->tid);

    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
}

struct tracee *tl_tracee_add(struct tl_tracer *tracer, pid_t tid)
{
    struct tracee *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->tid = tid;
    pthread_mutex_lock(&tracer->lock);
    link_in(tracer, t);
    tracer->tracees++;
    tracer->begun = true;
    pthread_mutex_unlock(&tracer->lock);
    return t;
}

void tl_tracee_forget_call(struct tl_tracer *tracer, struct tracee *t)
{
    struct request *performing = t->performing;

    pthread_mutex_lock(&tracer->lock);
    t->id = 0;
    t->changed = 0;
    if (t->queued) {
        struct tracee **at = &tracer->calls;
        while (*at != t)
            at = &(*at)->next_call;
        *at = t->next_call;
        if (!*at)
            tracer->calls_tail = at;
        t->queued = false;
    }
    pthread_mutex_unlock(&tracer->lock);
    t->performing = NULL;
    if (performing)
        tl_request_complete(performing, ENOENT);
}

// An answer that is on its way must not be carried out when its tracee is gone.
static void drop_answer(struct tl_tracer *tracer, struct tracee *t)
{
    struct request **at = &tracer->requests;

    while (*at && *at != &t->answer)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = t->answer.next;
    if (!*at)
        tracer->requests_tail = at;
}

static void free_copies(struct copy *copies)
{
    while (copies) {
        struct copy *next = copies->next;
        free(copies);
        copies = next;
    }
}

void tl_tracee_remove(struct tl_tracer *tracer, struct tracee *t)
{
    tl_tracee_forget_call(tracer, t);
    tl_tracee_place(tracer, t, AT_LARGE);
    pthread_mutex_lock(&tracer->lock);
    drop_answer(tracer, t);
    unlink_from(tracer, t);
    tracer->tracees--;
    pthread_mutex_unlock(&tracer->lock);
    t->gone = true;
    t->next = tracer->graveyard;
    tracer->graveyard = t;
}

void tl_tracee_rename(struct tl_tracer *tracer, struct tracee *t, pid_t tid)
{
    tl_tracee_forget_call(tracer, t);
    pthread_mutex_lock(&tracer->lock);
    unlink_from(tracer, t);
    t->tid = tid;
    link_in(tracer, t);
    pthread_mutex_unlock(&tracer->lock);
}

void tl_tracee_empty_graveyard(struct tl_tracer *tracer)
{
    while (tracer->graveyard) {
        struct tracee *t = tracer->graveyard;
        tracer->graveyard = t->next;
        free_copies(t->copies);
        free_copies(t->garbage);
        free(t);
    }
}
