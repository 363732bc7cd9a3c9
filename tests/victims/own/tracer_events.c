// The program traces a child in other ways: breakpoints in hot code, single steps, stops while it waits, its
// signals, its forks and execs, seize and detach.

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "exact.h"

long parent_id(void);
extern unsigned char parent_id_at[], parent_id_behind[], parent_id_end[];
__asm__(
    ".text\n.balign 16\nparent_id: mov $110, %eax\nparent_id_at: syscall\nparent_id_behind: nop\n nop\n nop\n"
    "ret\nparent_id_end:\n");

static volatile int handled;
static int fds[2];

static void on_signal(int number)
{
    handled = number;
}

static void wait_stop(int line, pid_t child, int expected)
{
    int status = 0;

    if (waitpid(child, &status, __WALL) != child || !WIFSTOPPED(status) || status >> 8 != expected) {
        fprintf(stderr, "line %d: status %x, not %x\n", line, status, expected << 8 | 0x7f);
        kill(child, SIGKILL);
        exit(1);
    }
}

static struct user_regs_struct regs_of(pid_t child)
{
    struct user_regs_struct regs;

    check(ptrace(PTRACE_GETREGS, child, 0, &regs) == 0);
    return regs;
}

static void traced(void)
{
    char byte;
    long parent = getppid();

    signal(SIGUSR2, on_signal);
    for (int i = 0; i < HOT; i++)
        same(parent_id(), parent);
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    same(parent_id(), parent); // over a breakpoint
    same(parent_id(), parent); // in single steps
    raise(SIGUSR1);            // becomes SIGUSR2
    same(handled, SIGUSR2);
    handled = 0;
    raise(SIGTERM); // is held back
    pid_t child = fork();
    if (child == 0)
        _exit(12);
    waitpid(child, NULL, 0);
    if (read(fds[0], &byte, 1) != 1)
        _exit(2);
    for (int i = 0; i < 10; i++)
        same(parent_id(), parent);
    execl("/proc/self/exe", "tracer", failures ? "bad" : "good", NULL);
    _exit(3);
}

static void breakpoint(pid_t child, unsigned char *at)
{
    long word = ptrace(PTRACE_PEEKTEXT, child, at, 0);
    struct user_regs_struct regs;

    same(word & 0xff, *at); // the child's text is what it is in ours
    ptrace(PTRACE_POKETEXT, child, at, (word & ~0xffL) | 0xcc);
    ptrace(PTRACE_CONT, child, 0, 0);
    wait_stop(__LINE__, child, SIGTRAP);
    regs = regs_of(child);
    same(regs.rip, at + 1);
    ptrace(PTRACE_POKETEXT, child, at, word);
    regs.rip--;
    ptrace(PTRACE_SETREGS, child, 0, &regs);
}

int main(int argc, char **argv)
{
    struct user_regs_struct regs;
    siginfo_t info;
    unsigned long message;

    if (argc > 1)
        return strcmp(argv[1], "good") ? 1 : 33;
    if (pipe(fds))
        return 1;
    pid_t child = fork();
    if (child == 0)
        traced();
    wait_stop(__LINE__, child, SIGSTOP);
    ptrace(PTRACE_SETOPTIONS, child, 0,
           PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT);
    breakpoint(child, (unsigned char *)parent_id);
    // Steps from here to the end: each instruction of the function, none of anybody else.
    for (int i = 0; i < 6; i++) {
        regs = regs_of(child);
        printf("%ld ", (long)(regs.rip - (unsigned long)parent_id));
        ptrace(PTRACE_SINGLESTEP, child, 0, 0);
        wait_stop(__LINE__, child, SIGTRAP);
    }
    regs = regs_of(child);
    same(regs.rax, getpid());
    check(regs.rip < (unsigned long)parent_id || regs.rip >= (unsigned long)parent_id_end);
    breakpoint(child, (unsigned char *)parent_id);
    ptrace(PTRACE_CONT, child, 0, 0);
    wait_stop(__LINE__, child, SIGUSR1);
    check(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0);
    same(info.si_code, SI_TKILL);
    same(info.si_pid, child);
    ptrace(PTRACE_CONT, child, 0, SIGUSR2);
    wait_stop(__LINE__, child, SIGTERM);
    ptrace(PTRACE_CONT, child, 0, 0);
    wait_stop(__LINE__, child, SIGTRAP | PTRACE_EVENT_FORK << 8);
    ptrace(PTRACE_GETEVENTMSG, child, 0, &message);
    pid_t grandchild = (pid_t)message;
    wait_stop(__LINE__, grandchild, SIGSTOP);
    ptrace(PTRACE_DETACH, grandchild, 0, 0);
    ptrace(PTRACE_CONT, child, 0, 0);
    wait_stop(__LINE__, child, SIGCHLD);
    ptrace(PTRACE_CONT, child, 0, 0);
    same(write(fds[1], "x", 1), 1);
    wait_stop(__LINE__, child, SIGTRAP | PTRACE_EVENT_EXEC << 8);
    ptrace(PTRACE_CONT, child, 0, 0);
    wait_stop(__LINE__, child, SIGTRAP | PTRACE_EVENT_EXIT << 8);
    ptrace(PTRACE_GETEVENTMSG, child, 0, &message);
    same(message, 33 << 8);
    ptrace(PTRACE_CONT, child, 0, 0);
    same(ended(child), 33);
    puts("");

    // Seize one that waits in a call, look, and let it go: it never knows.
    child = fork();
    if (child == 0) {
        char byte;
        for (int i = 0; i < HOT; i++)
            parent_id();
        same(call(SYS_read, fds[0], &byte, 1), 1);
        _exit(failures ? 1 : 34);
    }
    same(ptrace(PTRACE_SEIZE, child, 0, 0), 0);
    for (int i = 0; i < 5; i++) {
        ptrace(PTRACE_INTERRUPT, child, 0, 0);
        wait_stop(__LINE__, child, SIGTRAP | PTRACE_EVENT_STOP << 8);
        struct iovec into = {&regs, sizeof regs};
        check(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &into) == 0);
        ptrace(PTRACE_CONT, child, 0, 0);
    }
    ptrace(PTRACE_INTERRUPT, child, 0, 0);
    wait_stop(__LINE__, child, SIGTRAP | PTRACE_EVENT_STOP << 8);
    same(ptrace(PTRACE_DETACH, child, 0, 0), 0);
    same(write(fds[1], "x", 1), 1);
    same(ended(child), 34);
    return finish();
}
