// The program's hands off the agent's memory and descriptors. What it cannot know of, it closes, unmaps and
// protects along with all the rest; natively nothing would be there, and that is what it is told.
#include "inside.h"

#include <asm/unistd.h>

enum {
    MAP_FIXED = 0x10,
    MAP_FIXED_NOREPLACE = 0x100000,
    MREMAP_FIXED = 2,
    F_DUPFD = 0,
    CLOSE_RANGE_UNSHARE = 2,
    MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE = 32,
    MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 64,
    MEMBARRIER_GET_REGISTRATIONS = 512,
    MEMBARRIER_PRIVATE_EXPEDITED = 8,
    MEMBARRIER_REGISTER_PRIVATE_EXPEDITED = 16,
    MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ = 256,
    EEXIST = 17,
    EBUSY = 16,
    RLIMIT_NOFILE = 7,
};

bool tl_is_ours_fd(int fd)
{
    return fd == tl_process.start.socket_fd || fd == tl_process.start.memory_fd;
}

long tl_call_close(struct tl_thread *thread)
{
    return tl_is_ours_fd((int)thread->args[0]) ? -EBADF : tl_perform(thread);
}

// Programs ask for every number whether it is open: by fcntl, fstat, isatty, or by trying to have it closed
// on exec.
long tl_call_probing(struct tl_thread *thread)
{
    return tl_is_ours_fd((int)thread->args[0]) ? -EBADF : tl_perform(thread);
}

// The same with a path, which may be empty; a descriptor is not looked at where it is absolute.
long tl_call_stat_at(struct tl_thread *thread)
{
    uint64_t path = thread->args[1];
    char first = 0;

    if (!tl_is_ours_fd((int)thread->args[0]))
        return tl_perform(thread);
    if (path && !tl_read(&first, path, 1))
        return -EFAULT;
    return first == '/' ? tl_perform(thread) : -EBADF;
}

// The range without our descriptors.
long tl_call_close_range(struct tl_thread *thread)
{
    uint64_t first = (uint32_t)thread->args[0], last = (uint32_t)thread->args[1];
    int32_t a = tl_process.start.socket_fd, b = tl_process.start.memory_fd;
    uint64_t low = (uint64_t)(a < b ? a : b), high = (uint64_t)(a < b ? b : a);
    uint64_t starts[3] = {first, low + 1, high + 1}, ends[3] = {low - 1, high - 1, last};
    long result = 0;

    if (first > last || ((first > low || last < low) && (first > high || last < high)))
        return tl_perform(thread);
    for (int i = 0; i < 3 && result == 0; i++) {
        uint64_t from = starts[i] > first ? starts[i] : first, to = ends[i] < last ? ends[i] : last;
        if (from > to || to >= (uint64_t)1 << 32)
            continue;
        thread->args[0] = from;
        thread->args[1] = to;
        result = tl_perform(thread);
        thread->args[2] &= ~(uint64_t)CLOSE_RANGE_UNSHARE; // once is enough
    }
    return result;
}

static bool is_below_limit(int fd)
{
    uint64_t limit[2] = {0, 0};

    tl_raw(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, (long)limit, 0, 0);
    return (uint64_t)fd < limit[0];
}

// dup2 over one of ours: it moves.
long tl_call_dup2(struct tl_thread *thread)
{
    int wanted = (int)thread->args[1], from = (int)thread->args[0];

    if (tl_is_ours_fd(from))
        return -EBADF;
    if (tl_is_ours_fd(wanted) && is_below_limit(wanted)) {
        int32_t *ours =
            wanted == tl_process.start.socket_fd ? &tl_process.start.socket_fd : &tl_process.start.memory_fd;
        long moved = tl_call3(__NR_fcntl, wanted, F_DUPFD, wanted > 512 ? wanted - 256 : wanted + 1);
        if (tl_is_error(moved))
            return moved;
        *ours = (int32_t)moved;
    }
    return tl_perform(thread);
}

// Rewriting registers the process for barriers that the program may not have registered for.
long tl_call_membarrier(struct tl_thread *thread)
{
    uint32_t command = (uint32_t)thread->args[0], flags = (uint32_t)thread->args[1];

    if (command == MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE && !flags && !tl_process.has_registered)
        return -EPERM;
    long result = tl_perform(thread);
    if (command == MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE && !result)
        tl_process.has_registered = true;
    if (command == MEMBARRIER_GET_REGISTRATIONS && !tl_is_error(result) && !tl_process.has_registered &&
        result & MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE) {
        result &= ~(long)MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;
        // The kernel lists this one with each of the other kinds.
        if (!(result & MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ) &&
            tl_call3(__NR_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0) == -EPERM)
            result &= ~(long)MEMBARRIER_REGISTER_PRIVATE_EXPEDITED;
    }
    return result;
}

