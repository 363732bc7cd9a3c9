// A handler makes the stack that it runs on read-only before it returns; what it returns to is as it was.

#include "exact.h"

enum { SIZE = 16 * PAGE };

static char *stack_memory;

static void on_signal(int number)
{
    (void)number;
    mprotect(stack_memory, SIZE, PROT_READ);
    // From here on nothing is written: the kernel reads the frame.
    __asm__ volatile("movq %0, %%rsp\n mov $15, %%eax\n syscall"
                     :
                     : "r"((char *)__builtin_frame_address(0) + 16));
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    stack_t seen;

    stack_memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {.ss_sp = stack_memory, .ss_size = SIZE};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 3; i++) {
        mprotect(stack_memory, SIZE, PROT_READ | PROT_WRITE);
        raise(SIGUSR1);
        sigaltstack(NULL, &seen);
        check(seen.ss_sp == stack_memory && seen.ss_flags == 0);
        check(getppid() > 0);
    }
    puts("ok");
    return failures != 0;
}
