#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum {
    nap_ns = 10 * 1000 * 1000, // the longest that a record waits in its ring
    sweep_ns = 250 * 1000 * 1000,
    audit_arch_x86_64 = (int)0xc000003e,
    pieces = 3,
    tries = 3, // to read two clocks at once
};

struct tl_capture_reader {
    struct tl_capture *capture;
    const unsigned char *rings[tl_rings]; // mapped when first used
    uint64_t announced[tl_rings];         // the generation of the owner that the file knows
    int memory, fd;
    unsigned part;                         // of the file; 0: all of it
    struct tl_chunk_clock looked;          // when the last pass over all rings began
    unsigned looked_written, told_written; // `written`, then, and when it was told that nothing is missing
    off_t rings_at;
    pthread_t thread;
    pthread_mutex_t lock; // of the file
    int failure;          // errno; nothing is written any more
    atomic_bool ending;
    bool runs;
    bool is_timed; // in this pass over all rings
    uint64_t swept;
};

// How often records were written, to any file.
static atomic_uint written;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// Whole or not at all, as far as the file is ever read: a piece at its end that was cut short counts for
// nothing.
static void write_all(struct tl_capture_reader *r, struct iovec *at, int count)
{
    while (count && !r->failure) {
        ssize_t done = writev(r->fd, at, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            r->failure = errno;
            return;
        }
        while (count && (size_t)done >= at->iov_len) {
            done -= (ssize_t)at->iov_len;
            at++;
            count--;
        }
        if (count) {
            at->iov_base = (char *)at->iov_base + done;
            at->iov_len -= (size_t)done;
        }
    }
}

static void append(struct tl_capture_reader *r, struct tl_chunk chunk, const void *first, size_t first_size,
                   const void *second, size_t second_size)
{
    struct iovec vector[pieces] = {
        {&chunk, sizeof chunk},
        {(void *)(uintptr_t)first, first_size},
        {(void *)(uintptr_t)second, second_size},
    };

    chunk.size = (uint32_t)(first_size + second_size);
    pthread_mutex_lock(&r->lock);
    write_all(r, vector, pieces);
    pthread_mutex_unlock(&r->lock);
}

int tl_capture_append(struct tl_capture_reader *r, enum tl_chunk_type type, pid_t pid, pid_t tid,
                      const void *data, size_t size)
{
    append(r, (struct tl_chunk){type, 0, pid, tid}, data, size, NULL, 0);
    return r->failure;
}

// What both clocks say at one moment: they are read again when somebody was in between.
static struct tl_chunk_clock read_clocks(void)
{
    struct tl_chunk_clock best = {0};
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < tries; i++) {
        uint64_t before = __rdtsc(), now = now_ns(CLOCK_REALTIME), took = __rdtsc() - before;
        if (took < least)
            best = (struct tl_chunk_clock){before + took / 2, (int64_t)now};
        if (took < least)
            least = took;
    }
    return best;
}

static void tell_time(struct tl_capture_reader *r)
{
    const struct tl_chunk_clock clock = read_clocks();

    r->capture->ticks = clock.tsc;
    tl_capture_append(r, TL_CHUNK_CLOCK, (pid_t)r->part, 0, &clock, sizeof clock);
}

// Who reads the file while it grows holds back what may not be the next yet. When this pass has found
// nothing, all that had ended before the last one began is there; also what other parts have written since.
static void tell_all_is_there(struct tl_capture_reader *r)
{
    if (!r->is_timed && r->told_written != r->looked_written) {
        tl_capture_append(r, TL_CHUNK_CLOCK, (pid_t)r->part, 1, &r->looked, sizeof r->looked);
        r->told_written = r->looked_written;
    }
}

static const unsigned char *bytes_of(struct tl_capture_reader *r, uint32_t index)
{
    if (!r->rings[index]) {
        void *at = mmap(NULL, tl_ring_size, PROT_READ, MAP_SHARED, r->memory,
                        r->rings_at + (off_t)index * tl_ring_size);
        if (at != MAP_FAILED)
            r->rings[index] = at;
    }
    return r->rings[index];
}

