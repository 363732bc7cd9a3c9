// Memory that is mapped, grown, moved, protected and unmapped.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check(int holds, const char *what)
{
    if (!holds) {
        printf("wrong: %s (%s)\n", what, strerror(errno));
        exit(1);
    }
}

int main(void)
{
    enum { page = 4096 };
    void *volatile nowhere = (void *)8;
    char *p = malloc(1 << 20);

    for (size_t i = 2; i < 60; i++) {
        p = realloc(p, i << 20);
        p[(i << 20) - 1] = (char)i;
    }
    check(p[(20 << 20) - 1] == 20, "realloc keeps what was there");
    free(p);
    char *start = sbrk(0);
    check(sbrk(10 * page) == start && sbrk(0) == start + 10 * page, "sbrk");
    start[10 * page - 1] = 1;
    check(brk(start) == 0 && sbrk(0) == start, "brk back");

    char *m = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(m != MAP_FAILED, "mmap");
    strcpy(m, "kept");
    check(munmap(m + 2 * page, 2 * page) == 0, "munmap in the middle");
    char *n = mmap(m + 2 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    check(n == m + 2 * page, "a hole is filled");
    n = mmap(m, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    check(n == MAP_FAILED && errno == EEXIST, "what is taken is not replaced");
    n = mremap(m, 2 * page, 100 * page, MREMAP_MAYMOVE);
    check(n != MAP_FAILED && strcmp(n, "kept") == 0, "mremap");
    n[100 * page - 1] = 1;
    check(mremap(n, 100 * page, page, 0) == n, "mremap back");
    check(mprotect(n, page, PROT_READ) == 0, "mprotect");
    check(mprotect(n + 5 * page, page, PROT_READ) < 0 && errno == ENOMEM, "mprotect of nothing");
    check(munmap((void *)0x1001, page) < 0 && errno == EINVAL, "munmap of no page");
    check(read(0, nowhere, 1) <= 0, "read to nowhere");
    check(write(1, nowhere, 1) < 0 && errno == EFAULT, "write from nowhere");
    puts("right");
    return 4;
}
