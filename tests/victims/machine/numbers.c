// Numbers that no table has, numbers with garbage above, and arguments with garbage above.

#include <fcntl.h>

#include "exact.h"

static const unsigned long garbage[] = {0, 0xdeadbeef00000000, 0xffffffff00000000, 0x8000000000000000,
                                        1UL << 32};

static void numbers(void)
{
    static const unsigned long none[] = {
        512,     547,        600,        1023,       1024,       4096,       0xffff,           0x10000,
        0x1006e, 0x7fffffff, 0x80000000, 0x8000006e, 0xfffffffe, 0xffffffff, 0x40000000 + 600, 0x4000ffff};

    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        for (size_t j = 0; j < sizeof garbage / sizeof *garbage; j++)
            same(call(none[i] | garbage[j], 1, 2, 3), -ENOSYS);
    same(call(-1), -ENOSYS);
    for (size_t j = 0; j < sizeof garbage / sizeof *garbage; j++) {
        same(call(SYS_getppid | garbage[j]), getppid());
        same(call(SYS_close | garbage[j], -1), -EBADF);
    }
}

static void x32(void)
{
    static const unsigned long some[] = {SYS_getppid, SYS_close, SYS_rt_sigprocmask, 513, 519, 544};

    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        printf("x32 %lu: %d\n", some[i], call(0x40000000 | some[i], -1, -1, -1, -1) != getppid());
}

static void arguments(void)
{
    sigset_t set, old;

    for (size_t j = 0; j < sizeof garbage / sizeof *garbage; j++) {
        unsigned long g = garbage[j];
        int fd = open("/dev/null", O_RDONLY);

        same(call(SYS_fcntl | g, fd | g, F_GETFD | g, 0), 0);
        same(call(SYS_dup2, fd | g, 100 | g), 100);
        same(call(SYS_dup3, fd | g, 101 | g, O_CLOEXEC | g), 101);
        same(call(SYS_fcntl, 101 | g, F_GETFD | g, 0), FD_CLOEXEC);
        same(call(SYS_close, 100 | g), 0);
        same(call(SYS_close_range, 101 | g, 101 | g, 0 | g), 0);
        same(call(SYS_fcntl, 101, F_GETFD), -EBADF);
        same(call(SYS_close, fd | g), 0);
        sigfillset(&set);
        same(call(SYS_rt_sigprocmask, SIG_BLOCK | g, &set, &old, 8), 0);
        same(call(SYS_getppid | g), getppid());
        same(call(SYS_rt_sigprocmask, SIG_SETMASK | g, &old, NULL, 8), 0);
        same(call(SYS_rt_sigaction, SIGUSR1 | g, NULL, NULL, 8), 0);
        same(call(SYS_kill, getpid() | g, 0 | g), 0);
        same(call(SYS_prctl, 16 /* PR_GET_NAME */ | g, &(char[16]){0}), 0);
        same(call(SYS_openat, AT_FDCWD | g, "/etc/hosts", 077777777777 | g) < 0, true);
    }
}

int main(void)
{
    for (int round = 0; round < HOT / 4; round++) {
        numbers();
        arguments();
    }
    x32();
    return finish();
}
