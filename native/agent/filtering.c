// The program's own seccomp filters. The kernel applies them to the agent's calls too, which the program has
// not thought of: each filter is installed behind a few instructions that let those through, known by where
// they are made. Filters outlive execve, so they know the agent by the low bits of the address, which are the
// same in every process. Strict mode is a filter as well; what it forbids ends as natively, before the kernel
// sees it.
#include "inside.h"

#include <asm/unistd.h>

enum {
    PR_GET_SECCOMP = 21,
    PR_SET_SECCOMP = 22,
    mode_strict = 1,
    mode_filter = 2,
    SECCOMP_SET_MODE_STRICT = 0,
    SECCOMP_SET_MODE_FILTER = 1,

    load = 0x20, // a word of struct seccomp_data
    load_immediate = 0x00,
    and_immediate = 0x54,
    jump_equal = 0x15,
    give = 0x06,
    at_nr = 0,
    at_arch = 4,
    at_ip = 8,

    longest = 4096,
    low_bits = tl_thread_size - 1, // the alignment of a region
    set_thread_area_i386 = 243,
    PROT_RW = 3,
    MAP_PRIVATE_ANONYMOUS = 0x22,
};

static const uint32_t allow = 0x7fff0000, kill_thread = 0, arch_x86_64 = 0xc000003e, arch_i386 = 0x40000003;

// What the agent asks of the kernel for itself.
static const uint16_t own[] = {
    __NR_rt_sigprocmask,
    __NR_rt_sigaction,
    __NR_sigaltstack,
    __NR_rt_tgsigqueueinfo,
    __NR_tgkill,
    __NR_getpid,
    __NR_gettid,
    __NR_prctl,
    __NR_futex,
    __NR_poll,
    __NR_clock_gettime,
    __NR_membarrier,
    __NR_mmap,
    __NR_munmap,
    __NR_mprotect,
    __NR_fcntl,
    __NR_close,
    __NR_recvmsg,
    __NR_socketpair,
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_newfstatat,
    __NR_faccessat2,
    __NR_getxattr,
    __NR_lgetxattr,
    __NR_fgetxattr,
    __NR_geteuid,
    __NR_getegid,
    __NR_fstatfs,
};

enum {
    own_count = sizeof own / sizeof *own,
    at_list = 7,
    at_sigreturn = at_list + own_count,
    at_i386 = at_sigreturn + 2,
    at_allow = at_i386 + 6,
    prologue_size = at_allow + 2,
};

struct program {
    uint16_t length;
    uint16_t padding[3];
    uint64_t code;
};

static struct tl_bpf step(uint16_t code, uint32_t k)
{
    return (struct tl_bpf){.code = code, .k = k};
}

// At AT: goes to YES when the accumulator is K, else to NO.
static struct tl_bpf branch(unsigned at, uint32_t k, unsigned yes, unsigned no)
{
    return (struct tl_bpf){
        .code = jump_equal, .jt = (uint8_t)(yes - at - 1), .jf = (uint8_t)(no - at - 1), .k = k};
}

static uint32_t low(const char *address)
{
    return (uint32_t)(uint64_t)address & low_bits;
}

static void write_prologue(struct tl_bpf *to)
{
    const unsigned other = at_allow + 1;
    unsigned at = at_list;

    to[0] = step(load, at_arch);
    to[1] = branch(1, arch_x86_64, 2, at_i386);
    to[2] = step(load, at_ip);
    to[3] = step(and_immediate, low_bits);
    to[4] = branch(4, low(tl_raw_done), 6, 5);
    to[5] = branch(5, low(tl_restorer_done), at_sigreturn, other);
    to[6] = step(load, at_nr);
    for (unsigned i = 0; i < own_count; i++, at++)
        to[at] = branch(at, own[i], at_allow, i + 1 < own_count ? at + 1 : other);
    to[at_sigreturn] = step(load, at_nr);
    to[at_sigreturn + 1] = branch(at_sigreturn + 1, __NR_rt_sigreturn, at_allow, other);
    to[at_i386] = branch(at_i386, arch_i386, at_i386 + 1, other);
    to[at_i386 + 1] = step(load, at_ip);
    to[at_i386 + 2] = step(and_immediate, low_bits);
    to[at_i386 + 3] = branch(at_i386 + 3, low(tl_segment_done), at_i386 + 4, other);
    to[at_i386 + 4] = step(load, at_nr);
    to[at_i386 + 5] = branch(at_i386 + 5, set_thread_area_i386, at_allow, other);
    to[at_allow] = step(give, allow);
    to[other] = step(load_immediate, 0); // as every filter begins
}

