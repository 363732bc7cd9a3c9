// At the stop that follows an execve nothing of the new program has run. Two system calls are made in its
// name, with an instruction that is put over its first one for a moment; the agent, begun in its stead, does
// the rest by itself and then jumps to where the program begins.
#include "region.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory.h"
#include "vdso.h"

enum {
    granule = tl_thread_size, // alignment of a region
    low_limit = 1 << 30,
};

static const uint64_t gigabyte = 1 << 30, low_end = 4ull << 30;

// Where the region goes: in reach of 32-bit displacements from the code that begins, which is the dynamic
// linker (with libc soon below it) or the one file of a static program; and out of the way of what grows,
// which is the heap above a low program and new mappings below a high one.
bool tl_region_find_place(pid_t pid, uint64_t entry, uint64_t *base)
{
    char path[64], line[512];
    uint64_t anchor = 0, starts[4096], ends[4096];
    size_t count = 0;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    if (!maps)
        return false;
    while (count < 4096 && fgets(line, sizeof line, maps)) {
        unsigned long long start, end;
        if (sscanf(line, "%llx-%llx", &start, &end) != 2)
            continue;
        starts[count] = start;
        ends[count++] = end;
        if (entry >= start && entry < end)
            anchor = start;
    }
    fclose(maps);
    uint64_t wanted = anchor < low_end ? anchor + gigabyte + gigabyte / 4 * 3 : anchor - gigabyte;
    for (wanted &= -(uint64_t)granule;; wanted -= tl_region_size) {
        bool is_free = wanted > low_limit / 2;
        if (!is_free)
            return false;
        for (size_t i = 0; i < count && is_free; i++)
            is_free = ends[i] <= wanted || starts[i] >= wanted + tl_region_size;
        if (is_free)
            break;
    }
    *base = wanted;
    return true;
}

static struct tl_error *get_registers(pid_t pid, struct user_regs_struct *regs, bool *is_64_bit)
{
    struct iovec iov = {regs, sizeof *regs};

    if (ptrace(PTRACE_GETREGSET, pid, (void *)(uintptr_t)NT_PRSTATUS, &iov) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_GETREGSET)");
    *is_64_bit = iov.iov_len == sizeof *regs;
    return NULL;
}

// A process in which system calls are made from over its next instruction.
struct remote {
    pid_t pid;
    struct user_regs_struct regs; // as they were
    long text;                    // what was there
    bool is_64_bit;
    bool was_stopped; // by SIGSTOP, meanwhile
};

static struct tl_error *remote_begin(struct remote *remote, pid_t pid)
{
    struct tl_error *error;

    *remote = (struct remote){.pid = pid};
    if ((error = get_registers(pid, &remote->regs, &remote->is_64_bit)))
        return error;
    // The registers of a 32-bit program, too, in our layout.
    if (!remote->is_64_bit && ptrace(PTRACE_GETREGS, pid, NULL, &remote->regs) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_GETREGS)");
    remote->regs.rax = 0; // what execve returns, soon
    errno = 0;
    remote->text = ptrace(PTRACE_PEEKTEXT, pid, (void *)remote->regs.rip, NULL);
    return errno ? tl_error_new(errno, "ptrace(PTRACE_PEEKTEXT)") : NULL;
}

static struct tl_error *remote_call(void *context, long nr, const uint64_t args[6], int64_t *result)
{
    struct remote *remote = context;
    // mov $nr,%eax; syscall; int3. The number is not set by ptrace: rax still becomes what execve returns.
    unsigned char call[8] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xcc};
    struct user_regs_struct regs = remote->regs;
    int status;
    long patched;

    memcpy(call + 1, &nr, 4);
    if (remote->is_64_bit) {
        regs.rdi = args[0];
        regs.rsi = args[1];
        regs.rdx = args[2];
        regs.r10 = args[3];
        regs.r8 = args[4];
        regs.r9 = args[5];
    } else {
        call[5] = 0xcd; // int $0x80
        call[6] = 0x80;
        regs.rbx = args[0];
    }
    regs.orig_rax = (unsigned long long)-1;
    memcpy(&patched, call, sizeof patched);
    if (ptrace(PTRACE_POKETEXT, remote->pid, (void *)regs.rip, patched) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_POKETEXT)");
    if (ptrace(PTRACE_SETREGS, remote->pid, NULL, &regs) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SETREGS)");
    do {
        if (ptrace(PTRACE_CONT, remote->pid, NULL, NULL) < 0)
            return tl_error_new(errno, "ptrace(PTRACE_CONT)");
        while (waitpid(remote->pid, &status, __WALL) < 0)
            if (errno != EINTR)
                return tl_error_new(errno, "waitpid");
        if (!WIFSTOPPED(status))
            return tl_error_new(ESRCH, "the program ended before its first instruction");
        remote->was_stopped = remote->was_stopped || WSTOPSIG(status) == SIGSTOP;
    } while (WSTOPSIG(status) != SIGTRAP || status >> 16);
    if (ptrace(PTRACE_GETREGS, remote->pid, NULL, &regs) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_GETREGS)");
    *result = remote->is_64_bit ? (int64_t)regs.rax : (int32_t)regs.rax;
    return NULL;
}

// With the instruction back in its place, and at REGS.
static struct tl_error *remote_end(struct remote *remote, struct user_regs_struct *regs)
{
    if (ptrace(PTRACE_POKETEXT, remote->pid, (void *)remote->regs.rip, remote->text) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_POKETEXT)");
    regs->orig_rax = (unsigned long long)-1;
    if (ptrace(PTRACE_SETREGS, remote->pid, NULL, regs) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SETREGS)");
    if (remote->was_stopped)
        syscall(SYS_tgkill, remote->pid, remote->pid, SIGSTOP);
    return NULL;
}

