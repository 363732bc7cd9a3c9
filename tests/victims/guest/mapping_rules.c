// What mmap, munmap, mprotect, mremap and brk say at their edges, and what is there afterwards.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define P 4096UL
static void say(const char *name, long result)
{
    printf("%s: %ld %s\n", name, result, result == -1 ? strerror(errno) : "ok");
}

static void say_mapped(const char *name, const void *result)
{
    printf("%s: %s\n", name, result == MAP_FAILED ? strerror(errno) : "ok");
}

static sigjmp_buf jb;
static void on(int s, siginfo_t *i, void *c)
{
    siglongjmp(jb, s * 100 + i->si_code);
}

static int touch(volatile char *p, int w)
{
    int r = sigsetjmp(jb, 1);
    if (r)
        return r;
    if (w)
        *p = 1;
    else
        (void)*p;
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    struct sigaction sa = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, 0);
    sigaction(SIGBUS, &sa, 0);
    say_mapped("mmap 0", mmap(0, 0, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    say_mapped("mmap no type", mmap(0, P, 3, MAP_ANONYMOUS, -1, 0));
    say_mapped("mmap both types 3", mmap(0, P, 3, MAP_ANONYMOUS | 3, -1, 0));
    say_mapped("mmap badfd", mmap(0, P, 3, MAP_PRIVATE, 999, 0));
    say_mapped("mmap misaligned off", mmap(0, P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 5));
    say_mapped("mmap huge", mmap(0, 1UL << 50, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    say_mapped("mmap -1", mmap(0, -1UL, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    say_mapped("mmap fixed misaligned",
               mmap((void *)123, P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    say_mapped("mmap fixed kernel",
               mmap((void *)0xffff800000000000UL, P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    say_mapped("mmap hint kernel",
               mmap((void *)0xffff800000000000UL, P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    ftruncate(fd, P + 100);
    int ro = open(argv[1], O_RDONLY), wo = open(argv[1], O_WRONLY), dir = open(".", O_RDONLY | O_DIRECTORY);
    say_mapped("mmap shared rw of ro", mmap(0, P, 3, MAP_SHARED, ro, 0));
    say_mapped("mmap private rw of ro", mmap(0, P, 3, MAP_PRIVATE, ro, 0));
    say_mapped("mmap of wo", mmap(0, P, 1, MAP_PRIVATE, wo, 0));
    say_mapped("mmap dir", mmap(0, P, 1, MAP_PRIVATE, dir, 0));
    say_mapped("mmap off overflow", mmap(0, P, 1, MAP_PRIVATE, fd, -4096L));
    say_mapped("mmap shared_validate bad flag", mmap(0, P, 3, MAP_SHARED_VALIDATE | 0x8000000, fd, 0));
    say_mapped("mmap shared_validate", mmap(0, P, 3, MAP_SHARED_VALIDATE, fd, 0));
    say_mapped("mmap prot 8", mmap(0, P, 8, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    say_mapped("mmap populate", mmap(0, P * 4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    say_mapped("mmap growsdown", mmap(0, P * 4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0));
    say_mapped("mmap stack norserve",
               mmap(0, P * 4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0));
    char *f = mmap(0, 3 * P, 3, MAP_SHARED, fd, 0);
    printf("touch file %d %d %d\n", touch(f, 1), touch(f + P, 1), touch(f + 2 * P, 1));
    ftruncate(fd, 0);
    printf("touch truncated %d\n", touch(f, 0));
    ftruncate(fd, P);
    char *a = mmap(0, 10 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say_mapped("noreplace over", mmap(a, P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    say("munmap middle", munmap(a + 3 * P, P));
    say_mapped("noreplace hole",
               mmap(a + 3 * P, P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    say("munmap 0", munmap(a, 0));
    say("munmap misaligned", munmap(a + 1, P));
    say("munmap hole", munmap(a + 5 * P, P));
    say("munmap hole again", munmap(a + 5 * P, P));
    say("munmap kernel", munmap((void *)0xffff800000000000UL, P));
    say("munmap wrap", munmap(a, -1UL));
    say("munmap unaligned size", munmap(a + 9 * P, 1));
    printf("touch after %d\n", touch(a + 9 * P, 0));
    // a: 0..4 mapped, 5 hole, 6..8 mapped, 9 hole
    say("mprotect over hole", mprotect(a + 4 * P, 3 * P, PROT_READ));
    printf("touch 4 w %d, 6 w %d\n", touch(a + 4 * P, 1), touch(a + 6 * P, 1));
    say("mprotect 0", mprotect(a, 0, PROT_READ));
    say("mprotect misaligned", mprotect(a + 1, P, PROT_READ));
    say("mprotect bad prot", mprotect(a, P, 0x1000));
    say("mprotect hole", mprotect(a + 5 * P, P, 3));
    say("mprotect none", mprotect(a, P, 0));
    printf("touch none %d\n", touch(a, 0));
    say("mprotect back", mprotect(a, 5 * P, 3));
    printf("touch %d\n", touch(a, 1));
    say("mprotect kernel", mprotect((void *)0xffff800000000000UL, P, 3));
    say("mprotect huge", mprotect(a, -1UL, 3));
    say("mprotect growsdown", mprotect(a, P, 3 | PROT_GROWSDOWN));
    say("mprotect growsup+down", mprotect(a, P, 3 | PROT_GROWSDOWN | PROT_GROWSUP));
    char *ros = mmap(0, P, PROT_READ, MAP_SHARED, ro, 0);
    say("mprotect w of shared ro", mprotect(ros, P, 3));
    say("pkey_mprotect -1", syscall(SYS_pkey_mprotect, a, P, 3, -1));
    // mremap
    say_mapped("mremap 0 new", mremap(a, P, 0, 0));
    say_mapped("mremap misaligned", mremap(a + 1, P, 2 * P, 1));
    say_mapped("mremap flags", mremap(a, P, P, 8));
    say_mapped("mremap hole", mremap(a + 5 * P, P, 2 * P, 1));
    say_mapped("mremap over hole", mremap(a + 4 * P, 3 * P, 4 * P, 1));
    say_mapped("mremap shrink over hole", mremap(a + 4 * P, 3 * P, P, 1));
    printf("6: %d\n", touch(a + 6 * P, 0));
    say_mapped("mremap nomove blocked", mremap(a, 2 * P, 3 * P, 0));
    say_mapped("mremap fixed no maymove", mremap(a, P, P, MREMAP_FIXED, a + 20 * P));
    say_mapped("mremap fixed overlap", mremap(a, 2 * P, 2 * P, MREMAP_FIXED | 1, a + P));
    say_mapped("mremap fixed misaligned", mremap(a, P, P, MREMAP_FIXED | 1, a + 1));
    say_mapped("mremap same", mremap(a, P, P, 0));
    a[0] = 'q';
    char *t = mmap(0, 4 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *m = mremap(a, P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, t);
    printf("mremap fixed %d %c %d\n", m == t, m[0], touch(a, 0));
    printf("tail %d\n", touch(t + P, 1));
    char *s = mmap(0, 2 * P, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s[0] = 'z';
    char *dup = mremap(s, 0, 2 * P, MREMAP_MAYMOVE);
    if (dup == MAP_FAILED)
        printf("mremap dup: %s\n", strerror(errno));
    else
        printf("mremap dup %c\n", dup[0]);
    say_mapped("mremap dup private", mremap(t, 0, P, MREMAP_MAYMOVE));
    s[0] = 'y';
    char *g = mmap(0, 64 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(g, 7, 64 * P);
    g = mremap(g, 64 * P, 1024 * P, MREMAP_MAYMOVE);
    printf("grow %d %d %d\n", g[0], g[64 * P - 1], g[1023 * P]);
    g = mremap(g, 1024 * P, P, 0);
    printf("shrunk %d %d\n", g[0], touch(g + P, 0));
    // brk
    char *b = sbrk(0);
    printf("brk same %d\n", (char *)syscall(SYS_brk, 0) == b);
    printf("brk grow %d\n", (char *)syscall(SYS_brk, b + 10 * P) == b + 10 * P);
    b[9 * P] = 1;
    printf("brk zero %d\n", b[5 * P]);
    printf("brk shrink %d\n", (char *)syscall(SYS_brk, b + P) == b + P);
    printf("touch beyond %d\n", touch((char *)(((uintptr_t)b + P + P - 1) & -P) + P, 0));
    printf("brk regrow %d\n", (char *)syscall(SYS_brk, b + 10 * P) == b + 10 * P);
    printf("zeroed %d\n", b[9 * P]);
    printf("brk low %d\n", (char *)syscall(SYS_brk, 16) == b + 10 * P);
    printf("brk high %d\n", (char *)syscall(SYS_brk, 0x7fffffffffff) == b + 10 * P);
    printf("brk odd %d\n", (char *)syscall(SYS_brk, b + 10 * P + 5) == b + 10 * P + 5);
    // madvise mincore msync mlock
    say("madvise", madvise(t, P, MADV_DONTNEED));
    say("madvise bad", madvise(t, P, 9999));
    say("madvise misaligned", madvise(t + 1, P, MADV_DONTNEED));
    say("madvise hole", madvise(a + 5 * P, P, MADV_DONTNEED));
    unsigned char v[4];
    say("mincore", mincore(t, P, v));
    say("mincore hole", mincore(a + 5 * P, P, v));
    say("msync hole", msync(a + 5 * P, P, MS_SYNC));
    say("msync", msync(f, P, MS_SYNC));
    say("msync bad", msync(f, P, 99));
    say("mlock", mlock(t, P));
    say("munlock", munlock(t, P));
    say("mlock hole", mlock(a + 5 * P, P));
    say("mlock2", syscall(SYS_mlock2, t, P, 1));
    say("munlockall", munlockall());
    say("membarrier query", syscall(SYS_membarrier, 0, 0, 0));
    say("membarrier reg", syscall(SYS_membarrier, 16, 0, 0));
    say("membarrier exp", syscall(SYS_membarrier, 8, 0, 0));
    say("membarrier bad", syscall(SYS_membarrier, 12345, 0, 0));
    int mf = memfd_create("x", 0);
    say("memfd trunc", ftruncate(mf, P));
    say_mapped("memfd map", mmap(0, P, 3, MAP_SHARED, mf, 0));
    say_mapped("locked", mmap(0, P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
    say("mbind", syscall(SYS_mbind, t, P, 0, 0, 0, 0));
    say_mapped("exec private", mmap(0, P, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char *pn = mmap(0, P, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("read into none", read(open("/proc/self/exe", O_RDONLY), pn, 10));
    say("write from hole", write(mf, a + 5 * P, 10));
    say("write none", write(mf, pn, 1));
    say("read into ro", read(open("/proc/self/exe", O_RDONLY), ros, 10));
    char *sh = mmap(0, 4 * P, 3, MAP_SHARED, fd, 0);
    say("trunc", ftruncate(fd, 4 * P));
    sh[3 * P] = 5;
    char *sm = mremap(sh, 4 * P, 8 * P, MREMAP_MAYMOVE);
    say_mapped("mremap file grow", sm);
    printf("%d %d\n", sm[3 * P], touch(sm + 5 * P, 0));
    char c = 0;
    pread(fd, &c, 1, 3 * P);
    printf("file %d\n", c);
    return 0;
}
