#include "guest.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "offsets.h"
#include "rawcall.h"
#include "session.h"

enum {
    FSGSBASE = 2, // in AT_HWCAP2
    XSAVEC = 2,   // in eax of leaf 13.1
    SET_DISPATCH = 59,
    DISPATCH_OFF = 0,
    EXCLUSIVE_ON = 1,
    INCLUSIVE_ON = 2,
    segment_slot = 14, // the last of the three that a thread has in the GDT
    set_thread_area_by_int80 = 243,
    filters_max = 64,
};

_Static_assert(offsetof(struct tl_guest_thread, block) == THREAD_BLOCK, "a block's gate writes it");
_Static_assert(sizeof(struct tl_guest_thread) <= tl_guest_vectors, "a thread's record fits its area");

void tl_guest_from_block(void);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t used[tl_guest_threads_max / 64], opened[tl_guest_threads_max / 64];
static uint64_t last_id;
static uint32_t *low_page; // set_thread_area takes an address of 32 bits
static __thread struct tl_guest_thread *current;
// Guests whose filter this thread has, and the generation of its ranges; it has them for good.
static __thread struct {
    uint64_t guest;
    uint32_t generation;
} filters[filters_max];
static __thread unsigned filter_count;

// Below what programs are linked to, so that an arena can be there.
static uint32_t *map_low_page(void)
{
    for (uint64_t at = 0x10000; at < 0x400000; at += 0x10000) {
        void *got = mmap((void *)(uintptr_t)at, 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (got != MAP_FAILED)
            return got;
    }
    return NULL;
}

static struct tl_error *reserve_areas(void)
{
    size_t size = (size_t)tl_guest_threads_max * tl_guest_area_size;

    if (tl_guest_areas)
        return NULL;
    if (!(getauxval(AT_HWCAP2) & FSGSBASE))
        return tl_error_new(ENOSYS,
                            "guests need FSGSBASE, which this processor or kernel (before 5.9) lacks");
    unsigned a = 0, b, c, d;
    if (!__get_cpuid_count(13, 1, &a, &b, &c, &d) || !(a & XSAVEC) || !__builtin_cpu_supports("avx"))
        return tl_error_new(ENOSYS, "guests need AVX and XSAVEC, which this processor lacks");
    char *room =
        mmap(NULL, size + tl_guest_area_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return tl_error_new(errno, "cannot reserve %zu MB for the threads of guests", size >> 20);
    tl_guest_areas = ((uint64_t)room + tl_guest_area_size - 1) & -(uint64_t)tl_guest_area_size;
    low_page = map_low_page();
    return NULL;
}

// What a block's gate finds: the tables, and a way to our code.
static struct tl_error *make_region(struct tl_guest *guest)
{
    struct tl_image_header header;
    const unsigned char *image = tl_agent_header(&header);
    const struct tl_gate_info *info = (const void *)(image + header.gate_info);
    struct {
        unsigned char jump[6]; // jmp *(rip)
        uint64_t target;
        unsigned char bell[3]; // syscall; ret
        unsigned char sigreturn[7];
    } __attribute__((packed)) stub = {{0xff, 0x25},
                                      (uint64_t)tl_guest_from_block,
                                      {0x0f, 0x05, 0xc3},
                                      {0xb8, __NR_rt_sigreturn, 0, 0, 0, 0x0f, 0x05}};

    for (uint32_t i = 0; i < info->fixup_count; i++)
        if (info->fixups[i].kind == TL_FIXUP_PATCH)
            guest->gate_patch = info->fixups[i].offset;
    guest->gate_after = info->pass + 2;
    guest->region = mmap(NULL, tl_region_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (guest->region == MAP_FAILED) {
        guest->region = NULL;
        return tl_error_new(errno, "cannot reserve a guest's tables");
    }
    unsigned char *r = guest->region;
    if (mprotect(r, tl_data, PROT_READ | PROT_WRITE) ||
        mprotect(r + tl_data, tl_region_size - tl_data, PROT_READ | PROT_WRITE))
        return tl_error_new(errno, "cannot make a guest's tables");
    memcpy(r + header.entry, &stub, sizeof stub);
    guest->entry = (uint64_t)r + header.entry;
    guest->sigreturn = (uint64_t)r + header.entry + offsetof(typeof(stub), sigreturn);
    guest->bell = (uint64_t)r + header.entry + offsetof(typeof(stub), bell);
    if (mprotect(r, tl_data, PROT_READ | PROT_EXEC))
        return tl_error_new(errno, "cannot make a guest's code");
    *(uint16_t *)(r + PROCESS_SEGMENT) = segment_slot << 3 | 3;
    guest->classes = r + SESSION_CLASSES;
    guest->constants = (int64_t *)(void *)(r + SESSION_CONSTANTS);
    return NULL;
}

static const struct tl_guest_convention native_convention = {
    TL_RAX,
    {TL_RDI, TL_RSI, TL_RDX, TL_R10, TL_R8, TL_R9},
    TL_RAX,
    false,
};

struct tl_error *tl_guest_new(enum tl_guest_engine engine, bool rewrites, struct tl_guest **guest)
{
    struct tl_error *error;
    struct tl_guest *g;

    pthread_mutex_lock(&lock);
    error = reserve_areas();
    pthread_mutex_unlock(&lock);
    if (error || (error = tl_guest_catch_signals()))
        return error;
    g = calloc(1, sizeof *g);
    if (!g) {
        tl_guest_release_signals();
        return tl_error_new(ENOMEM, "cannot make a guest");
    }
    g->engine = engine;
    g->rewrites = rewrites && low_page;
    g->convention = native_convention;
    g->is_linux = true;
    g->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    if ((error = make_region(g))) {
        tl_guest_free(g);
        return error;
    }
    *guest = g;
    return NULL;
}

void tl_guest_free(struct tl_guest *guest)
{
    if (!guest)
        return;
    if (guest->region)
        munmap(guest->region, tl_region_size);
    tl_guest_release_signals();
    free(guest->catching.filter);
    free(guest->later.filter);
    for (unsigned i = 0; i < guest->retired_count; i++)
        free((void *)(uintptr_t)guest->retired[i]);
    free(guest);
}

struct tl_error *tl_guest_thread_new(struct tl_guest *guest, struct tl_guest_thread **thread)
{
    struct tl_guest_thread *found = NULL;
    int error = EAGAIN;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; !found && i < tl_guest_threads_max; i++) {
        uint64_t bit = (uint64_t)1 << i % 64;
        void *area = (void *)(tl_guest_areas + (uint64_t)i * tl_guest_area_size);
        if (used[i / 64] & bit)
            continue;
        if (!(opened[i / 64] & bit) && mprotect(area, tl_guest_area_size, PROT_READ | PROT_WRITE)) {
            error = errno;
            break;
        }
        used[i / 64] |= bit;
        opened[i / 64] |= bit;
        found = area;
        uint64_t serial = found->serial; // ids of calls are never used again
        memset(found, 0, sizeof *found);
        found->serial = serial;
        found->index = i;
    }
    pthread_mutex_unlock(&lock);
    if (!found)
        return tl_error_new(error, "cannot make another thread of a guest");
    found->guest = guest;
    found->self = found;
    found->exact = 1;
    found->regs[TL_EFLAGS] = 0x202;
    found->return_to = 1;
    // The state that a program begins with: an empty compacted image.
    memset((char *)found + tl_guest_vectors, 0, 576);
    *(uint64_t *)((char *)found + tl_guest_vectors + 520) = (uint64_t)1 << 63;
    found->has_vectors = true;
    *thread = found;
    return NULL;
}

void tl_guest_thread_free(struct tl_guest_thread *thread)
{
    tl_guest_end_call(thread);
    thread->decision = TL_GUEST_REPLY;
    uint64_t first = (uint64_t)thread + 4096;
    madvise((void *)first, tl_guest_area_size - 4096, MADV_DONTNEED);
    pthread_mutex_lock(&lock);
    used[thread->index / 64] &= ~((uint64_t)1 << thread->index % 64);
    pthread_mutex_unlock(&lock);
}

// A segment of the calling host thread whose limit is the index: gates find the thread by it.
static void set_segment(uint32_t index)
{
    long result;

    pthread_mutex_lock(&lock);
    low_page[0] = segment_slot;
    low_page[1] = 0;
    low_page[2] = index;
    low_page[3] = 1 | 1 << 6; // 32 bit, usable
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(set_thread_area_by_int80), "b"(low_page)
                     : "r8", "r9", "r10", "r11", "memory");
    pthread_mutex_unlock(&lock);
}

static long dispatch(struct tl_guest_thread *thread)
{
    const struct tl_guest *guest = thread->guest;
    uint64_t start = guest->ranges[0].start, size = guest->ranges[0].end - start;

    if (!guest->selects)
        return tl_rawcall(__NR_prctl, SET_DISPATCH, INCLUSIVE_ON, (long)start, (long)size, 0, 0);
    return tl_rawcall(__NR_prctl, SET_DISPATCH, EXCLUSIVE_ON, (long)guest->region, tl_data,
                      (long)&thread->selector, 0);
}

static bool has_filter(const struct tl_guest *guest)
{
    for (unsigned i = 0; i < filter_count; i++)
        if (filters[i].guest == guest->id && filters[i].generation == guest->generation)
            return true;
    return false;
}

long tl_guest_install_filter(const struct sock_fprog *program, unsigned flags)
{
    long result = tl_rawcall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, (long)program, 0, 0, 0);
    if (result == -EACCES) {
        // Without CAP_SYS_ADMIN a filter needs no_new_privs.
        tl_rawcall(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
        result = tl_rawcall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, (long)program, 0, 0, 0);
    }
    return result;
}

