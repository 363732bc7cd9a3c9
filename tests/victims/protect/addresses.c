// build: -no-pie
// Addresses that programs count on: below 4 GiB, where Go, sanitizers, Java and Wine put their things, brk
// behind the heap, and large reservations. Prints which of them can be had.

#include "exact.h"

static void *reserve(unsigned long at, unsigned long size, int flags)
{
    void *got = mmap((void *)at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

    if (got != MAP_FAILED && at && got != (void *)at) {
        munmap(got, size);
        return MAP_FAILED;
    }
    return got;
}

int main(void)
{
    static const struct {
        const char *name;
        unsigned long at, size;
    } places[] = {
        {"lowest", 0x10000, 0x3e0000},
        {"below 2 GiB", 0x48000000, 0x30000000},
        {"Wine's", 0x7ffe0000, 0x10000},
        {"address sanitizer", 0x7fff8000, 0x10007fff8000 - 0x7fff8000},
        {"heap of Go", 0xc000000000, 1ul << 36},
        {"thread sanitizer", 0x10000000000, 1ul << 40},
        {"memory sanitizer", 0x100000000000, 1ul << 44},
        {"Java's classes", 0x800000000, 1ul << 30},
        {"tagged heap", 0x400000000, 0x400000000},
        {"half of all", 1ul << 45, 1ul << 45},
    };

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        void *got = reserve(places[i].at, places[i].size, MAP_FIXED_NOREPLACE);
        printf("%s: %s\n", places[i].name, got == MAP_FAILED ? "taken" : "free");
        if (got != MAP_FAILED)
            munmap(got, places[i].size);
    }
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    // The heap grows behind itself for a gigabyte.
    unsigned char *begin = sbrk(0);
    for (int step = 1; step <= 64; step++) {
        check(sbrk(16 << 20) == begin + (step - 1l) * (16 << 20));
        begin[step * (16l << 20) - 1] = 1;
    }
    same(brk(begin), 0);
    check(sbrk(0) == begin);
    // The lower 2 GiB on demand, and a great piece of the rest.
    void *low = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    check(low != MAP_FAILED && (unsigned long)low < 1ul << 31);
    void *large = reserve(0, 100ul << 40, 0);
    check(large != MAP_FAILED);
    munmap(large, 100ul << 40);
    // The stack grows down to its limit.
    volatile unsigned char room[4 << 20];
    for (size_t i = sizeof room; i > 0; i -= PAGE)
        room[i - 1] = 1;
    return finish();
}
