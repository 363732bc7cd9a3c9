// build: -static -no-pie
// Whatever the program does to mappings that are not its own: it unmaps, protects, moves, drops, replaces all
// that it finds in /proc/self/maps and does not know. Natively there is nothing of the kind.
//
// Prints what getppid returns in the end, so that a rule for it shows whether anybody still looks.

#include <sys/resource.h>

#include "exact.h"

struct range {
    unsigned long from, to;
};
static struct range strangers[256];
static int count;
extern char __executable_start[], end[];

static void find(void)
{
    static char text[1 << 16];
    int fd = (int)call(SYS_openat, -100, "/proc/self/maps", 0);
    long length = 0, got;

    while ((got = call(SYS_read, fd, text + length, sizeof text - 1 - (size_t)length)) > 0)
        length += got;
    text[length] = 0;
    call(SYS_close, fd);
    count = 0;
    for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        unsigned long from = strtoul(line, &line, 16), to = strtoul(line + 1, &line, 16);
        char *stop = strchr(line, '\n'), *name = memchr(line, '[', (size_t)(stop - line));
        if (name &&
            (memcmp(name, "[heap", 5) == 0 || memcmp(name, "[stack", 6) == 0 || memcmp(name, "[v", 2) == 0))
            continue;
        if (from >= (unsigned long)__executable_start - PAGE && to <= (unsigned long)end + 2 * PAGE)
            continue;
        if (count < 256)
            strangers[count++] = (struct range){from, to};
    }
}

static void go_on(int line)
{
    static long parent;

    if (!parent)
        parent = call(SYS_getppid);
    for (int i = 0; i < HOT / 4; i++)
        if (call(SYS_getppid) != parent)
            failed(line, "getppid", " is another");
    long child = call(SYS_clone, SIGCHLD);
    if (child == 0)
        call(SYS_exit_group, call(SYS_getpid) > 0 ? 11 : 1);
    int status = 0;
    call(SYS_wait4, child, &status, 0, 0);
    if (status != 11 << 8)
        failed(line, "child", " ended with %x", status);
}

static void attack(int kind, unsigned long at, unsigned long size)
{
    static char *place;

    switch (kind) {
    case 0:
        call(SYS_mprotect, at, size, PROT_NONE);
        break;
    case 1:
        call(SYS_mprotect, at, size, PROT_READ | PROT_WRITE | PROT_EXEC);
        break;
    case 2:
        call(SYS_madvise, at, size, MADV_DONTNEED);
        break;
    case 3:
        call(SYS_madvise, at, size, 9 /* MADV_REMOVE */);
        break;
    case 4:
        call(SYS_mremap, at, size, size + PAGE, 1);
        break;
    case 5:
        place = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        call(SYS_mremap, at, size, size, 3, place);
        break;
    case 6:
        call(SYS_munmap, at, size);
        break;
    case 7:
        call(SYS_munmap, at + size / 2 / PAGE * PAGE, PAGE);
        break;
    case 8: // what is mapped there is the program's
        if (call(SYS_mmap, at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) == (long)at) {
            memset((void *)at, 0, size);
            call(SYS_munmap, at, size);
        }
        break;
    case 9:
        call(329 /* pkey_mprotect */, at, size, PROT_NONE, -1);
        break;
    case 10:
        call(SYS_msync, at, size, MS_INVALIDATE | MS_SYNC);
        call(SYS_mlock, at, size);
        call(SYS_munlock, at, size);
        call(SYS_madvise, at, size, MADV_DONTFORK);
        break;
    case 11:
        call(SYS_madvise, at, size, 18 /* MADV_WIPEONFORK */);
        break;
    default:
        call(SYS_brk, at + size);
    }
}

int main(void)
{
    go_on(__LINE__);
    for (int kind = 0; kind < 13; kind++) {
        find();
        for (int i = 0; i < count; i++) {
            attack(kind, strangers[i].from, strangers[i].to - strangers[i].from);
            go_on(1000 * kind + i);
        }
    }
    // Wide ranges that hold nothing of the program's.
    unsigned long low = (unsigned long)call(SYS_brk, 0) + (1ul << 34),
                  high = (unsigned long)&low - (1ul << 34);
    same(call(SYS_munmap, low & -PAGE, (high - low) & -PAGE), 0);
    go_on(__LINE__);
    same(call(SYS_munmap, 0x10000, 0x300000), 0);
    go_on(__LINE__);
    find();
    fputs(failures ? "FAILED\n" : "ok\n", stdout);
    printf("%ld\n", call(SYS_getppid));
    fflush(stdout);
    call(SYS_exit_group, failures != 0);
}