static long filter(const struct tl_guest *guest, const struct sock_fprog *program)
{
    if (has_filter(guest))
        return 0;
    if (filter_count == filters_max)
        return -ENOSPC;
    long result = tl_guest_install_filter(program, 0);
    if (result == 0) {
        filters[filter_count].guest = guest->id;
        filters[filter_count++].generation = guest->generation;
    }
    return result;
}

static long arm(struct tl_guest_thread *thread)
{
    thread->generation = __atomic_load_n(&thread->guest->generation, __ATOMIC_ACQUIRE);
    switch (thread->guest->engine) {
    case TL_GUEST_SUD:
        return dispatch(thread);
    case TL_GUEST_TRAP:
        return filter(thread->guest, &thread->guest->catching);
    case TL_GUEST_NOTIFY:
        break;
    }
    return 0;
}

// A thread that is watched has its listener, and can have no other: what is new traps.
void tl_guest_arm_again(struct tl_guest_thread *thread)
{
    if (thread->guest->engine != TL_GUEST_NOTIFY) {
        arm(thread);
        return;
    }
    thread->generation = thread->guest->generation;
    filter(thread->guest, &thread->guest->later);
}

static void block_signals(struct tl_guest_thread *thread)
{
    static const int open[] = {SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGPIPE};
    sigset_t set;

    sigfillset(&set);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        sigdelset(&set, open[i]);
    sigdelset(&set, tl_guest_kick_signal());
    sigdelset(&set, tl_guest_nudge_signal());
    pthread_sigmask(SIG_SETMASK, &set, &thread->old_mask);
}

