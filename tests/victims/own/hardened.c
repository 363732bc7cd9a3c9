// Programs that make their text unchangeable: no new executable memory (PR_SET_MDWE), sealed mappings
// (mseal), no dumps (PR_SET_DUMPABLE); calls from code that ran before and from code that did not.

#include <sys/prctl.h>

#include "exact.h"

extern unsigned char pages_begin[], pages_end[];
long before(void);
long after(void);
long untouched(void);
__asm__(".text\n.balign 4096\npages_begin:\n"
        "before: mov $110, %eax\n syscall\n push %rbx\n pop %rbx\n ret\n"
        "after: mov $110, %eax\n syscall\n push %rbx\n pop %rbx\n ret\n"
        ".balign 4096\nuntouched: push $110\n pop %rax\n syscall\n push %rbx\n pop %rbx\n ret\n"
        ".balign 4096\npages_end:\n");

static void run(long (*function)(void))
{
    for (int i = 0; i < 2 * HOT; i++)
        same(function(), getppid());
}

static int child_of(int kind)
{
    fflush(stdout);
    pid_t child = fork();
    if (child)
        return ended(child);
    if (kind != 1)
        run(before);
    long done = 0;
    if (kind < 2)
        done = prctl(65 /* PR_SET_MDWE */, 1L, 0L, 0L, 0L);
    else if (kind < 4)
        done = call(462 /* mseal */, pages_begin, pages_end - pages_begin, 0);
    else
        done = prctl(PR_SET_DUMPABLE, 0);
    if (done)
        _exit(failures ? 1 : 70); // not in this kernel
    run(before);
    run(after);
    run(untouched);
    if (kind < 2) {
        void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        same(call(SYS_mprotect, at, PAGE, PROT_READ | PROT_EXEC), -EACCES);
        same(call(SYS_mprotect, pages_begin, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), -EACCES);
        same(prctl(66 /* PR_GET_MDWE */, 0L, 0L, 0L, 0L), 1);
    } else if (kind < 4) {
        same(call(SYS_mprotect, pages_begin, PAGE, PROT_READ), -EPERM);
        same(call(SYS_munmap, pages_begin, PAGE), -EPERM);
    }
    pid_t grandchild = fork();
    if (grandchild == 0) {
        run(untouched);
        _exit(failures != 0);
    }
    same(ended(grandchild), 0);
    if (kind == 4)
        same(prctl(PR_GET_DUMPABLE), 0);
    run(before);
    _exit(failures != 0);
}

int main(void)
{
    for (int kind = 0; kind < 5; kind++)
        printf("%d\n", child_of(kind));
    return finish();
}