// Performs the call with a longer program in the place of the one at args[ARGUMENT].
static long install(struct tl_thread *thread, unsigned argument)
{
    struct program program;

    if (!tl_read(&program, thread->args[argument], sizeof program) || !program.length ||
        program.length > longest - prologue_size)
        return tl_perform(thread);
    size_t size = (size_t)(program.length + prologue_size) * sizeof(struct tl_bpf);
    long area = tl_raw(__NR_mmap, 0, (long)size, PROT_RW, MAP_PRIVATE_ANONYMOUS, -1, 0);
    if (tl_is_error(area))
        return area;
    struct tl_bpf *code = (struct tl_bpf *)area;
    write_prologue(code);
    long result = -EFAULT;
    if (tl_read(code + prologue_size, program.code, program.length * sizeof *code)) {
        program =
            (struct program){.length = (uint16_t)(program.length + prologue_size), .code = (uint64_t)code};
        thread->args[argument] = (uint64_t)&program;
        result = tl_perform(thread);
    }
    tl_call3(__NR_munmap, area, (long)size, 0);
    return result;
}

static bool is_allowed_when_strict(long nr)
{
    return nr == __NR_read || nr == __NR_write || nr == __NR_exit || nr == __NR_rt_sigreturn;
}

static long become_strict(struct tl_thread *thread)
{
    struct tl_bpf code[prologue_size + 8];
    enum { s = prologue_size, yes = s + 6, no = s + 7 };

    if (tl_call3(__NR_prctl, PR_GET_SECCOMP, 0, 0) == mode_filter)
        return -EINVAL;
    write_prologue(code);
    code[s] = step(load, at_arch);
    code[s + 1] = branch(s + 1, arch_x86_64, s + 2, no);
    code[s + 2] = step(load, at_nr);
    code[s + 3] = branch(s + 3, __NR_read, yes, s + 4);
    code[s + 4] = branch(s + 4, __NR_write, yes, s + 5);
    code[s + 5] = branch(s + 5, __NR_exit, yes, no);
    code[yes] = step(give, allow);
    code[no] = step(give, kill_thread);
    struct program program = {.length = sizeof code / sizeof *code, .code = (uint64_t)code};
    tl_patches_stop(); // this thread's calls are judged here
    // Without privileges the kernel has none of it, and it is the agent alone that watches.
    tl_call3(__NR_prctl, PR_SET_SECCOMP, mode_filter, (long)&program);
    thread->is_strict = true;
    return 0;
}

// PR_SET_SECCOMP of prctl, or seccomp.
long tl_call_seccomp(struct tl_thread *thread)
{
    if (thread->nr == __NR_prctl) {
        if (thread->args[1] == mode_strict)
            return become_strict(thread);
        return thread->args[1] == mode_filter ? install(thread, 2) : tl_perform(thread);
    }
    if (thread->args[0] == SECCOMP_SET_MODE_STRICT && !thread->args[1] && !thread->args[2])
        return become_strict(thread);
    return thread->args[0] == SECCOMP_SET_MODE_FILTER ? install(thread, 2) : tl_perform(thread);
}

// Ends a thread that does in strict mode what it must not.
void tl_check_strict(struct tl_thread *thread)
{
    if (thread->arch == arch_x86_64 && is_allowed_when_strict(thread->nr))
        return;
    if (tl_is_alone())
        tl_call3(__NR_tgkill, thread->pid, thread->tid, SIGKILL);
    thread->nr = __NR_exit;
    thread->args[0] = SIGKILL;
    tl_call_exit(thread);
}
