// The program's own segments: its %gs and %fs bases by every way to set them, and a local descriptor table.

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <elf.h>
#include <sys/auxv.h>

#include "exact.h"

static unsigned long words[8] = {0x1111, 0x2222, 0x3333};

static unsigned long gs_word(void)
{
    unsigned long value;

    __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
    return value;
}

static void gs_base(bool instruction)
{
    unsigned long base;

    for (int round = 0; round < HOT; round++) {
        unsigned long *at = &words[round % 3];
        if (instruction)
            __asm__ volatile("wrgsbase %0" ::"r"(at));
        else
            same(call(SYS_arch_prctl, ARCH_SET_GS, at), 0);
        same(call(SYS_getppid), getppid());
        same(gs_word(), *at);
        same(call(SYS_arch_prctl, ARCH_GET_GS, &base), 0);
        same(base, at);
        pid_t child = (pid_t)call(SYS_clone, SIGCHLD);
        if (child == 0)
            call(SYS_exit_group, gs_word() == *at ? 5 : 6);
        same(ended(child), 5);
        same(gs_word(), *at);
    }
    same(call(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
}

// No thread-local storage while fs points elsewhere: only calls without the C library in between.
__attribute__((noinline, optimize("no-stack-protector"))) static long fs_base(void)
{
    unsigned long base, wrong = 0, parent = (unsigned long)getppid(), value;

    call(SYS_arch_prctl, ARCH_GET_FS, &base);
    for (int round = 0; round < HOT; round++) {
        call(SYS_arch_prctl, ARCH_SET_FS, round % 2 ? &words[1] : NULL);
        wrong += (unsigned long)call(SYS_getppid) != parent;
        wrong += call(SYS_close, -1) != -EBADF;
        wrong += call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 8) != 0;
        if (round % 2) {
            __asm__ volatile("mov %%fs:0, %0" : "=r"(value));
            wrong += value != words[1];
        }
    }
    call(SYS_arch_prctl, ARCH_SET_FS, base);
    return (long)wrong;
}

static void local_table(void)
{
    struct user_desc segment = {.entry_number = 3,
                                .base_addr = 0x20000000,
                                .limit = 0xfffff,
                                .seg_32bit = 1,
                                .limit_in_pages = 1,
                                .useable = 1};
    unsigned long *low = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    unsigned selector = 3 << 3 | 7, seen, es;

    low[0] = 0x4444;
    if (call(SYS_modify_ldt, 1, &segment, sizeof segment)) {
        puts("no local descriptor table");
        return;
    }
    for (int round = 0; round < HOT; round++) {
        __asm__ volatile("mov %0, %%gs\n mov %0, %%es" ::"r"(selector));
        same(call(SYS_getppid), getppid());
        same(call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 8), 0);
        __asm__ volatile("mov %%gs, %0\n mov %%es, %1" : "=r"(seen), "=r"(es));
        same(seen & 0xffff, selector);
        same(es & 0xffff, selector);
        same(gs_word(), 0x4444);
    }
    __asm__ volatile("mov %0, %%gs\n mov %0, %%es" ::"r"(0));
}

int main(void)
{
    gs_base(false);
    if (getauxval(AT_HWCAP2) & 2)
        gs_base(true);
    same(fs_base(), 0);
    local_table();
    return finish();
}
