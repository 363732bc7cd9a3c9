// Hot code before and after forks: each process may replace its own without hurting the other's.

#include "exact.h"

static const unsigned char ppid[] = {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0x53, 0x5b, 0xc3};
static unsigned char *code;

static long get(void)
{
    return ((long (*)(void))(void *)code)();
}

static void hot(long expected)
{
    for (int i = 0; i < HOT; i++)
        same(get(), expected);
}

static void replace(long number)
{
    mmap(code, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(code, "\x90\x90\x90\xb8\0\0\0\0\x0f\x05\xc3", 11);
    memcpy(code + 4, &number, 4);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
}

int main(void)
{
    int turn[2];

    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, ppid, sizeof ppid);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    for (int before = 0; before < HOT; before += HOT / 5) {
        for (int i = 0; i < before; i++)
            same(get(), getppid());
        if (pipe(turn))
            return 1;
        pid_t child = fork();
        if (child == 0) {
            char byte;

            hot(getppid());
            // The parent replaces its code, this one stays.
            same(read(turn[0], &byte, 1), 1);
            hot(getppid());
            pid_t grandchild = fork();
            if (grandchild == 0) {
                hot(getppid());
                replace(SYS_getpid);
                hot(getpid());
                _exit(failures != 0);
            }
            hot(getppid());
            same(ended(grandchild), 0);
            munmap(code, PAGE);
            _exit(failures != 0);
        }
        hot(getppid());
        replace(SYS_getpgrp);
        hot(getpgrp());
        same(write(turn[1], "x", 1), 1);
        same(ended(child), 0);
        hot(getpgrp());
        mmap(code, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        memcpy(code, ppid, sizeof ppid);
        mprotect(code, PAGE, PROT_READ | PROT_EXEC);
        close(turn[0]);
        close(turn[1]);
    }
    return finish();
}
