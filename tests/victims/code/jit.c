// Code made at run time that makes calls, is freed, and is replaced at the same address by other code: by
// munmap, by MAP_FIXED, by writing while it is not executable, by writing into executable memory, and by
// changing only the number in place.

#include "exact.h"

enum { SIZE = 16 * PAGE };

static unsigned char *area;

// Three shapes, so that bytes of one are no boundaries of the other; each returns what call `nr` returns.
static void emit(unsigned char *at, int shape, int nr)
{
    static const unsigned char shapes[3][16] = {
        {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3},
        {0x90, 0x90, 0xb8, 0, 0, 0, 0, 0x48, 0x31, 0xd2, 0x0f, 0x05, 0xc3},
        {0x31, 0xd2, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x5b, 0x90, 0xc3},
    };
    static const int number[3] = {1, 3, 4};

    memcpy(at, shapes[shape], 16);
    memcpy(at + number[shape], &nr, 4);
}

static const int calls[] = {SYS_getppid, SYS_getpid, 700, SYS_getpgrp, -1};

static long expected(int round)
{
    switch (calls[round % 5]) {
    case SYS_getppid:
        return getppid();
    case SYS_getpid:
        return getpid();
    case SYS_getpgrp:
        return getpgrp();
    default:
        return -ENOSYS;
    }
}

static void run(int round, int at)
{
    long (*function)(void) = (void *)(area + at);

    for (int i = 0; i < 30; i++)
        same(function(), expected(round));
}

// With another function in between, which must not be hurt when its neighbour goes away.
static void remapped(int flags)
{
    for (int round = 0; round < 60; round++) {
        int at = round * 7 % 64;

        if (mmap(area, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != area)
            abort();
        emit(area + at, round % 3, calls[round % 5]);
        emit(area + PAGE + at, (round + 1) % 3, calls[round % 5]);
        mprotect(area, SIZE, PROT_READ | PROT_EXEC);
        run(round, at);
        run(round, PAGE + at);
        if (flags)
            munmap(area, PAGE);
        run(round, PAGE + at);
        if (flags)
            munmap(area, SIZE);
    }
}

static void rewritten(int protection)
{
    mmap(area, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int round = 0; round < 60; round++) {
        mprotect(area, SIZE, PROT_READ | PROT_WRITE | (protection & PROT_EXEC));
        emit(area, round % 3, calls[round % 5]);
        mprotect(area, SIZE, PROT_READ | PROT_EXEC | (protection & PROT_WRITE));
        run(round, 0);
    }
}

// Never out of executable memory: only bytes are written, no call says so.
static void in_place(void)
{
    mmap(area, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int round = 0; round < 60; round++) {
        emit(area, round % 3, calls[round % 5]);
        run(round, 0);
    }
    emit(area, 0, calls[0]);
    for (int round = 0; round < 60; round++) {
        *(int *)(area + 1) = calls[round % 5];
        run(round, 0);
    }
    for (int round = 0; round < 60; round++) {
        emit(area, 0, calls[0]);
        run(0, 0);
        // What is there now is no `syscall` any more.
        memcpy(area + 5, "\x90\x90", 2);
        same(((long (*)(void))(void *)area)(), SYS_getppid);
    }
}

// Zeroed and unlocked again: the code is gone although its mapping stays.
static void dropped(void)
{
    for (int round = 0; round < 60; round++) {
        mmap(area, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        emit(area, round % 3, calls[round % 5]);
        mprotect(area, SIZE, PROT_READ | PROT_EXEC);
        run(round, 0);
        madvise(area, SIZE, MADV_DONTNEED);
        same(*(long *)area, 0);
        mprotect(area, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
        emit(area, (round + 1) % 3, calls[round % 5]);
        run(round, 0);
    }
}

int main(void)
{
    area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    remapped(0);
    remapped(1);
    rewritten(PROT_READ);
    rewritten(PROT_EXEC);
    rewritten(PROT_WRITE | PROT_EXEC);
    in_place();
    dropped();
    return finish();
}
