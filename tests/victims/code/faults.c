// Instructions right behind and in front of a hot `syscall` that fault: the handler sees them where they are,
// with the registers they had, and goes on behind them.

#include "exact.h"

#define FAULTING(name, front, behind)                                                                        \
    __asm__(".text\n.globl " #name "\n" #name ":\n mov %edi, %eax\n" front "\n syscall\n" behind             \
            "\n ret\n" #name "_end:\n");                                                                     \
    long name(long number);                                                                                  \
    extern unsigned char name##_fault[], name##_next[], name##_end[]

FAULTING(reads, "xor %edx, %edx", "reads_fault: mov (%rdx), %edx\nreads_next: nop");
FAULTING(writes, "xor %edx, %edx", "nop\nwrites_fault: mov %rax, 8(%rdx)\nwrites_next: nop\n nop");
FAULTING(reads_front,
         "xor %edx, %edx\nreads_front_fault: mov (%rdx), %ecx\nreads_front_next:", "nop\n nop\n nop");
FAULTING(undefined, "", "undefined_fault: ud2\nundefined_next: nop");
FAULTING(breakpoint, "", "breakpoint_fault: int3\nbreakpoint_next: nop\n nop\n nop");
FAULTING(privileged, "", "nop\nprivileged_fault: hlt\nprivileged_next: nop\n nop\n nop");
FAULTING(divides, "xor %ecx, %ecx\n xor %edx, %edx",
         "xor %ecx, %ecx\ndivides_fault: div %ecx\ndivides_next: nop");
FAULTING(pushes, "mov %rsp, %r8", "mov $64, %esp\npushes_fault: push %rax\npushes_next: mov %r8, %rsp");
FAULTING(jumps, "xor %edx, %edx", "jumps_fault: jmp *%rdx\njumps_next: nop\n nop");
FAULTING(wild, "", "movabs $0x1234567812345678, %rdx\nwild_fault: mov (%rdx), %edx\nwild_next: nop");

static unsigned long at, next, address, rax, rdx;
static int signals, code, trap;
static unsigned char stack[65536];

static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)number;
    signals++;
    at = (unsigned long)regs[REG_RIP];
    address = (unsigned long)info->si_addr;
    code = info->si_code;
    trap = (int)regs[REG_TRAPNO];
    rax = (unsigned long)regs[REG_RAX];
    rdx = (unsigned long)regs[REG_RDX];
    regs[REG_RIP] = (greg_t)next;
}

static void run(const char *name, long (*function)(long), void *fault, void *behind, bool before)
{
    for (int round = 0; round < HOT; round++) {
        long number = round % 2 ? SYS_getppid : 999, value = round % 2 ? getppid() : -ENOSYS;

        next = (unsigned long)behind;
        signals = 0;
        long got = function(number);
        if (got != value || signals != 1)
            failed(__LINE__, name, " returned %ld after %d signals", got, signals);
        same(at, fault);
        same(rax, before ? number : value);
    }
    printf("%s: trap %d, code %d, address %s\n", name, trap, code,
           address == at ? "its own"
           : address     ? "another"
                         : "none");
}

int main(void)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};

    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < 5; i++)
        handle((int[]){SIGSEGV, SIGILL, SIGTRAP, SIGFPE, SIGBUS}[i], on_fault, SA_ONSTACK);
    run("reads", reads, reads_fault, reads_next, false);
    run("writes", writes, writes_fault, writes_next, false);
    run("reads_front", reads_front, reads_front_fault, reads_front_next, true);
    run("undefined", undefined, undefined_fault, undefined_next, false);
    run("breakpoint", breakpoint, breakpoint_next, breakpoint_next, false);
    run("privileged", privileged, privileged_fault, privileged_next, false);
    run("divides", divides, divides_fault, divides_next, false);
    run("pushes", pushes, pushes_fault, pushes_next, false);
    run("jumps", jumps, NULL, jumps_next, false);
    run("wild", wild, wild_fault, wild_next, false);
    return finish();
}
