// The program's own seccomp filter with SECCOMP_RET_TRAP and SIGSYS handler: what the handler is told, and
// what it answers instead. Calls that the filter allows stay as they are.

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "exact.h"

long caller(long number, long a, long b);
extern unsigned char caller_behind[];
__asm__(".text\ncaller:\n mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n xor %edx, %edx\n syscall\n"
        "caller_behind: ret\n");

static siginfo_t info_seen;
static greg_t regs_seen[NGREG];
static volatile int handled;
static bool answer;

static void on_sigsys(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)number;
    handled++;
    info_seen = *info;
    memcpy(regs_seen, regs, sizeof regs_seen);
    same(call(SYS_getppid), getppid());
    if (answer)
        regs[REG_RAX] = 1000 + regs[REG_RDI];
}

static void install(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | 77),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 600, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | 42),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    same(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    same(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void trapped(long number)
{
    answer = true;
    handled = 0;
    same(caller(number, 5, 6), 1005);
    same(handled, 1);
    same(info_seen.si_signo, SIGSYS);
    same(info_seen.si_code, 1 /* SYS_SECCOMP */);
    same(info_seen.si_errno, 42);
    same(info_seen.si_call_addr, caller_behind);
    same(info_seen.si_syscall, number);
    same(info_seen.si_arch, AUDIT_ARCH_X86_64);
    same(regs_seen[REG_RIP], caller_behind);
    same(regs_seen[REG_RAX], number);
    same(regs_seen[REG_RDI], 5);
    same(regs_seen[REG_RSI], 6);
    same(regs_seen[REG_RCX], caller_behind);
    answer = false;
    same(caller(number, 5, 6), number);
}

int main(void)
{
    long result;
    int status;

    handle(SIGSYS, on_sigsys, 0);
    for (int i = 0; i < HOT; i++) {
        same(caller(SYS_getpgrp, 0, 0), getpgrp());
        same(caller(600, 0, 0), -ENOSYS);
    }
    printf("seccomp %d\n", prctl(PR_GET_SECCOMP));
    fflush(stdout);
    install();
    same(prctl(PR_GET_SECCOMP), 2);
    for (int i = 0; i < HOT; i++) {
        trapped(SYS_getpgrp);
        trapped(600);
        same(caller(SYS_getppid, 0, 0), getppid());
    }
    // The old convention has another architecture.
    for (int i = 0; i < 10; i++) {
        handled = 0;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20), "b"(1) : "memory");
        same(result, 20);
        same(handled, 1);
        same(info_seen.si_arch, AUDIT_ARCH_I386);
        same(info_seen.si_syscall, 20);
        same(info_seen.si_errno, 77);
    }
    // A thread's or a child's filter is the same.
    pid_t child = fork();
    if (child == 0) {
        trapped(SYS_getpgrp);
        _exit(failures != 0);
    }
    same(ended(child), 0);
    // Ignored or blocked, it is deadly.
    for (int kind = 0; kind < 3; kind++) {
        if ((child = fork()) == 0) {
            sigset_t set;
            sigfillset(&set);
            if (kind == 0)
                sigprocmask(SIG_BLOCK, &set, NULL);
            else
                signal(SIGSYS, kind == 1 ? SIG_IGN : SIG_DFL);
            caller(SYS_getpgrp, 0, 0);
            _exit(3);
        }
        waitpid(child, &status, 0);
        printf("%x\n", status & 0x7f);
    }
    return finish();
}
