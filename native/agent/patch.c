// Rewriting: a site that traps often becomes a jump to a block, where most calls go straight to the kernel.
//
// The supervisor plans (what is moved, how, and where the block may be); the thread that has just trapped
// writes:
//
//   1. the block
//   2. the window (window.h)
#include "inside.h"
#include "window.h"

#include <asm/unistd.h>

enum {
    page = 4096,
    PROT_READ = 1,
    PROT_WRITE = 2,
    PROT_EXEC = 4,
    MAP_PRIVATE_ANONYMOUS = 0x22,
    MAP_FIXED_NOREPLACE = 0x100000,
    MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE = 32,
    MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 64,
    jump_size = 5,
    alignment = 16, // of second pieces, which hold an address
    int3 = 0xcc,
    keeps_syscall = 1,
    near_step = 1 << 24,
    near_steps = 120, // just under 2 GB
    lowest_near = 0x10000,
    FUTEX_WAKE = 1,
    all_waiters = 0x7fffffff,
};

static const uint8_t trapping[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27,
                                   0x2f, 0x37, 0x3f, 0x60, 0x61, 0xcc, 0xce, 0xd6};

bool tl_is_trapping(uint8_t byte)
{
    for (size_t i = 0; i < sizeof trapping; i++)
        if (trapping[i] == byte)
            return true;
    return false;
}

