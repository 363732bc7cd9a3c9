// Single-steps with the trap flag through calls, cold and hot; prints where each step was, and the flags.

#include "exact.h"

#define STEPPED(name, before, behind)                                                                        \
    unsigned long name(unsigned long flags);                                                                 \
    __asm__(".text\n" #name                                                                                  \
            ":\n push %rbx\n pushfq\n pop %rbx\n or %rdi, %rbx\n push %rbx\n popfq\n nop\n" before           \
            "\n syscall\n" behind "\n pushfq\n pop %rax\n push $0x202\n popfq\n shl $32, %rax\n"             \
            "mov %r11d, %r11d\n or %r11, %rax\n pop %rbx\n ret\n")

STEPPED(immediate, "mov $110, %eax", "nop\n nop");
STEPPED(behind, "mov $110, %al\n movzx %al, %eax", "nop\n inc %rdx\n nop\n nop\n xchg %rbx, %rbx");
STEPPED(twice, "mov $110, %eax\n syscall\n mov $104, %eax", "mov $1, %edx");
STEPPED(invalid, "mov $9999, %eax", "nop\n nop");

static unsigned long steps[64], base;
static int count;

static void on_trap(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)number;
    if (count < 64)
        steps[count++] = (unsigned long)uc->uc_mcontext.gregs[REG_RIP] - base;
    if (info->si_code != TRAP_TRACE)
        failed(__LINE__, "si_code", " is %d", info->si_code);
    same(info->si_addr, uc->uc_mcontext.gregs[REG_RIP]);
}

static void run(const char *name, unsigned long (*function)(unsigned long))
{
    for (int round = 0; round < 3; round++) {
        unsigned long flags;

        count = 0;
        base = (unsigned long)function;
        flags = function(0x100);
        printf("%s: flags %lx, r11 %lx;", name, flags >> 32 & 0x700, flags & 0x700);
        for (int i = 0; i < count; i++)
            printf(" %lx", steps[i]);
        puts("");
        same(count > 6, true);
        for (int i = 0; i < HOT; i++)
            same(function(0) & 0x100, 0);
    }
}

int main(void)
{
    handle(SIGTRAP, on_trap, 0);
    run("immediate", immediate);
    run("behind", behind);
    run("twice", twice);
    run("invalid", invalid);
    return finish();
}
