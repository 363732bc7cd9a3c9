// `syscall` with prefixes, and `syscall` as the last bytes in front of pages that are not there.

#include "exact.h"

static unsigned char *code;

static void map(void)
{
    code = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(code, 0xcc, 2 * PAGE);
}

static long run(const void *bytes, size_t size)
{
    long (*function)(void);
    long result = 0, before;

    map();
    function = (void *)code;
    memcpy(code, bytes, size);
    mprotect(code, 2 * PAGE, PROT_READ | PROT_EXEC);
    before = function();
    for (int round = 0; round < HOT; round++)
        same(result = function(), before);
    munmap(code, 4 * PAGE);
    return result;
}

// A call that does not come back needs nothing behind it.
static void at_the_edge(void)
{
    static const unsigned char bytes[] = {0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05};
    static unsigned char stack[64 * PAGE] __attribute__((aligned(64)));
    static volatile int done;

    for (int round = 0; round < HOT / 4; round++) {
        map();
        memcpy(code + 2 * PAGE - sizeof bytes, bytes, sizeof bytes);
        munmap(code + 2 * PAGE, 2 * PAGE);
        mprotect(code, 2 * PAGE, PROT_READ | PROT_EXEC);
        done = 1;
        // CLONE_VM | CLONE_CHILD_CLEARTID: the child's stack has the code's address on top.
        *(void **)(stack + sizeof stack - 8) = code + 2 * PAGE - sizeof bytes;
        long result = 56;
        register long r10 __asm__("r10") = (long)&done;
        __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n ret\n1:"
                         : "+a"(result)
                         : "D"(0x200100 | SIGCHLD), "S"(stack + sizeof stack - 8), "d"(0L), "r"(r10)
                         : "rcx", "r11", "memory");
        check(result > 0);
        same(ended((pid_t)result), 0);
        same(done, 0);
        munmap(code, 2 * PAGE);
    }
}

// The page behind the `syscall` is made by the call itself.
static void made_by_the_call(void)
{
    static const unsigned char bytes[] = {0xb8, 10, 0, 0, 0, 0x0f, 0x05};

    for (int round = 0; round < HOT; round++) {
        long result;

        if (round % 10 == 0) {
            map();
            memcpy(code + PAGE - sizeof bytes, bytes, sizeof bytes);
            code[PAGE] = 0xc3;
        }
        mprotect(code, PAGE, PROT_READ | PROT_EXEC);
        mprotect(code + PAGE, PAGE, PROT_NONE);
        __asm__ volatile("call *%[at]"
                         : "=a"(result)
                         : [at] "r"(code + PAGE - sizeof bytes), "D"(code + PAGE), "S"((long)PAGE),
                           "d"((long)(PROT_READ | PROT_EXEC))
                         : "rcx", "r11", "memory");
        same(result, 0);
        if (round % 10 == 9)
            munmap(code, 4 * PAGE);
    }
}

int main(void)
{
    same(run("\xb8\x6e\0\0\0\x48\x0f\x05\xc3", 9), getppid());              // rex.w
    same(run("\xb8\x6e\0\0\0\x4f\x0f\x05\xc3", 9), getppid());              // rex.wrxb
    same(run("\xb8\x6e\0\0\0\x66\x0f\x05\xc3", 9), getppid());              // operand size
    same(run("\xb8\x6e\0\0\0\xf3\x0f\x05\xc3", 9), getppid());              // rep
    same(run("\xb8\x6e\0\0\0\xf2\x0f\x05\xc3", 9), getppid());              // repne
    same(run("\xb8\x6e\0\0\0\x2e\x66\x0f\x05\xc3", 10), getppid());         // two
    same(run("\x66\xb8\x6e\0\x0f\xb7\xc0\x0f\x05\xc3", 10), getppid());     // mov $110,%ax; movzx
    same(run("\x6a\x6e\x58\x0f\x05\xc3", 6), getppid());                    // push $110; pop %rax
    same(run("\x48\xc7\xc0\x6e\0\0\0\x0f\x05\xc3", 10), getppid());         // mov $110,%rax
    same(run("\x48\xb8\x6e\0\0\0\0\0\0\0\x0f\x05\xc3", 13), getppid());     // movabs $110,%rax
    same(run("\x41\xb8\x6e\0\0\0\x44\x89\xc0\x0f\x05\xc3", 12), getppid()); // mov $110,%r8d; mov %r8d,%eax
    at_the_edge();
    made_by_the_call();
    return finish();
}