static void synchronise(void)
{
    if (tl_call3(__NR_membarrier, MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == -EPERM) {
        tl_call3(__NR_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
        tl_call3(__NR_membarrier, MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    }
}

static long protect(uint64_t address, uint64_t size, int protection)
{
    uint64_t start = address & -(uint64_t)page, end = (address + size + page - 1) & -(uint64_t)page;

    return tl_call3(__NR_mprotect, (long)start, (long)(end - start), protection);
}

// May a block begin at ADDRESS? Where not, *NEXT is the lowest higher address that may do.
static bool is_allowed(const struct tl_plan *plan, uint64_t site, uint64_t address, uint64_t *next)
{
    int64_t distance = (int64_t)(address - site);
    uint64_t origin = site + (uint64_t)(int64_t)plan->start + jump_size;

    *next = address + 1;
    if (distance < plan->lowest) {
        *next = site + (uint64_t)(int64_t)plan->lowest;
        return false;
    }
    if (distance > plan->highest) {
        *next = ~(uint64_t)0;
        return false;
    }
    for (int i = 3; i >= 0; i--) {
        if (plan->trapping >> i & 1 && !tl_is_trapping((uint8_t)((address - origin) >> 8 * i))) {
            uint64_t unit = (uint64_t)1 << 8 * i;
            *next = origin + ((address - origin) / unit + 1) * unit;
            return false;
        }
    }
    return true;
}

static bool overlaps_block(uint64_t start, uint64_t size, uint64_t *end)
{
    const struct tl_process *process = &tl_process;

    for (uint32_t i = 0; i < process->patch_count; i++) {
        const struct tl_patch *patch = &process->patches[i];
        uint64_t first = patch->split, second = (uint64_t)patch->block_size - patch->split;
        if (start < patch->block + first && patch->block < start + size) {
            *end = patch->block + first;
            return true;
        }
        if (second && start < patch->gate + second && patch->gate < start + size) {
            *end = patch->gate + second;
            return true;
        }
    }
    return false;
}

// The lowest free address in [LOW, HIGH) for SIZE bytes; with PLAN, one that the jump may lead to. 0: none.
static uint64_t find_room(const struct tl_plan *plan, uint64_t site, uint64_t low, uint64_t high,
                          uint64_t size)
{
    for (uint64_t at = low, next; at + size <= high && at >= low; at = next) {
        at = plan ? at : (at + alignment - 1) & -(uint64_t)alignment;
        if (plan && !is_allowed(plan, site, at, &next))
            continue;
        if (!overlaps_block(at, size, &next))
            return at;
    }
    return 0;
}

// Maps room for blocks at a distance from a site, if it is free, and finds a place in it.
static uint64_t open_near(const struct tl_plan *plan, uint64_t site, int64_t distance, uint64_t size)
{
    struct tl_process *process = &tl_process;
    uint64_t start = (site + (uint64_t)distance) & -(uint64_t)tl_near_size;

    // Where a byte of the upper half has to trap, each of these offsets brings another value of it.
    start += (uint64_t)trapping[(uint64_t)(distance / near_step) % sizeof trapping] << 16;
    if ((int64_t)start < lowest_near)
        return 0;
    long got = tl_raw(__NR_mmap, (long)start, tl_near_size, PROT_READ | PROT_EXEC,
                      MAP_PRIVATE_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (tl_is_error(got))
        return 0;
    uint64_t at = (uint64_t)got == start ? find_room(plan, site, start, start + tl_near_size, size) : 0;
    if (at)
        process->nears[process->near_count++] = (struct tl_near){start};
    else
        tl_call3(__NR_munmap, got, tl_near_size, 0);
    return at;
}

// Room for a block's first piece near a site that the region is too far away from. Below the code, where
// nothing grows; else as far above it as a jump reaches, since the heap comes from there.
static uint64_t find_near(const struct tl_plan *plan, uint64_t site, uint64_t size)
{
    struct tl_process *process = &tl_process;
    uint64_t at = 0;

    for (uint32_t i = 0; i < process->near_count && !at; i++)
        at = find_room(plan, site, process->nears[i].page, process->nears[i].page + tl_near_size, size);
    if (process->near_count == near_max)
        return at;
    for (int64_t step = 1; step <= near_steps && !at; step++)
        at = open_near(plan, site, -step * near_step, size);
    for (int64_t step = near_steps; step > 0 && !at; step--)
        at = open_near(plan, site, step * near_step, size);
    return at;
}

static void put(uint64_t at, uint64_t value, size_t size)
{
    __builtin_memcpy((void *)at, &value, size);
}

static void write_block(const struct tl_patch *patch, const struct tl_plan *plan, const uint8_t *code)
{
    const struct tl_plan_point *points = (const struct tl_plan_point *)(plan + 1);
    const struct tl_plan_fixup *fixups = (const struct tl_plan_fixup *)(points + plan->point_count);
    uint64_t image = (uint64_t)tl_image;

    __builtin_memcpy((void *)patch->block, code, plan->split);
    __builtin_memcpy((void *)patch->gate, code + plan->split, plan->block_size - (size_t)plan->split);
    for (unsigned i = 0; i < plan->fixup_count; i++) {
        const struct tl_plan_fixup *fixup = &fixups[i];
        uint64_t addend = (uint64_t)(int64_t)fixup->addend;
        uint64_t at = fixup->offset < plan->split ? patch->block + fixup->offset
                                                  : patch->gate + fixup->offset - plan->split;
        switch (fixup->kind) {
        case TL_FIXUP_REL32_SITE:
            put(at, patch->site + addend - at, 4);
            break;
        case TL_FIXUP_ABS64_SITE:
            put(at, patch->site + addend, 8);
            break;
        case TL_FIXUP_ABS64_BLOCK:
            put(at, addend < plan->split ? patch->block + addend : patch->gate + addend - plan->split, 8);
            break;
        case TL_FIXUP_REL32_AGENT:
            put(at, image + addend - at, 4);
            break;
        case TL_FIXUP_ABS64_AGENT:
            put(at, image + addend, 8);
            break;
        default:
            put(at, (uint64_t)(patch - tl_process.patches), 4);
        }
    }
}

// Where in the window the program's instructions began, the first one apart.
static uint32_t boundaries_of(const struct tl_patch *patch)
{
    uint32_t found = 0;

    for (unsigned i = 0; i < patch->point_count; i++) {
        int at = patch->points[i].position - patch->start;
        if (at > 0 && at < patch->window_size)
            found |= (uint32_t)1 << at;
    }
    return found;
}

static volatile uint8_t *window_of(const struct tl_patch *patch)
{
    return (volatile uint8_t *)(patch->site + (uint64_t)(int64_t)patch->start);
}

static void write_window(const struct tl_patch *patch)
{
    tl_window_write(window_of(patch), patch->written, patch->window_size, boundaries_of(patch), synchronise);
}

static void restore_window(const struct tl_patch *patch)
{
    tl_window_restore(window_of(patch), patch->original, patch->window_size, boundaries_of(patch),
                      synchronise);
}

// Chooses where the block goes, and fills in the patch. False: there is no room in reach.
static bool lay_out(struct tl_patch *patch, const struct tl_plan *plan, uint64_t site)
{
    uint64_t low = (uint64_t)tl_blocks_start, high = (uint64_t)tl_image + tl_data;
    const struct tl_plan_point *points = (const struct tl_plan_point *)(plan + 1);
    uint64_t second = (uint64_t)plan->block_size - plan->split;

    if (plan->point_count > points_max || plan->window_size > window_max)
        return false;
    patch->gate = second ? find_room(NULL, site, low, high, second) : 0;
    patch->block =
        second ? find_near(plan, site, plan->split) : find_room(plan, site, low, high, plan->split);
    if (!patch->block || (second && !patch->gate))
        return false;
    patch->site = site;
    patch->block_size = plan->block_size;
    patch->split = plan->split;
    patch->gate_at = plan->gate;
    patch->pass = plan->pass;
    patch->gate_end = plan->gate_end;
    patch->point_count = plan->point_count;
    patch->window_size = plan->window_size;
    patch->start = plan->start;
    __builtin_memcpy(patch->points, points, plan->point_count * sizeof *points);

    uint64_t window = site + (uint64_t)(int64_t)plan->start;
    __builtin_memset(patch->written, int3, sizeof patch->written);
    patch->written[0] = 0xe9;
    uint32_t offset = (uint32_t)(patch->block - window - jump_size);
    __builtin_memcpy(patch->written + 1, &offset, sizeof offset);
    if (plan->flags & keeps_syscall) {
        patch->written[plan->window_size - 2] = syscall_bytes & 0xff;
        patch->written[plan->window_size - 1] = syscall_bytes >> 8;
    }
    return true;
}

// Writes a patch, with the lock held. The reason why not, or -1.
int tl_patch_commit(const struct tl_plan *plan, uint64_t site)
{
    struct tl_process *process = &tl_process;
    const uint8_t *fixups_end = (const uint8_t *)(plan + 1) +
                                plan->point_count * sizeof(struct tl_plan_point) +
                                plan->fixup_count * sizeof(struct tl_plan_fixup);
    struct tl_patch *patch = &process->patches[process->patch_count];
    uint64_t window = site + (uint64_t)(int64_t)plan->start;
    const int writable = PROT_READ | PROT_WRITE | PROT_EXEC;

    if (process->patch_count == patches_max || !lay_out(patch, plan, site))
        return 0;
    if (!tl_read(patch->original, window, plan->window_size) ||
        __builtin_memcmp(patch->original, fixups_end, plan->window_size) != 0)
        return 0;
    uint64_t second = (uint64_t)patch->block_size - patch->split;
    if (tl_is_error(protect(patch->block, patch->split, writable)) ||
        (second && tl_is_error(protect(patch->gate, second, writable))))
        return 0;
    write_block(patch, plan, fixups_end + plan->window_size);
    protect(patch->block, patch->split, PROT_READ | PROT_EXEC);
    if (second)
        protect(patch->gate, second, PROT_READ | PROT_EXEC);
    if (tl_is_error(protect(window, plan->window_size, writable)))
        return 0;
    patch->state = TL_PATCH_WRITING;
    __atomic_store_n(&process->is_writing, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&process->patch_count, process->patch_count + 1, __ATOMIC_RELEASE);
    write_window(patch);
    __atomic_store_n(&patch->state, TL_PATCH_LIVE, __ATOMIC_RELEASE);
    __atomic_store_n(&process->is_writing, 0, __ATOMIC_SEQ_CST);
    tl_raw(__NR_futex, (long)&process->is_writing, FUTEX_WAKE, all_waiters, 0, 0, 0);
    protect(window, plan->window_size, PROT_READ | PROT_EXEC);
    return -1;
}

// The last report is for all processes that find no other.
struct tl_report *tl_report_new(int32_t pid)
{
    struct tl_session *session = &tl_session;

    for (uint32_t i = 0; i < tl_reports - 1; i++) {
        int32_t expected = 0;
        if (__atomic_compare_exchange_n(&session->reports[i].pid, &expected, pid, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return &session->reports[i];
    }
    session->reports[tl_reports - 1].pid = -1;
    return &session->reports[tl_reports - 1];
}

const struct tl_patch *tl_patch_of_block(uint64_t gate)
{
    uint32_t number = *(const uint32_t *)(gate + (uint64_t)(tl_gate_patch - tl_gate));

    return &tl_process.patches[number];
}

static bool lies_in(const struct tl_patch *patch, uint64_t start, uint64_t end)
{
    uint64_t window = patch->site + (uint64_t)(int64_t)patch->start;

    return window < end && window + patch->window_size > start;
}

// What was mapped there is mapped no more.
void tl_patches_forget(uint64_t start, uint64_t end)
{
    struct tl_process *process = &tl_process;
    bool any = false;

    for (uint32_t i = 0; i < process->patch_count; i++) {
        if (process->patches[i].state == TL_PATCH_LIVE && lies_in(&process->patches[i], start, end)) {
            process->patches[i].state = TL_PATCH_GONE; // its block stays: a thread may be in it
            any = true;
        }
    }
    if (any || process->patch_count)
        tl_sites_forget(start, end);
}

// Puts back what was there, for code that is about to be read, written or moved by the program, or left by
// us.
void tl_patches_undo(uint64_t start, uint64_t end)
{
    struct tl_process *process = &tl_process;

    tl_lock(&process->patch_lock);
    for (uint32_t i = 0; i < process->patch_count; i++) {
        struct tl_patch *patch = &process->patches[i];
        if (patch->state != TL_PATCH_LIVE || !lies_in(patch, start, end))
            continue;
        uint64_t window = (uint64_t)window_of(patch);
        if (tl_is_error(protect(window, patch->window_size, PROT_READ | PROT_WRITE | PROT_EXEC)))
            continue;
        restore_window(patch);
        protect(window, patch->window_size, PROT_READ | PROT_EXEC);
        patch->state = TL_PATCH_GONE;
    }
    tl_unlock(&process->patch_lock);
}

void tl_patches_stop(void)
{
    if (!tl_process.no_patches) {
        tl_process.no_patches = 1;
        tl_patches_undo(0, ~(uint64_t)0);
    }
}
