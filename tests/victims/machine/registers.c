// Every register before and after a `syscall`: only rax, rcx (= rip) and r11 (= flags) change, whatever the
// number, the flags and the instructions around it.

#include "exact.h"

struct registers {
    unsigned long rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rsp, flags;
} in, out;
unsigned long stack_before;

// Loads all registers of `in`, makes the call between `before` and `behind`, stores all of them in `out`.
#define SITE(name, before, behind)                                                                           \
    void name(void);                                                                                         \
    extern char name##_behind[];                                                                             \
    __asm__(                                                                                                 \
        ".text\n.globl " #name "\n" #name ":\n"                                                              \
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"                            \
        "mov %rsp, stack_before(%rip)\n pushq in+128(%rip)\n popfq\n"                                        \
        "mov in(%rip), %rax\n mov in+8(%rip), %rbx\n mov in+16(%rip), %rcx\n mov in+24(%rip), %rdx\n"        \
        "mov in+32(%rip), %rsi\n mov in+40(%rip), %rdi\n mov in+48(%rip), %rbp\n mov in+56(%rip), %r8\n"     \
        "mov in+64(%rip), %r9\n mov in+72(%rip), %r10\n mov in+80(%rip), %r11\n mov in+88(%rip), %r12\n"     \
        "mov in+96(%rip), %r13\n mov in+104(%rip), %r14\n mov in+112(%rip), %r15\n" before                   \
        "\n syscall\n" #name "_behind:\n" behind "\n"                                                        \
        "mov %rax, out(%rip)\n mov %rbx, out+8(%rip)\n mov %rcx, out+16(%rip)\n mov %rdx, out+24(%rip)\n"    \
        "mov %rsi, out+32(%rip)\n mov %rdi, out+40(%rip)\n mov %rbp, out+48(%rip)\n mov %r8, out+56(%rip)\n" \
        "mov %r9, out+64(%rip)\n mov %r10, out+72(%rip)\n mov %r11, out+80(%rip)\n mov %r12, out+88(%rip)\n" \
        "mov %r13, out+96(%rip)\n mov %r14, out+104(%rip)\n mov %r15, out+112(%rip)\n"                       \
        "mov %rsp, out+120(%rip)\n mov stack_before(%rip), %rsp\n pushfq\n popq out+128(%rip)\n"             \
        "pushq $0x202\n popfq\n"                                                                             \
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n")

SITE(plain, "", "");
SITE(immediate, "mov $110, %eax", "");
SITE(short_before, "nop\n xchg %rbx, %rbx\n nop", "");
SITE(short_behind, "", "nop\n nop\n nop\n nop\n nop");
SITE(flags_behind, "", "pushfq\n pushfq\n popfq\n popfq\n nop");
SITE(stack_behind, "", "push %rbx\n pop %rbx\n push %r12\n pop %r12");

static const struct site {
    void (*run)(void);
    char *behind;
    long number;
} sites[] = {
    {plain, plain_behind, -1},
    {immediate, immediate_behind, SYS_getppid},
    {short_before, short_before_behind, -1},
    {short_behind, short_behind_behind, -1},
    {flags_behind, flags_behind_behind, -1},
    {stack_behind, stack_behind_behind, -1},
};

// CF PF AF ZF SF DF OF NT AC ID, alone and together.
static const unsigned long flag_words[] = {0x202,  0x203, 0x206,    0x212,    0x242,    0x282,
                                           0x602,  0xa02, 0x4202,   0x40202,  0x200202, 0xed7,
                                           0x4602, 0xe56, 0x244ed7, 0x240ed7, 0x602,    0x202};

// Some of these an agent has to do itself.
static const struct {
    long number, rdi, rsi, rdx, r10, result;
} calls[] = {
    {SYS_getppid, 1, 2, 3, 4, 0},
    {SYS_sched_yield, 1, 2, 3, 4, 0},
    {600, 1, 2, 3, 4, -ENOSYS},
    {-1, 1, 2, 3, 4, -ENOSYS},
    {SYS_rt_sigprocmask, SIG_BLOCK, 0, 0, 8, 0},
    {SYS_rt_sigprocmask, SIG_BLOCK, 0, 0, 9, -EINVAL},
    {SYS_rt_sigaction, SIGUSR1, 0, 0, 8, 0},
    {SYS_rt_sigaction, SIGKILL, 1, 0, 8, -EFAULT},
    {SYS_rt_sigaction, 65, 0, 0, 8, -EINVAL},
    {SYS_sigaltstack, 0, 0, 1, 1, 0},
    {SYS_close, 0x7fffff, 0, 0, 0, -EBADF},
    {SYS_dup2, 0x7fffff, 0, 0, 0, -EBADF},
    {SYS_munmap, 1, 1, 1, 1, -EINVAL},
    {SYS_mprotect, 1, 1, 1, 1, -EINVAL},
    {SYS_read, -1, 0, 0, 0, -EBADF},
    {SYS_execve, 0, 0, 0, 0, -EFAULT},
    {SYS_clone3, 0, 0, 0, 0, -EINVAL},
    {SYS_fcntl, 0x7fffff, 1, 0, 0, -EBADF},
    {SYS_prctl, 0x7fff, 1, 0, 0, -EINVAL},
};

static void one(const struct site *site, unsigned long flags, size_t which, unsigned long seed)
{
    unsigned long number = (unsigned long)(site->number < 0 ? calls[which].number : site->number);
    long result = number == SYS_getppid ? getppid() : calls[which].result;
    unsigned long *words = (unsigned long *)&in;

    for (size_t i = 0; i < sizeof in / 8; i++)
        words[i] = (seed = seed * 6364136223846793005 + 1442695040888963407);
    in.rax = number;
    in.rdi = (unsigned long)calls[which].rdi;
    in.rsi = (unsigned long)calls[which].rsi;
    in.rdx = (unsigned long)calls[which].rdx;
    in.r10 = (unsigned long)calls[which].r10;
    in.flags = flags;
    site->run();
    same(out.rax, result);
    same(out.rcx, site->behind);
    same(out.r11, flags);
    same(out.flags, flags);
    same(out.rsp, stack_before);
    same(out.rbx, in.rbx);
    same(out.rdx, in.rdx);
    same(out.rsi, in.rsi);
    same(out.rdi, in.rdi);
    same(out.rbp, in.rbp);
    same(out.r8, in.r8);
    same(out.r9, in.r9);
    same(out.r10, in.r10);
    same(out.r12, in.r12);
    same(out.r13, in.r13);
    same(out.r14, in.r14);
    same(out.r15, in.r15);
}

int main(void)
{
    for (size_t site = 0; site < sizeof sites / sizeof *sites; site++)
        for (int round = 0; round < 3; round++)
            for (size_t which = 0; which < sizeof calls / sizeof *calls; which++)
                for (size_t flags = 0; flags < sizeof flag_words / sizeof *flag_words; flags++)
                    one(&sites[site], flag_words[flags], which, (site + 1) * (which + 1) * (flags + 1));
    return finish();
}
