// clone by hand, without the C library: with and without a thread-local storage of its own, thread ids stored
// and cleared, a futex that says that it ended, children that share memory but are no threads, clone3 with
// all of that.

#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>

#include "exact.h"

enum { STACK = 65536 };
static unsigned char *stacks;
static volatile int parent_tid, child_tid, ran[2];
static volatile long seen_tid, seen_parent, seen_word;
static unsigned long storage[64];

// Runs on a stack of its own, without any C library.
__attribute__((noinline, optimize("no-stack-protector"), used)) static void child_main(long kind)
{
    long failed_calls = 0;

    seen_tid = call(SYS_gettid);
    for (int i = 0; i < HOT; i++)
        failed_calls += call(SYS_getppid) != seen_parent;
    failed_calls += call(SYS_close, -1) != -EBADF;
    if (kind == 2) { // its own storage
        unsigned long word;
        __asm__ volatile("mov %%fs:8, %0" : "=r"(word));
        seen_word = (long)word;
    }
    ran[0] = 1;
    ran[1] = (int)failed_calls;
    call(SYS_exit, 77);
}

// clone(flags, stack, ptid, ctid, tls) or clone3(args, size); the child runs child_main(kind).
long start(long number, long a, long b, long c, long d, long e, long kind);
__asm__(".text\nstart:\n push %rbx\n mov 16(%rsp), %rbx\n mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n"
        "mov %rcx, %rdx\n mov %r8, %r10\n mov %r9, %r8\n syscall\n test %rax, %rax\n jz 1f\n pop %rbx\n ret\n"
        "1: xor %ebp, %ebp\n mov %rbx, %rdi\n and $-16, %rsp\n call child_main\n ud2\n");

static void wait_cleared(long tid)
{
    while (child_tid == tid)
        call(SYS_futex, &child_tid, FUTEX_WAIT, tid, NULL);
    same(child_tid, 0);
}

static void by_clone(int round, long flags, long kind)
{
    unsigned char *top = stacks + STACK - 64 - 16 * (round % 4);
    bool thread = flags & CLONE_THREAD;

    parent_tid = 0;
    child_tid = -1;
    ran[0] = ran[1] = 0;
    seen_parent = thread ? getppid() : getpid();
    long tid = start(SYS_clone, flags, (long)top, (long)&parent_tid, (long)&child_tid, (long)storage, kind);
    check(tid > 0);
    if (flags & CLONE_PARENT_SETTID)
        same(parent_tid, tid);
    if (flags & CLONE_CHILD_CLEARTID) {
        if (!(flags & CLONE_CHILD_SETTID))
            while (!ran[0])
                sched_yield();
        else
            while (child_tid == -1)
                sched_yield();
        if (flags & CLONE_CHILD_SETTID)
            wait_cleared(tid);
    }
    if (!thread)
        same(ended((pid_t)tid), 77);
    same(ran[0], 1);
    same(ran[1], 0);
    same(seen_tid, tid);
    if (kind == 2)
        same(seen_word, 0x7357);
}

static void by_clone3(int round, unsigned long flags, long kind, size_t size)
{
    struct clone_args args = {.flags = flags,
                              .stack = (unsigned long)stacks,
                              .stack_size = STACK - 64,
                              .parent_tid = (unsigned long)&parent_tid,
                              .child_tid = (unsigned long)&child_tid,
                              .tls = (unsigned long)storage,
                              .exit_signal = flags & CLONE_THREAD ? 0 : SIGCHLD};
    int pidfd = -1;

    (void)round;
    args.pidfd = (unsigned long)&pidfd;
    ran[0] = ran[1] = 0;
    child_tid = -1;
    seen_parent = flags & CLONE_THREAD ? getppid() : getpid();
    long tid = start(SYS_clone3, (long)&args, (long)size, 0, 0, 0, kind);
    check(tid > 0);
    if (flags & CLONE_CHILD_CLEARTID) {
        while (child_tid == -1)
            sched_yield();
        wait_cleared(tid);
    }
    if (flags & CLONE_PIDFD) {
        siginfo_t info;
        same(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
        same(info.si_status, 77);
        close(pidfd);
    } else if (!(flags & CLONE_THREAD)) {
        same(ended((pid_t)tid), 77);
    }
    same(ran[0], 1);
    same(ran[1], 0);
}

int main(void)
{
    enum {
        THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
        TIDS = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
    };
    struct clone_args large[2] = {{.exit_signal = SIGCHLD}};

    stacks = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    storage[0] = (unsigned long)storage;
    storage[1] = 0x7357;
    for (int round = 0; round < 20; round++) {
        by_clone(round, THREAD | TIDS, 1);
        by_clone(round, THREAD | TIDS | CLONE_SETTLS, 2);
        by_clone(round, CLONE_VM | SIGCHLD, 1);
        by_clone(round, CLONE_VM | CLONE_SETTLS | SIGCHLD, 2);
        by_clone(round, CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID | SIGCHLD, 1);
        by_clone(round, CLONE_VM | CLONE_VFORK | SIGCHLD, 1);
        by_clone(round, CLONE_VM, 1); // no signal: __WALL
        by_clone3(round, THREAD | TIDS, 1, sizeof(struct clone_args));
        by_clone3(round, THREAD | TIDS | CLONE_SETTLS, 2, 64);
        by_clone3(round, CLONE_VM | CLONE_PIDFD, 1, sizeof(struct clone_args));
        by_clone3(round, CLONE_VM | CLONE_VFORK, 1, sizeof(struct clone_args));
        by_clone3(round, CLONE_VM | CLONE_CLEAR_SIGHAND, 1, sizeof(struct clone_args));
        // What cannot be.
        same(call(SYS_clone, CLONE_THREAD), -EINVAL);
        same(call(SYS_clone, CLONE_SIGHAND | SIGCHLD), -EINVAL);
        same(call(SYS_clone3, large, 63), -EINVAL);
        same(call(SYS_clone3, large, 8192), -E2BIG);
        same(call(SYS_clone3, 8, 88), -EFAULT);
        memset(large + 1, 1, 8);
        same(call(SYS_clone3, large, sizeof *large + 8), -E2BIG);
        memset(large + 1, 0, 8);
        long child = call(SYS_clone3, large, sizeof *large + 8);
        if (child == 0)
            call(SYS_exit_group, 9);
        same(ended((pid_t)child), 9);
    }
    return finish();
}
