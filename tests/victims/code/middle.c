// Jumps to every instruction boundary around a hot `syscall`: each is where some other code goes on natively.
//
// Each function takes a number in edi and a place to enter in rsi (its own start: as a function); what it
// returns says which instructions ran.

#include "exact.h"

struct place {
    const char *name;
    unsigned char *at;
    long result; // with number getppid in eax, and rdx = 0
};

#define ENTER "mov %edi, %eax\n xor %edx, %edx\n jmp *%rsi\n"

// A constant in front: entered at the `syscall` itself with another number.
long constant(long number, void *place);
extern unsigned char constant_0[], constant_1[], constant_2[];
__asm__(".text\nconstant:\n" ENTER
        "constant_0: mov $110, %eax\nconstant_1: syscall\nconstant_2: add %rdx, %rax\n ret\n");

// One-byte instructions behind: every offset in the window is a boundary.
long behind(long number, void *place);
extern unsigned char behind_0[], behind_1[], behind_2[], behind_3[], behind_4[], behind_5[], behind_6[];
__asm__(".text\nbehind:\n" ENTER
        "behind_0: syscall\nbehind_1: push %rax\nbehind_2: nop\nbehind_3: pop %rdx\nbehind_4: clc\n"
        "behind_5: cltq\nbehind_6: lea 1(%rax), %rax\n ret\n");

// One-byte instructions in front.
long front(long number, void *place);
extern unsigned char front_0[], front_1[], front_2[], front_3[], front_4[], front_5[];
__asm__(".text\nfront:\n" ENTER
        "front_0: nop\nfront_1: cltq\nfront_2: nop\nfront_3: cwtl\nfront_4: cltq\nfront_5: syscall\n"
        " add %rdx, %rax\n ret\n");

// A two-byte and a three-byte instruction behind, then a loop whose head is in the middle of the window.
long loop(long number, void *place);
extern unsigned char loop_0[], loop_1[], loop_2[];
__asm__(".text\nloop:\n" ENTER
        "loop_0: syscall\nloop_1: inc %edx\nloop_2: inc %rax\n cmp $3, %edx\n jb loop_1\n ret\n");

// A branch from in front of the window to behind the `syscall`, as a library's cancellation check does.
long skip(long number, void *place);
extern unsigned char skip_0[], skip_1[], skip_2[];
__asm__(
    ".text\nskip:\n" ENTER
    "skip_0: test %edx, %edx\n jnz skip_2\nskip_1: syscall\nskip_2: inc %rax\n dec %edx\n jz skip_1\n ret\n");

static void enter(const char *name, long (*function)(long, void *), int index, void *at, long number)
{
    long seen = function(number, at);

    for (int i = 1; i < 5; i++)
        same(function(number, at), seen);
    printf("%s %d %ld: %ld\n", name, index, number,
           seen - (seen >= getppid() && seen < getppid() + 9 ? getppid() : 0));
}

#define ALL(name, places)                                                                                    \
    for (int round = 0; round < 3; round++) {                                                                \
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {                                        \
            enter(#name, name, (int)i, places[i], SYS_getppid);                                              \
            enter(#name, name, (int)i, places[i], 888);                                                      \
        }                                                                                                    \
        for (int i = 0; i < HOT; i++)                                                                        \
            name(SYS_getppid, places[0]);                                                                    \
    }

int main(void)
{
    void *constants[] = {constant_0, constant_1, constant_2};
    void *behinds[] = {behind_0, behind_4, behind_5, behind_6};
    void *fronts[] = {front_0, front_1, front_2, front_3, front_4, front_5};
    void *loops[] = {loop_0, loop_1, loop_2};
    void *skips[] = {skip_0, skip_1, skip_2};

    ALL(constant, constants);
    ALL(behind, behinds);
    ALL(front, fronts);
    ALL(loop, loops);
    ALL(skip, skips);
    // Where the stack is used, with something on it.
    for (int round = 0; round < 10; round++) {
        long seen;
        __asm__ volatile("push $0\n xor %%edx, %%edx\n push $77\n mov $5, %%eax\n lea 1f(%%rip), %%rcx\n"
                         "mov %%rcx, (%%rsp)\n lea -8(%%rsp), %%rsp\n movq $3, (%%rsp)\n jmp behind_2\n"
                         "1: add $8, %%rsp\n"
                         : "=a"(seen)::"rcx", "rdx", "memory");
        same(seen, 6);
    }
    return finish();
}
