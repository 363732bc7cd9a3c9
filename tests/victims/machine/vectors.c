// The whole extended state (x87, SSE, AVX, AVX-512, protection keys) before and after a call, in a forked
// child too, and after a signal whose handler overwrites it.

#include <cpuid.h>

#include "exact.h"

static unsigned char before[16384] __attribute__((aligned(64))), after[16384] __attribute__((aligned(64)));
static unsigned long components;

// XRSTOR, call, XSAVE: nothing in between that a compiler could use a vector register for.
__attribute__((noinline)) static long between(long number, long first, long second)
{
    unsigned long low = components & 0xffffffff, high = components >> 32;
    long result;

    __asm__ volatile(
        "mov %[low], %%rax\n mov %[high], %%rdx\n xrstor64 %[before]\n"
        "mov %[number], %%rax\n xor %%edx, %%edx\n xor %%r10d, %%r10d\n xor %%r8d, %%r8d\n syscall\n"
        "mov %%rax, %%rbx\n mov %[low], %%rax\n mov %[high], %%rdx\n xsave64 %[after]\n"
        "mov %%rbx, %[result]\n"
        : [after] "+m"(after), [result] "=&r"(result)
        : [before] "m"(before), [low] "r"(low), [high] "r"(high), [number] "r"(number), "D"(first),
          "S"(second)
        : "rax", "rbx", "rcx", "rdx", "r8", "r10", "r11", "memory");
    return result;
}

static void prepare(unsigned seed)
{
    unsigned eax, ebx, ecx, edx;

    memset(before, 0, sizeof before);
    for (int i = 32; i < 160; i++) // st0 to st7
        before[i] = (i - 32) % 16 < 10 ? (unsigned char)(seed = seed * 1103515245 + 12345) >> 1 : 0;
    for (int i = 160; i < 416; i++) // xmm0 to xmm15
        before[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
    *(uint16_t *)before = 0x027f;        // control word: double precision
    *(uint16_t *)(before + 2) = 0x3000;  // top of stack
    before[4] = 0xff;                    // all registers valid
    *(uint32_t *)(before + 24) = 0x7fa1; // mxcsr: round to zero, flush, a sticky flag
    *(uint64_t *)(before + 512) = components;
    for (int part = 2; part < 63; part++) {
        if (!(components >> part & 1))
            continue;
        __cpuid_count(0xd, part, eax, ebx, ecx, edx);
        for (unsigned i = 0; i < eax; i++)
            before[ebx + i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
        if (part == 9) // PKRU: key 0 stays usable
            *(uint64_t *)(before + ebx) = 0x55555550 ^ (seed & 0xf0);
    }
}

static void compare(int line)
{
    unsigned eax, ebx, ecx, edx;

    if (memcmp(before, after, 464))
        for (int i = 0; i < 464; i++)
            if ((i < 8 || i >= 24) && (i < 28 || i >= 32) && before[i] != after[i])
                failed(line, "legacy state", " differs at %d: %#x, was %#x", i, after[i], before[i]);
    for (int part = 2; part < 63; part++) {
        if (!(components >> part & 1))
            continue;
        __cpuid_count(0xd, part, eax, ebx, ecx, edx);
        if (!(after[512 + part / 8] >> part % 8 & 1))
            failed(line, "component", " %d is in its initial state", part);
        else if (memcmp(before + ebx, after + ebx, eax))
            failed(line, "component", " %d differs", part);
    }
}

static void clobber(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    __asm__ volatile("fninit\n pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm7, %%xmm7\n pcmpeqd %%xmm15, %%xmm15" ::
                         : "xmm0", "xmm7", "xmm15");
}

int main(void)
{
    unsigned eax, ebx, ecx, edx;

    __cpuid(1, eax, ebx, ecx, edx);
    if (ecx >> 27 & 1) {
        __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
        components = eax & ~(3u << 3) & 0x2ff; // not MPX
    }
    if (components < 3)
        return finish();
    handle(SIGUSR1, clobber, 0);
    for (unsigned round = 0; round < HOT; round++) {
        prepare(round);
        same(between(SYS_getppid, 0, 0), getppid());
        compare(__LINE__);
        prepare(round + 1);
        same(between(SYS_rt_sigprocmask, SIG_BLOCK, 0), -EINVAL);
        compare(__LINE__);
        prepare(round + 2);
        same(between(SYS_kill, getpid(), SIGUSR1), 0);
        compare(__LINE__);
        prepare(round + 3);
        same(between(1000, 0, 0), -ENOSYS);
        compare(__LINE__);
        if (round % 20 == 19) {
            prepare(round + 4);
            pid_t child = (pid_t)between(SYS_clone, SIGCHLD, 0);
            compare(__LINE__);
            if (child == 0)
                _exit(failures != 0);
            same(ended(child), 0);
        }
    }
    return finish();
}