void tl_guest_enter_thread(struct tl_guest_thread *thread)
{
    stack_t stack = {.ss_sp = (char *)thread + tl_guest_stack,
                     .ss_size = tl_guest_area_size - tl_guest_stack};

    __asm__ volatile("rdfsbase %0\n"
                     "rdgsbase %1"
                     : "=r"(thread->host_fs), "=r"(thread->host_gs));
    block_signals(thread);
    sigaltstack(&stack, &thread->old_stack);
    thread->host_tid = gettid();
    thread->generation = thread->guest->generation;
    ((struct tl_guest_thread **)(void *)(thread->guest->region + PROCESS_THREADS))[thread->index] = thread;
    if (thread->guest->rewrites)
        set_segment(thread->index);
}

struct tl_error *tl_guest_attach(struct tl_guest_thread *thread)
{
    long result;

    if (!current)
        tl_guest_catch_again();
    if (thread->guest->engine == TL_GUEST_NOTIFY) {
        result = tl_guest_watcher_start(thread);
        __atomic_store_n(&thread->attached, result == 0, __ATOMIC_SEQ_CST);
        return result ? tl_error_new((int)-result, "a thread cannot be made to report a guest's calls")
                      : NULL;
    }
    tl_guest_enter_thread(thread);
    thread->outer = current;
    current = thread;
    thread->attached = true;
    result = arm(thread);
    if (result == 0)
        return NULL;
    tl_guest_detach(thread);
    return tl_error_new((int)-result, "this thread cannot be made to catch a guest's calls");
}

void tl_guest_detach(struct tl_guest_thread *thread)
{
    struct tl_guest_thread *outer = thread->outer;

    if (thread->guest->engine == TL_GUEST_NOTIFY) {
        thread->attached = false;
        tl_guest_watcher_stop(thread);
        return;
    }
    current = outer;
    if (thread->guest->engine == TL_GUEST_SUD)
        tl_rawcall(__NR_prctl, SET_DISPATCH, DISPATCH_OFF, 0, 0, 0, 0);
    if (outer) {
        arm(outer);
        if (outer->guest->rewrites)
            set_segment(outer->index);
    }
    __asm__ volatile("wrgsbase %0" ::"r"(thread->host_gs));
    // A kick that is on its way must not find the area in use by nobody.
    thread->attached = false;
    sigaltstack(&thread->old_stack, NULL);
    pthread_sigmask(SIG_SETMASK, &thread->old_mask, NULL);
}
