// vfork by hand: the child overwrites the stack that it shares with its parent, calls functions on it, makes
// calls from the same instructions, execs or exits, and forks in turn.

#include <spawn.h>

#include "exact.h"

// The child stores junk in 4 KiB around the stack pointer, then exits with 20 or execs. Nothing here needs a
// return address that was pushed before.
long clobbering(char *path, char **argv);
__asm__(".text\nclobbering:\n"
        "pop %rdx\n mov %rdi, %r8\n mov %rsi, %r9\n" // nothing on the stack is needed from here on
        "mov $58, %eax\n syscall\n push %rdx\n test %rax, %rax\n jz 1f\n ret\n"
        "1: mov $512, %ecx\n mov $0x4242424242424242, %rax\n"
        "2: push %rax\n dec %ecx\n jnz 2b\n"
        "mov $110, %eax\n syscall\n" // hot in both
        "mov %r8, %rdi\n mov %r9, %rsi\n xor %edx, %edx\n test %rdi, %rdi\n jz 3f\n mov $59, %eax\n syscall\n"
        "3: mov $20, %edi\n mov $60, %eax\n syscall\n ud2\n");

static volatile int handled, changed;
extern char **environ;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void other(int number)
{
    (void)number;
    changed++;
}

__attribute__((noinline)) static int nested(int depth)
{
    pid_t child = vfork();

    if (child == 0) {
        for (int i = 0; i < 5; i++)
            call(SYS_getppid);
        _exit(depth ? nested(depth - 1) + 1 : 5);
    }
    return ended(child);
}

int main(int argc, char **argv)
{
    char *again[] = {"vfork", "again", NULL};

    if (argc > 1)
        return argv[1][0] == 'a' ? 30 : 31;
    signal(SIGUSR1, on_signal);
    for (int round = 0; round < HOT; round++) {
        pid_t child = (pid_t)clobbering(NULL, NULL);
        same(ended(child), 20);
        child = (pid_t)clobbering("/nowhere/at/all", again);
        same(ended(child), 20);
        if (round % 4 == 0) {
            child = (pid_t)clobbering("/proc/self/exe", again);
            same(ended(child), 30);
            same(nested(5), 10);
        }
        // Memory is shared, handlers, masks and descriptors are not.
        volatile int shared = 1;
        sigset_t all, now;
        handled = 0;
        if ((child = vfork()) == 0) {
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, NULL);
            signal(SIGUSR1, other);
            signal(SIGSYS, SIG_IGN);
            close(1);
            shared = 2;
            _exit(0);
        }
        same(ended(child), 0);
        same(shared, 2);
        sigprocmask(SIG_BLOCK, NULL, &now);
        same(sigismember(&now, SIGUSR1), 0);
        raise(SIGUSR1);
        same(handled, 1);
        same(changed, 0);
        struct sigaction action;
        sigaction(SIGSYS, NULL, &action);
        check(action.sa_handler == SIG_DFL);
        check(write(1, "", 0) == 0);
        // A signal for the child is the child's.
        if ((child = vfork()) == 0) {
            kill(getpid(), SIGUSR1);
            _exit(handled == 2 ? 6 : 7);
        }
        same(ended(child), 6);
        same(handled, 2);
    }
    for (int round = 0; round < 10; round++) {
        pid_t child;
        same(posix_spawn(&child, "/proc/self/exe", NULL, NULL, again, environ), 0);
        same(ended(child), 30);
        same(posix_spawnp(&child, "no-such-command-anywhere", NULL, NULL, again, environ), ENOENT);
        same(system("exit 9") >> 8, 9);
        FILE *pipe = popen("echo one; exit 3", "r");
        char line[16] = "";
        check(fgets(line, sizeof line, pipe) && strcmp(line, "one\n") == 0);
        same(pclose(pipe) >> 8, 3);
    }
    return finish();
}