static void announce(struct tl_capture_reader *r, uint32_t index)
{
    const struct tl_ring *ring = &r->capture->rings[index];
    char path[64], name[64];
    ssize_t size = 0;

    if (r->announced[index] == ring->generation + 1)
        return;
    r->announced[index] = ring->generation + 1;
    snprintf(path, sizeof path, "/proc/%d/comm", ring->tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        size = read(fd, name, sizeof name);
        close(fd);
    }
    size = size > 0 ? size - 1 : 0; // without the newline
    tl_capture_append(r, TL_CHUNK_BEGUN, ring->pid, ring->tid, name, (size_t)size);
}

static void copy(struct tl_capture_reader *r, uint32_t index, uint64_t from, uint64_t size)
{
    const struct tl_ring *ring = &r->capture->rings[index];
    const unsigned char *bytes = bytes_of(r, index);
    uint64_t at = from % tl_ring_size, first = tl_ring_size - at < size ? tl_ring_size - at : size;

    if (!bytes) {
        r->failure = r->failure ? r->failure : ENOMEM;
        return;
    }
    append(r, (struct tl_chunk){TL_CHUNK_RECORDS, 0, ring->pid, ring->tid}, bytes + at, (size_t)first, bytes,
           (size_t)(size - first));
    atomic_fetch_add(&written, 1);
}

// What a program writes there may be wrong: no more is believed than fits.
static void drain(struct tl_capture_reader *r, uint32_t index)
{
    struct tl_ring *ring = &r->capture->rings[index];
    uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE), size = head - ring->tail;

    if (!size)
        return;
    if (!r->is_timed)
        tell_time(r);
    r->is_timed = true;
    announce(r, index);
    if (size <= tl_ring_size)
        copy(r, index, ring->tail, size);
    __atomic_store_n(&ring->tail, head, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&ring->waiting, 0, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &ring->waiting, FUTEX_WAKE, 1, NULL, NULL, 0);
}

// The call that the owner of a ring has not come back from.
static void finish_call(struct tl_capture_reader *r, uint32_t index)
{
    const struct tl_ring *ring = &r->capture->rings[index];
    const unsigned char *bytes = bytes_of(r, index);
    uint32_t size = ring->begun;
    unsigned char *whole = malloc(tl_record_max);

    if (bytes && whole && size >= sizeof(struct tl_record) && size <= tl_record_max) {
        for (uint32_t i = 0; i < size; i++)
            whole[i] = bytes[(ring->head + i) % tl_ring_size];
        struct tl_record *record = (struct tl_record *)(void *)whole;
        record->size = (uint16_t)size;
        record->flags |= TL_RECORD_UNFINISHED;
        announce(r, index);
        tl_capture_append(r, TL_CHUNK_RECORDS, ring->pid, ring->tid, whole, size);
    }
    free(whole);
}

