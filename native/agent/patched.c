// Where the program is, seen from the code that stands in for its own.
#include "inside.h"

#include <asm/unistd.h>

enum {
    status_flags = 0xd5, // those that lahf and sahf know
    mov_eax = 0xb8,
    mov_size = 5,
    syscall_size = 2,
    FUTEX_WAIT = 0,
    nap_ns = 1000 * 1000,
};

static const struct tl_patch *find_block(uint64_t address, unsigned *offset)
{
    const struct tl_process *process = &tl_process;

    for (uint32_t i = 0; i < process->patch_count; i++) {
        const struct tl_patch *patch = &process->patches[i];
        if (address - patch->block < patch->split) {
            *offset = (unsigned)(address - patch->block);
            return patch;
        }
        if (address - patch->gate < (uint64_t)patch->block_size - patch->split) {
            *offset = (unsigned)(address - patch->gate) + patch->split;
            return patch;
        }
    }
    return NULL;
}

static uint64_t position(const struct tl_patch *patch, unsigned offset)
{
    int found = 0;

    for (unsigned i = 0; i < patch->point_count; i++)
        if (patch->points[i].offset <= offset)
            found = patch->points[i].position;
    return patch->site + (uint64_t)(int64_t)found;
}

// AT is in a block: makes of it what it would be in the program. False: it is in no block.
bool tl_show_program(uint64_t at[registers])
{
    unsigned offset;
    const struct tl_patch *patch = find_block(at[RIP], &offset);

    if (!patch)
        return false;
    if (offset < patch->gate_at || offset >= patch->gate_end) {
        at[RIP] = position(patch, offset);
        return true;
    }
    const char *here = tl_gate + (offset - patch->gate_at);
    bool is_done = here >= tl_gate_after;
    if (here >= tl_gate_flags_saved && here < tl_gate_flags_back) {
        // lsl changes ZF; the flags that lahf has read are in ah.
        at[EFLAGS] = (at[EFLAGS] & ~(uint64_t)status_flags) | (at[RAX] >> 8 & status_flags);
        at[RAX] = at[RCX];
    }
    if (here >= tl_gate_decided && here < tl_gate_pass) {
        if (here < tl_gate_rax_back)
            at[RAX] = at[R11];
        is_done = true;
    }
    at[RIP] = patch->site + (is_done ? 2 : 0);
    // The kernel leaves these also where it makes the call again.
    if (is_done || here == tl_gate_pass) {
        at[RCX] = patch->site + 2;
        at[R11] = at[EFLAGS];
    }
    return true;
}

// AT is where a signal has ended a call that a block makes: goes back to make it again. The number, which the
// result has taken the place of, is known where the window has brought it.
void tl_repeat_in_block(uint64_t at[registers])
{
    unsigned offset;
    const struct tl_patch *patch = find_block(at[RIP], &offset);
    uint32_t nr;

    if (!patch || offset != patch->gate_at + (unsigned)(tl_gate_after - tl_gate) ||
        patch->start != -mov_size || patch->original[0] != mov_eax)
        return;
    __builtin_memcpy(&nr, patch->original + 1, sizeof nr);
    if (nr >= tl_calls || tl_session.classes[nr] != TL_PASS) // then it was not the block that made it
        return;
    at[RAX] = nr;
    at[RIP] -= syscall_size;
}

// Would the program have made no step to AT: to a block, or within what stands for one instruction?
bool tl_is_extra_step(uint64_t address)
{
    unsigned offset;
    const struct tl_patch *patch = find_block(address, &offset);

    return patch && (offset == 0 || (offset >= patch->gate_at && offset < patch->gate_end));
}

static const struct tl_plan_point *point_at(const struct tl_patch *patch, int64_t where)
{
    if (patch->state == TL_PATCH_NONE || where < patch->start || where >= patch->start + patch->window_size)
        return NULL;
    for (unsigned i = 0; i < patch->point_count; i++)
        if (patch->points[i].position == where)
            return &patch->points[i];
    return NULL;
}

// Whoever writes the window may have had to leave its processor to those that trap there: they let it finish.
static void let_it_be_written(struct tl_process *process)
{
    const int64_t time[2] = {0, nap_ns};

    tl_raw(__NR_futex, (long)&process->is_writing, FUTEX_WAIT, 1, (long)time, 0, 0);
}

// A trap at an instruction of a window that has become a jump: goes on in the block.
bool tl_put_right(int number, uint64_t at[registers])
{
    struct tl_process *process = &tl_process;
    uint64_t address = at[RIP] - (number == SIGTRAP);
    bool was_one = false;
    uint8_t byte;

    for (uint32_t i = 0; i < __atomic_load_n(&process->patch_count, __ATOMIC_ACQUIRE); i++) {
        const struct tl_patch *patch = &process->patches[i];
        const struct tl_plan_point *point = point_at(patch, (int64_t)(address - patch->site));
        if (!point)
            continue;
        if (patch->state == TL_PATCH_GONE) { // other code may have its addresses now, patched again or not
            was_one = true;
            continue;
        }
        if (patch->state == TL_PATCH_WRITING)
            let_it_be_written(process);
        at[RIP] = point->offset < patch->split ? patch->block + point->offset
                                               : patch->gate + point->offset - patch->split;
        return true;
    }
    // The patch went away after this thread had met it: what is there now has not been tried.
    if (!was_one || (tl_read(&byte, address, 1) && tl_is_trapping(byte)))
        return false;
    at[RIP] = address;
    return true;
}
