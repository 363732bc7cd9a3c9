// A timer interrupts a tight loop of calls. Its handler must see, each time, an instruction of the loop and
// the registers that belong there: never a place that the program does not have, nor half of a call.

#include <sys/time.h>

#include "exact.h"

extern unsigned char loop_begin[], loop_end[], loop_0[], loop_1[], loop_2[], loop_3[], loop_4[], loop_5[],
    loop_6[];
long loop(long times);
// rbx: calls to go; r12: calls done; rax, rdx, r13: what belongs to the place in the loop.
__asm__(".text\nloop:\n push %rbx\n push %r12\n push %r13\n mov %rdi, %rbx\n xor %r12d, %r12d\n"
        "loop_begin:\n"
        "loop_0: mov $110, %eax\n"
        "loop_1: mov $7, %r13d\n"
        "loop_2: syscall\n"
        "loop_3: mov $8, %r13d\n"
        "loop_4: inc %r12\n"
        "loop_5: dec %rbx\n"
        "loop_6: jnz loop_begin\n"
        "loop_end: mov %r12, %rax\n pop %r13\n pop %r12\n pop %rbx\n ret\n");

static volatile long handled, inside;
static long times, parent;

static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned char *at = (unsigned char *)regs[REG_RIP];

    (void)number, (void)info;
    handled++;
    if (at < loop_begin || at >= loop_end)
        return;
    inside++;
    if (at == loop_1 || at == loop_2)
        same(regs[REG_RAX], 110);
    else if (at >= loop_3)
        same(regs[REG_RAX], parent);
    else
        same(at, loop_0);
    if (at == loop_2 || at == loop_3)
        same(regs[REG_R13], 7);
    if (at == loop_3 || at == loop_4) {
        same(regs[REG_RCX], loop_3);
        same(regs[REG_R11] & 0x202, 0x202);
    }
    if (at == loop_4 || at == loop_5)
        same(regs[REG_R13], 8);
    same(regs[REG_R12] + regs[REG_RBX], at == loop_5 ? times + 1 : times);
}

// Whatever handlers of any place there are, outside of them there is only the C library and this program.
int main(int argc, char **argv)
{
    struct itimerval timer = {{0, 97}, {0, 97}}, none = {{0, 0}, {0, 0}};
    long wanted = argc > 1 ? atol(argv[1]) : 1000;

    parent = getppid();
    handle(SIGALRM, on_signal, SA_RESTART);
    setitimer(ITIMER_REAL, &timer, NULL);
    times = 500;
    while (inside < wanted)
        same(loop(times), times);
    setitimer(ITIMER_REAL, &none, NULL);
    return finish();
}
