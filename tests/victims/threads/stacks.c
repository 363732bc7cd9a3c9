// Calls where there is hardly a stack, or none: with 256 bytes left in front of an unmapped page, with stack
// pointers that point nowhere; in threads and after clone.

#include <pthread.h>

#include "exact.h"

// Makes a call while rsp is what the third argument says.
long with_stack(long number, long argument, unsigned long stack);
__asm__(".text\nwith_stack:\n push %rbx\n push %rbp\n mov %rsp, %rbx\n mov %rdi, %rax\n mov %rsi, %rdi\n"
        "mov %rdx, %rsp\n xor %esi, %esi\n xor %edx, %edx\n xor %r10d, %r10d\n mov %rdi, %rbp\n syscall\n"
        "mov %rbx, %rsp\n pop %rbp\n pop %rbx\n ret\n");

static void bad_stacks(void)
{
    unsigned char *none = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned long bad[] = {0,
                           1,
                           8,
                           -8ul,
                           -1ul,
                           0x8000000000000000,
                           0x0000800000000000,
                           0x7ffffffffff8,
                           0xffffffffff600000,
                           (unsigned long)none + PAGE,
                           (unsigned long)none + PAGE + 3,
                           (unsigned long)&with_stack,
                           0xdeadbeefdeadbeef};

    mprotect(none, PAGE, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int round = 0; round < HOT / 4; round++) {
            same(with_stack(SYS_getppid, 0, bad[i]), getppid());
            same(with_stack(SYS_close, -1, bad[i]), -EBADF);
            same(with_stack(800, 0, bad[i]), -ENOSYS);
            same(with_stack(SYS_rt_sigprocmask, 0, bad[i]), -EINVAL);
            same(with_stack(SYS_brk, 0, bad[i]) > 0, true);
            if (round == 0) {
                long child = with_stack(SYS_clone, SIGCHLD, bad[i]);
                if (child == 0)
                    call(SYS_exit_group, 41);
                same(ended((pid_t)child), 41);
            }
        }
    }
    munmap(none, 3 * PAGE);
}

// 256 bytes that can be written, and nothing below.
static void *tiny(void *unused)
{
    unsigned char *page = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mprotect(page + PAGE, PAGE, PROT_READ | PROT_WRITE);
    memset(page + PAGE, 0x77, PAGE);
    for (int round = 0; round < HOT; round++) {
        same(with_stack(SYS_getppid, 0, (unsigned long)page + PAGE + 256), getppid());
        same(with_stack(SYS_close, -1, (unsigned long)page + PAGE + 8), -EBADF);
    }
    for (int i = 0; i < PAGE; i++)
        if (page[PAGE + i] != 0x77) {
            failed(__LINE__, "stack", " was written at %d", i);
            break;
        }
    munmap(page, 2 * PAGE);
    return unused;
}

int main(void)
{
    pthread_t id;

    bad_stacks();
    tiny(NULL);
    for (int round = 0; round < 5; round++) {
        pthread_create(&id, NULL, tiny, NULL);
        pthread_join(id, NULL);
    }
    return finish();
}
