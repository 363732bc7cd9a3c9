// Handlers that edit the context: instruction and stack pointer, result, other registers, flags, vector
// registers, mask; after interrupting a call, a loop of calls, and a fault.

#include <sys/time.h>

#include "exact.h"

long blocking(long fd, void *buffer, long skipped);
extern unsigned char blocking_at[], blocking_behind[], blocking_elsewhere[];
__asm__(".text\nblocking:\n push %rbx\n mov $5, %ebx\n movq %rdx, %xmm9\n mov $1, %edx\n xor %eax, %eax\n"
        "blocking_at: syscall\nblocking_behind: nop\n nop\n nop\n"
        "movq %xmm9, %rdx\n lea (%rax,%rdx), %rax\n lea (%rax,%rbx), %rax\n pop %rbx\n ret\n"
        "blocking_elsewhere: mov %rdi, %rax\n pop %rbx\n ret\n");

static enum { RESULT, ELSEWHERE, REGISTERS, FLAGS, STACK, MASK } edit;
static int done, pipes[2];
static unsigned long other_stack[512];

static void alarms(long microseconds)
{
    struct itimerval timer = {{0, microseconds ? 3000 : 0}, {0, microseconds}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;

    (void)number, (void)info;
    if (done || regs[REG_RIP] != (greg_t)blocking_behind)
        return;
    alarms(0);
    done++;
    switch (edit) {
    case RESULT:
        same(regs[REG_RAX], -EINTR);
        regs[REG_RAX] = 1000;
        break;
    case ELSEWHERE:
        regs[REG_RIP] = (greg_t)blocking_elsewhere;
        regs[REG_RDI] = 4000;
        break;
    case REGISTERS:
        regs[REG_RAX] = 2000;
        regs[REG_RBX] = 70;
        uc->uc_mcontext.fpregs->_xmm[9].element[0] = 300;
        break;
    case FLAGS:
        regs[REG_RAX] = 0;
        regs[REG_EFL] |= 1;
        break;
    case STACK: // a return address and the saved rbx, elsewhere
        other_stack[500] = 12;
        other_stack[501] = *(unsigned long *)(regs[REG_RSP] + 8);
        other_stack[502] = (unsigned long)regs[REG_RSP];
        regs[REG_RSP] = (greg_t)&other_stack[500];
        regs[REG_RAX] = 3000;
        break;
    case MASK:
        regs[REG_RAX] = 5000;
        sigaddset(&uc->uc_sigmask, SIGUSR2);
        sigaddset(&uc->uc_sigmask, SIGSYS);
        break;
    }
}

static void expect(int what, long result)
{
    char byte;

    for (int round = 0; round < 15; round++) {
        edit = what;
        done = 0;
        alarms(1000);
        long got = blocking(pipes[0], &byte, 10);
        if (got != result)
            failed(__LINE__, "result", " with edit %d is %ld, not %ld", what, got, result);
        same(done, 1);
    }
}

// `blocking` returns on the other stack: come back from there.
static long from_other_stack(void)
{
    char byte;
    long got;

    edit = STACK;
    done = 0;
    alarms(1000);
    __asm__ volatile("mov %%rsp, %%r12\n call blocking\n mov %%r12, %%rsp"
                     : "=a"(got)
                     : "D"(pipes[0]), "S"(&byte), "d"(10)
                     : "r12", "rcx", "r8", "r9", "r10", "r11", "xmm9", "memory", "cc", "rbx");
    same(done, 1);
    return got;
}

// Faults are skipped between calls.
static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX]++;
}

int main(void)
{
    sigset_t now, old;

    if (pipe(pipes))
        return 1;
    handle(SIGALRM, on_signal, 0);
    handle(SIGILL, on_fault, 0);
    expect(RESULT, 1015);
    expect(ELSEWHERE, 4000);
    expect(REGISTERS, 2370);
    expect(FLAGS, 15);
    for (int round = 0; round < 15; round++)
        same(from_other_stack(), 3015);
    sigprocmask(SIG_BLOCK, NULL, &old);
    same(sigismember(&old, SIGUSR2), 0);
    expect(MASK, 5015);
    sigprocmask(SIG_BLOCK, NULL, &now);
    same(sigismember(&now, SIGUSR2), 1);
    same(sigismember(&now, SIGSYS), 1);
    for (int round = 0; round < HOT; round++) {
        long result = SYS_getppid;
        __asm__ volatile("syscall\n ud2\n nop\n ud2" : "+a"(result)::"rcx", "r11", "memory");
        same(result, getppid() + 2);
    }
    return finish();
}
