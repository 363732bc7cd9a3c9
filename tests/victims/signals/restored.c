// The program returns from no signal: it makes frames of its own anywhere in memory and calls rt_sigreturn
// with them. Every register comes out of the frame, also rcx and r11, rip and rsp.

#include "exact.h"

static struct frame {
    unsigned long restorer;
    ucontext_t context;
} template, *frame;

static sigset_t mask_seen;
static greg_t *expected;
unsigned long landed[19];
unsigned char stack[4096] __attribute__((aligned(16)));

void landing(void);
void depart(void *at);
extern unsigned char depart_behind[];
unsigned long resume_rsp;
__asm__(".text\ndepart:\n push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, resume_rsp(%rip)\n lea 8(%rdi), %rsp\n mov $15, %eax\n syscall\ndepart_behind: ud2\n"
        "landing:\n"
        "mov %r8, landed(%rip)\n mov %r9, landed+8(%rip)\n mov %r10, landed+16(%rip)\n mov %r11, "
        "landed+24(%rip)\n"
        "mov %r12, landed+32(%rip)\n mov %r13, landed+40(%rip)\n mov %r14, landed+48(%rip)\n"
        "mov %r15, landed+56(%rip)\n mov %rdi, landed+64(%rip)\n mov %rsi, landed+72(%rip)\n"
        "mov %rbp, landed+80(%rip)\n mov %rbx, landed+88(%rip)\n mov %rdx, landed+96(%rip)\n"
        "mov %rax, landed+104(%rip)\n mov %rcx, landed+112(%rip)\n mov %rsp, landed+120(%rip)\n"
        "mov resume_rsp(%rip), %rsp\n"
        "push $0x202\n popfq\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    template.context = *(ucontext_t *)context;
    template.context.uc_mcontext.fpregs = NULL;
    template.context.uc_flags &= ~1ul; // no extended state
}

int main(void)
{
    unsigned char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    handle(SIGUSR1, on_signal, 0);
    raise(SIGUSR1);
    for (int round = 0; round < HOT; round++) {
        frame = (struct frame *)(memory + PAGE + 16 * round);
        *frame = template;
        expected = frame->context.uc_mcontext.gregs;
        for (int i = REG_R8; i <= REG_RCX; i++)
            expected[i] = (greg_t)(0x9e3779b97f4a7c15 * (unsigned long)(i + round + 1));
        expected[REG_RSP] = (greg_t)(stack + 2048 + round);
        expected[REG_RIP] = (greg_t)landing;
        expected[REG_EFL] = 0x202;
        sigemptyset(&frame->context.uc_sigmask);
        if (round % 2) {
            sigaddset(&frame->context.uc_sigmask, SIGSYS);
            sigaddset(&frame->context.uc_sigmask, SIGUSR2);
        }
        depart(frame);
        for (int i = REG_R8; i < REG_RIP; i++)
            if (landed[i] != (unsigned long)expected[i])
                failed(__LINE__, "register", " %d is %#lx, not %#llx", i, landed[i], expected[i]);
        sigprocmask(SIG_BLOCK, NULL, &mask_seen);
        same(sigismember(&mask_seen, SIGSYS), round % 2);
        same(sigismember(&mask_seen, SIGUSR2), round % 2);
        same(sigismember(&mask_seen, SIGUSR1), 0);
        same(getppid(), call(SYS_getppid));
    }
    // A frame that cannot be read is the program's own fault.
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        mprotect(memory, 4 * PAGE, PROT_NONE);
        depart(memory + PAGE);
        _exit(1);
    }
    printf("bad frame: %d\n", ended(child));
    return finish();
}
