// Text whose protection changes, that moves, and whose mapping is looked up: as if nobody had written there.

#include <setjmp.h>

#include "exact.h"

static sigjmp_buf back;
static void *address;
static int code_seen;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    address = info->si_addr;
    code_seen = info->si_code;
    siglongjmp(back, 1);
}

static unsigned char *make(size_t pages)
{
    static const unsigned char bytes[] = {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0x53, 0x5b, 0x90, 0xc3};
    unsigned char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (size_t i = 0; i < pages; i++)
        memcpy(at + i * PAGE, bytes, sizeof bytes);
    mprotect(at, pages * PAGE, PROT_READ | PROT_EXEC);
    return at;
}

static void run(unsigned char *at)
{
    for (int i = 0; i < HOT; i++)
        same(((long (*)(void))(void *)at)(), getppid());
}

static bool faults(unsigned char *at, int code)
{
    address = NULL;
    if (sigsetjmp(back, 1))
        return address == at && code_seen == code;
    ((long (*)(void))(void *)at)();
    return false;
}

// The line of /proc/self/maps for an address, without inode and path.
static void line_of(const void *at, char *text)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long from, to;
    char line[512];

    text[0] = 0;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && (unsigned long)at - from < to - from)
            snprintf(text, 100, "%.5s", strchr(line, ' ') + 1);
    fclose(maps);
}

static void moved(void)
{
    for (int round = 0; round < 20; round++) {
        unsigned char *from = make(3),
                      *to = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        run(from + PAGE);
        check(mremap(from + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 2 * PAGE) == to + 2 * PAGE);
        run(to + 2 * PAGE);
        check(faults(from + PAGE, SEGV_MAPERR));
        run(from);
        run(from + 2 * PAGE);
        // Others take its place, larger and elsewhere.
        check(mmap(from + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                   0) == from + PAGE);
        memcpy(from + PAGE, "\xb8\x07\0\0\0\x90\x90\xc3", 8);
        mprotect(from + PAGE, PAGE, PROT_READ | PROT_EXEC);
        same(((long (*)(void))(void *)(from + PAGE))(), 7);
        unsigned char *again = mremap(to + 2 * PAGE, PAGE, 5 * PAGE, MREMAP_MAYMOVE);
        run(again);
        // Another mapping of the same private pages, the old one stays and is empty.
        unsigned char *kept = mremap(again, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
        if (kept != MAP_FAILED) {
            run(kept);
            same(*(long *)again, 0);
            munmap(kept, 5 * PAGE);
        }
        munmap(again, 5 * PAGE);
        munmap(from, 3 * PAGE);
        munmap(to, 8 * PAGE);
    }
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &action, NULL);
    for (int round = 0; round < 10; round++) {
        unsigned char *at = make(3);
        char before[100], after[100];

        line_of(at + PAGE, before);
        run(at + PAGE);
        line_of(at + PAGE, after);
        check(strcmp(before, after) == 0);
        check(strcmp(after, "r-xp ") == 0);
        mprotect(at + PAGE, PAGE, PROT_NONE);
        check(faults(at + PAGE, SEGV_ACCERR));
        mprotect(at + PAGE, PAGE, PROT_READ);
        check(faults(at + PAGE, SEGV_ACCERR));
        same(mprotect(at + PAGE, PAGE, PROT_READ | PROT_EXEC), 0);
        run(at + PAGE);
        mprotect(at, 2 * PAGE, PROT_READ | PROT_WRITE);
        check(faults(at + PAGE, SEGV_ACCERR));
        // Whatever was done to them, these are the bytes when they are written back.
        unsigned char copy[16];
        memcpy(copy, at + PAGE, sizeof copy);
        memset(at + PAGE, 0xf4, sizeof copy);
        memcpy(at + PAGE, copy, sizeof copy);
        mprotect(at, 2 * PAGE, PROT_READ | PROT_EXEC);
        run(at + PAGE);
        munmap(at + PAGE, PAGE);
        check(faults(at + PAGE, SEGV_MAPERR));
        run(at);
        run(at + 2 * PAGE);
        munmap(at, 3 * PAGE);
    }
    moved();
    return finish();
}
