// `sysenter` from 64-bit code: prints how a child that does so ends. And `int $0x80` from 32-bit code in this
// 64-bit process, which is reached by a far call and left by a far return, with a signal handled there.

#include "exact.h"

#define LOW 0x20000000
extern char code_begin[], code_end[];

// Lies at LOW: keeps rsp at LOW + 0xf00, calls the 32-bit part with edi in ebx, returns its eax.
__asm__(
    ".text\ncode_begin:\n push %rbx\n push %rbp\n mov %rsp, 0x20000f00\n mov $0x20000e00, %esp\n"
    "mov %edi, %eax\n mov %esi, %ebx\n lcall *0x20000f10\n mov 0x20000f00, %rsp\n pop %rbp\n pop %rbx\n ret\n"
    ".balign 64\n.code32\n mov %edx, %ecx\n int $0x80\n lret\n.code64\n"
    "code_end:\n");

static volatile int handled;
static volatile unsigned short selector;

static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)number, (void)info;
    handled++;
    selector = (unsigned short)uc->uc_mcontext.gregs[REG_CSGSFS];
    check(uc->uc_mcontext.gregs[REG_RIP] >= LOW && uc->uc_mcontext.gregs[REG_RIP] < LOW + 256);
}

int main(void)
{
    unsigned char *low = mmap((void *)LOW, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    long (*in_32_bits)(long, long, long) = (void *)low;

    memcpy(low, code_begin, (size_t)(code_end - code_begin));
    *(unsigned *)(low + 0xf10) = LOW + 64;
    *(unsigned short *)(low + 0xf14) = 0x23;
    handle(SIGUSR1, on_signal, 0);
    for (int round = 0; round < HOT; round++) {
        same((int)in_32_bits(20, 0, 0), getpid());
        same((int)in_32_bits(9999, 0, 0), -ENOSYS);
        handled = 0;
        same((int)in_32_bits(37 /* kill */, getpid(), SIGUSR1), 0);
        same(handled, 1);
        same(selector, 0x23);
    }
    for (int round = 0; round < 3; round++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            __asm__ volatile("mov $20, %%eax\n mov %%rsp, %%rbp\n sysenter" ::
                                 : "memory", "rax", "rcx", "rdx");
            _exit(7);
        }
        printf("sysenter: %d\n", ended(child));
    }
    return finish();
}