static bool overlaps(uint64_t start, uint64_t size, uint64_t our_start, uint64_t our_size)
{
    return start < our_start + our_size && our_start < start + size;
}

// Finds our memory within a range; the lowest piece of it.
static bool find_ours(uint64_t start, uint64_t size, struct tl_bounds *found)
{
    struct tl_process *process = &tl_process;
    uint64_t lowest = ~(uint64_t)0, end = 0;

    if (overlaps(start, size, (uint64_t)tl_image, tl_region_size)) {
        lowest = (uint64_t)tl_image;
        end = lowest + tl_region_size;
    }
    for (uint32_t i = 1; i < process->thread_count; i++) {
        uint64_t area = (uint64_t)process->threads[i];
        if (area < lowest && overlaps(start, size, area, tl_thread_size)) {
            lowest = area;
            end = area + tl_thread_size;
        }
    }
    for (uint32_t i = 0; i < process->thread_count; i++) {
        uint64_t ring = (uint64_t)process->threads[i]->ring_at;
        if (ring && ring < lowest && overlaps(start, size, ring, 2 * tl_ring_size)) {
            lowest = ring;
            end = ring + 2 * tl_ring_size;
        }
    }
    *found = (struct tl_bounds){lowest, end};
    return end != 0;
}

// Performs the call on every part of its range that is not ours.
static long around_ours(struct tl_thread *thread)
{
    uint64_t start = thread->args[0], end = (start + thread->args[1] + 4095) & -(uint64_t)4096;
    struct tl_bounds ours;
    long result = 0;

    while (result == 0 && start < end && find_ours(start, end - start, &ours)) {
        if (ours.start > start) {
            thread->args[0] = start;
            thread->args[1] = ours.start - start;
            result = tl_perform(thread);
        }
        start = ours.end;
    }
    if (result == 0 && start < end) {
        thread->args[0] = start;
        thread->args[1] = end - start;
        result = tl_perform(thread);
    }
    return result;
}

// What of the program's memory the call has taken away, and with it the patches there.
static void forget(const struct tl_thread *thread, long nr, const uint64_t args[6], long result)
{
    if (!tl_process.patch_count || tl_is_error(result) || thread->aborted)
        return;
    switch (nr) {
    case __NR_munmap:
        tl_patches_forget(args[0], args[0] + args[1]);
        break;
    case __NR_mmap:
        if (args[3] & MAP_FIXED)
            tl_patches_forget(args[0], args[0] + args[1]);
        break;
    case __NR_mremap:
        tl_patches_forget(args[0], args[0] + args[1]);
        tl_patches_forget((uint64_t)result, (uint64_t)result + args[2]);
        break;
    }
}

static long do_memory(struct tl_thread *thread)
{
    uint64_t start = thread->args[0], size = thread->args[1];
    struct tl_bounds ours;

    switch (thread->kind) {
    case __NR_mmap:
        if (!(thread->args[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || !find_ours(start, size, &ours))
            break;
        return thread->args[3] & MAP_FIXED_NOREPLACE ? -EEXIST : -ENOMEM;
    case __NR_mremap:
        if (find_ours(start, size, &ours))
            return -EFAULT;
        if (thread->args[3] & MREMAP_FIXED && find_ours(thread->args[4], thread->args[2], &ours))
            return -ENOMEM;
        break;
    case __NR_shmat:
        break;
    default:
        if (size && start + size > start && find_ours(start, size, &ours))
            return around_ours(thread);
    }
    return tl_perform(thread);
}

long tl_call_memory(struct tl_thread *thread)
{
    uint64_t args[6];
    enum { PROT_WRITE = 2 };

    __builtin_memcpy(args, thread->args, sizeof args);
    // Code that the program may write to is its own again, and what moves is left as it was.
    bool is_writable =
        (thread->kind == __NR_mprotect || thread->kind == __NR_pkey_mprotect) && args[2] & PROT_WRITE;
    if (tl_process.patch_count && (is_writable || thread->kind == __NR_mremap))
        tl_patches_undo(args[0], args[0] + args[1]);
    long result = do_memory(thread);
    forget(thread, thread->kind, args, result);
    return result;
}