// Of /proc/PID/maps the lines that an unwinder wants: what can be executed.
static void tell_maps(struct tl_capture_reader *r, struct tl_ring *ring)
{
    char path[64], *line = NULL, *kept = NULL;
    size_t room = 0, size = 0;

    snprintf(path, sizeof path, "/proc/%d/maps", ring->tid);
    FILE *maps = fopen(path, "re"), *text = open_memstream(&kept, &size);
    while (maps && text && getline(&line, &room, maps) > 0) {
        const char *permissions = strchr(line, ' ');
        if (permissions && strlen(permissions) > 3 && permissions[3] == 'x')
            fputs(line, text);
    }
    if (maps)
        fclose(maps);
    if (text && !fclose(text))
        tl_capture_append(r, TL_CHUNK_MAPS, ring->pid, ring->tid, kept, size);
    free(kept);
    free(line);
    __atomic_store_n(&ring->maps_wanted, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &ring->maps_wanted, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool is_gone(const struct tl_ring *ring)
{
    return syscall(SYS_tgkill, ring->pid, ring->tid, 0) < 0 && errno == ESRCH;
}

static void give_back(struct tl_capture_reader *r, uint32_t index)
{
    struct tl_ring *ring = &r->capture->rings[index];

    drain(r, index);
    finish_call(r, index);
    if (ring->dropped)
        tl_capture_append(r, TL_CHUNK_DROPPED, ring->pid, ring->tid, &ring->dropped, sizeof ring->dropped);
    if (r->announced[index] == ring->generation + 1 && is_gone(ring))
        tl_capture_append(r, TL_CHUNK_GONE, ring->pid, ring->tid, NULL, 0);
    ring->generation++;
    ring->begun = ring->ending = ring->waiting = ring->maps_wanted = ring->maps_known = 0;
    ring->dropped = 0;
    ring->head = ring->tail = 0;
    __atomic_store_n(&ring->state, TL_RING_FREE, __ATOMIC_SEQ_CST);
}

// ALL: also of threads that have not said that they are about to end.
static void look_at_all(struct tl_capture_reader *r, bool all)
{
    const struct tl_chunk_clock now = read_clocks();
    unsigned written_now = atomic_load(&written);
    uint32_t highest = __atomic_load_n(&r->capture->highest, __ATOMIC_ACQUIRE);

    r->is_timed = false;
    for (uint32_t i = 0; i < highest && i < tl_rings; i++) {
        struct tl_ring *ring = &r->capture->rings[i];
        if (__atomic_load_n(&ring->state, __ATOMIC_ACQUIRE) != TL_RING_LIVE || !ring->tid)
            continue;
        drain(r, i);
        if (__atomic_load_n(&ring->maps_wanted, __ATOMIC_SEQ_CST))
            tell_maps(r, ring);
        if ((all || ring->ending) && is_gone(ring))
            give_back(r, i);
    }
    tell_all_is_there(r);
    r->looked = now;
    r->looked_written = written_now;
}

static void *work(void *context)
{
    struct tl_capture_reader *r = context;
    const struct timespec nap = {0, nap_ns};

    while (!atomic_load(&r->ending)) {
        uint32_t bell = __atomic_load_n(&r->capture->bell, __ATOMIC_SEQ_CST);
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        bool sweep = now - r->swept > sweep_ns;
        if (sweep)
            r->swept = now;
        look_at_all(r, sweep);
        __atomic_store_n(&r->capture->listening, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &r->capture->bell, FUTEX_WAIT, bell, &nap, NULL, 0);
        __atomic_store_n(&r->capture->listening, 0, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

struct tl_error *tl_capture_prepare(struct tl_agent *agent, int fd, unsigned part,
                                    struct tl_capture_reader **reader)
{
    struct tl_capture_reader *r = calloc(1, sizeof *r);

    if (!r)
        return tl_error_new(ENOMEM, "cannot record calls");
    *r = (struct tl_capture_reader){
        .capture = &agent->session->capture, .memory = agent->memory, .fd = fd, .part = part};
    r->rings_at = (off_t)agent->image_size + tl_shared_size;
    pthread_mutex_init(&r->lock, NULL);
    *reader = r;
    if (ftruncate(agent->memory, r->rings_at + (off_t)tl_rings * tl_ring_size) < 0)
        return tl_error_new(errno, "cannot make room for records");
    r->capture->on = 1;
    return NULL;
}

struct tl_error *tl_capture_begin(struct tl_capture_reader *r)
{
    struct tl_capture_file header = {"tltrace\n", tl_capture_version, sizeof header,
                                     (uint32_t)audit_arch_x86_64, r->capture->limit};

    if (!r->part)
        write_all(r, &(struct iovec){&header, sizeof header}, 1);
    tell_time(r);
    if (r->failure)
        return tl_error_new(r->failure, "cannot write what is recorded");
    int error = pthread_create(&r->thread, NULL, work, r);
    r->runs = !error;
    return error ? tl_error_new(error, "cannot start a thread") : NULL;
}

int tl_capture_end(struct tl_capture_reader *r)
{
    if (r->runs) {
        atomic_store(&r->ending, true);
        __atomic_add_fetch(&r->capture->bell, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &r->capture->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        pthread_join(r->thread, NULL);
        r->runs = false;
        r->capture->ended = 1;
        look_at_all(r, true);
        for (uint32_t i = 0; i < r->capture->highest && i < tl_rings; i++)
            if (r->capture->rings[i].state == TL_RING_LIVE)
                give_back(r, i); // it lives on, unseen
        tell_time(r);
        if (r->part)
            tl_capture_append(r, TL_CHUNK_PART, (pid_t)r->part, 0, NULL, 0);
    }
    return r->failure;
}

void tl_capture_free(struct tl_capture_reader *r)
{
    if (!r)
        return;
    tl_capture_end(r);
    for (unsigned i = 0; i < tl_rings; i++)
        if (r->rings[i])
            munmap((void *)(uintptr_t)r->rings[i], tl_ring_size);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
