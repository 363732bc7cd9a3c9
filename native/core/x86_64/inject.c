// At the stop that follows an execve nothing of the new program has run. Two system calls are made in its name,
// with an instruction that is put over its first one for a moment; the agent, begun in its stead, does the rest
// by itself and then jumps to where the program begins.
#include "agent.h"

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
static bool find_place(pid_t pid, uint64_t entry, uint64_t *base)
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

static struct tl_error *set_registers(pid_t pid, struct user_regs_struct *regs)
{
    struct iovec iov = {regs, sizeof *regs};

    if (ptrace(PTRACE_SETREGSET, pid, (void *)(uintptr_t)NT_PRSTATUS, &iov) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SETREGSET)");
    return NULL;
}

// Makes one mmap in the tracee, whose text at regs->rip holds the instructions for it.
static struct tl_error *remote_mmap(pid_t pid, const struct user_regs_struct *start, const uint64_t args[6],
                                    int64_t *result)
{
    struct user_regs_struct regs = *start;
    struct tl_error *error;
    int status;
    bool is_64_bit;

    regs.orig_rax = (unsigned long long)-1;
    regs.rdi = args[0];
    regs.rsi = args[1];
    regs.rdx = args[2];
    regs.r10 = args[3];
    regs.r8 = args[4];
    regs.r9 = args[5];
    if ((error = set_registers(pid, &regs)))
        return error;
    if (ptrace(PTRACE_CONT, pid, NULL, NULL) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_CONT)");
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return tl_error_new(errno, "waitpid");
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return tl_error_new(ECHILD, "the program ended before its first instruction");
    if ((error = get_registers(pid, &regs, &is_64_bit)))
        return error;
    *result = (int64_t)regs.rax;
    return NULL;
}

static struct tl_error *map_region(const struct tl_agent *agent, pid_t pid, const struct user_regs_struct *regs,
                                   int memory_fd, uint64_t base)
{
    const uint64_t room[6] = {base, tl_region_size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0};
    const uint64_t image[6] = {base, agent->image_size, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED,
                               (uint64_t)memory_fd, 0};
    int64_t result;
    struct tl_error *error = remote_mmap(pid, regs, room, &result);

    if (!error && result != (int64_t)base)
        error = tl_error_new((int)-result, "cannot map the agent's memory into the program");
    if (!error)
        error = remote_mmap(pid, regs, image, &result);
    if (!error && result != (int64_t)base)
        error = tl_error_new((int)-result, "cannot map the agent into the program");
    return error;
}

static void fill_start(struct tl_start *start, const struct user_regs_struct *r)
{
    const uint64_t values[18] = {r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rdi,
                                 r->rsi, r->rbp, r->rbx, r->rdx, r->rax, r->rcx, r->rsp, r->rip, r->eflags};

    memcpy(start->registers, values, sizeof values);
}

struct tl_error *tl_agent_inject(const struct tl_agent *agent, pid_t pid, int socket_fd, int memory_fd,
                                 enum tl_injection *outcome)
{
    // mov $SYS_mmap,%eax; syscall; int3. The number is not set by ptrace: rax still becomes what execve returns.
    static const unsigned char call[8] = {0xb8, SYS_mmap, 0, 0, 0, 0x0f, 0x05, 0xcc};
    struct user_regs_struct regs;
    struct tl_start start = {.socket_fd = socket_fd, .memory_fd = memory_fd, .image_size = agent->image_size};
    struct tl_error *error;
    const uint64_t all = ~0ull;
    uint64_t base;
    bool is_64_bit;
    long text, patched;
    size_t done;

    *outcome = TL_INJECTED;
    if (agent->session->hide_vdso)
        tl_vdso_hide(pid);
    if ((error = get_registers(pid, &regs, &is_64_bit)))
        return error;
    if (!is_64_bit) {
        *outcome = TL_NOT_INJECTED_32_BIT;
        return NULL;
    }
    if (!find_place(pid, regs.rip, &base))
        return tl_error_new(ENOMEM, "no place for the agent in the program's memory");
    if (ptrace(PTRACE_GETSIGMASK, pid, (void *)sizeof start.signal_mask, &start.signal_mask) < 0 ||
        ptrace(PTRACE_SETSIGMASK, pid, (void *)sizeof all, &all) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_SETSIGMASK)");
    regs.rax = 0; // what execve returns, soon
    fill_start(&start, &regs);
    errno = 0;
    text = patched = ptrace(PTRACE_PEEKTEXT, pid, (void *)regs.rip, NULL);
    if (errno)
        return tl_error_new(errno, "ptrace(PTRACE_PEEKTEXT)");
    memcpy(&patched, call, sizeof call);
    if (ptrace(PTRACE_POKETEXT, pid, (void *)regs.rip, patched) < 0)
        return tl_error_new(errno, "ptrace(PTRACE_POKETEXT)");
    error = map_region(agent, pid, &regs, memory_fd, base);
    if (ptrace(PTRACE_POKETEXT, pid, (void *)regs.rip, text) < 0 && !error)
        error = tl_error_new(errno, "ptrace(PTRACE_POKETEXT)");
    if (!error) {
        int failed = tl_memory_write(pid, base + tl_data, &start, sizeof start, &done);
        if (failed || done < sizeof start)
            error = tl_error_new(failed ? failed : EFAULT, "cannot write into the program");
    }
    if (!error) {
        struct tl_image_header header;
        tl_agent_header(&header);
        regs.orig_rax = (unsigned long long)-1;
        regs.rip = base + header.start;
        regs.rdi = base + tl_first;
        regs.rsp = base + tl_first + tl_stack_top;
        error = set_registers(pid, &regs);
    }
    ptrace(PTRACE_SETSIGMASK, pid, (void *)sizeof all, error ? &start.signal_mask : &all);
    return error;
}