// What the kernel ignores of a descriptor: the trap engine's filter knows our calls by it.
static uint64_t secret_of(const struct tl_agent *agent)
{
    return (uint64_t)agent->session->secret << 32;
}

struct tl_error *tl_region_reserve(const struct tl_agent *agent, tl_remote_call *call, void *remote,
                                   uint64_t base)
{
    const uint64_t room[6] = {base,
                              tl_region_size,
                              PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                              secret_of(agent) | (uint32_t)-1,
                              0};
    int64_t result, ignored;
    struct tl_error *error = call(remote, SYS_mmap, room, &result);

    if (error || result == (int64_t)base)
        return error;
    if (result > 0) // an old kernel has taken the address for a hint
        error = call(remote, SYS_munmap, (const uint64_t[6]){(uint64_t)result, tl_region_size}, &ignored);
    return error ? error : tl_error_new(result > 0 ? EEXIST : (int)-result, "cannot make room for the agent");
}

struct tl_error *tl_region_load(const struct tl_agent *agent, tl_remote_call *call, void *remote,
                                int memory_fd, uint64_t base)
{
    const uint64_t image[6] = {base,
                               agent->image_size,
                               PROT_READ | PROT_EXEC,
                               MAP_PRIVATE | MAP_FIXED,
                               secret_of(agent) | (uint32_t)memory_fd,
                               0};
    int64_t result;
    struct tl_error *error = call(remote, SYS_mmap, image, &result);

    if (error || result == (int64_t)base)
        return error;
    return tl_error_new((int)-result, "cannot map the agent");
}

// As if we had never been there.
static void leave_unhooked(struct remote *remote, const struct tl_entry *entry, uint64_t base)
{
    enum { close_i386 = 6 };
    long nr = remote->is_64_bit ? SYS_close : close_i386;
    int64_t result;

    if (base)
        tl_error_free(remote_call(remote, SYS_munmap, (const uint64_t[6]){base, tl_region_size}, &result));
    tl_error_free(remote_call(remote, nr, (const uint64_t[6]){(uint64_t)entry->socket_fd}, &result));
    tl_error_free(remote_call(remote, nr, (const uint64_t[6]){(uint64_t)entry->memory_fd}, &result));
    tl_error_free(remote_end(remote, &remote->regs));
}

static void fill_start(struct tl_start *start, const struct user_regs_struct *r)
{
    const uint64_t values[18] = {r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rdi,
                                 r->rsi, r->rbp, r->rbx, r->rdx, r->rax, r->rcx, r->rsp, r->rip, r->eflags};

    memcpy(start->registers, values, sizeof values);
}

static struct tl_error *enter(const struct tl_agent *agent, struct remote *remote,
                              const struct tl_entry *entry, uint64_t mask, uint64_t base,
                              enum tl_unhooked *reason)
{
    struct tl_start start = {.socket_fd = entry->socket_fd,
                             .memory_fd = entry->memory_fd,
                             .image_size = agent->image_size,
                             .signal_mask = mask,
                             .ignored = entry->ignored};
    struct user_regs_struct regs = remote->regs;
    struct tl_image_header header;
    size_t done;
    struct tl_error *error = tl_region_reserve(agent, remote_call, remote, base);

    if (!error)
        error = tl_region_load(agent, remote_call, remote, entry->memory_fd, base);
    if (error) {
        if (error->code != ESRCH)
            *reason = TL_UNHOOKED_NO_ROOM;
        return error;
    }
    fill_start(&start, &remote->regs);
    int failed = tl_memory_write(remote->pid, base + tl_data, &start, sizeof start, &done);
    if (failed || done < sizeof start)
        return tl_error_new(failed ? failed : EFAULT, "cannot write into the program");
    tl_agent_header(&header);
    regs.rip = base + header.start;
    regs.rdi = base + tl_first;
    regs.rsp = base + tl_first + tl_stack_top;
    return remote_end(remote, &regs);
}

struct tl_error *tl_agent_inject(const struct tl_agent *agent, pid_t pid, const struct tl_entry *entry,
                                 enum tl_unhooked *reason)
{
    const uint64_t all = ~0ull;
    struct remote remote;
    struct tl_error *error;
    uint64_t base = 0, mask;

    *reason = TL_HOOKED;
    if (agent->session->hide_vdso)
        tl_vdso_hide(pid);
    if ((error = remote_begin(&remote, pid)))
        return error;
    if (ptrace(PTRACE_GETSIGMASK, pid, (void *)sizeof mask, &mask) < 0 ||
        ptrace(PTRACE_SETSIGMASK, pid, (void *)sizeof all, &all) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SETSIGMASK)");
    if (!remote.is_64_bit) {
        *reason = TL_UNHOOKED_32_BIT;
        error = tl_error_new(ENOEXEC, "it is a 32-bit program");
    } else if (!(base = agent->session->base) && !tl_region_find_place(pid, remote.regs.rip, &base)) {
        *reason = TL_UNHOOKED_NO_ROOM;
        error = tl_error_new(ENOMEM, "no place for the agent in the program's memory");
    } else {
        error = enter(agent, &remote, entry, mask, base, reason);
    }
    if (!error)
        return NULL;
    if (*reason == TL_HOOKED)
        *reason = error->code == ESRCH ? TL_HOOKED : TL_UNHOOKED_FAILED; // it was killed
    leave_unhooked(&remote, entry, base);
    ptrace(PTRACE_SETSIGMASK, pid, (void *)sizeof mask, &mask);
    return error;
}
