// Runs a program under plain seccomp filters, as a container or an older kernel would be around it.
//
//   outer_filter RULE... -- PROGRAM ARG...
//
// RULE is NR:ERRNO (the call fails), NR:ARG:BITS:ERRNO (it fails when one of these bits is set in that
// argument), or "listener" (a filter with a listener that this process keeps open).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void install(struct sock_filter *code, size_t count, unsigned long flags)
{
    struct sock_fprog program = {(unsigned short)count, code};

    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (result < 0) {
        perror("outer_filter: seccomp");
        exit(99);
    }
    if (flags)
        fcntl((int)result, F_SETFD, 0);
}

static void refuse(unsigned nr, unsigned arg, unsigned bits, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * arg),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, bits ? 1 : 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    install(code, sizeof code / sizeof *code, 0);
}

int main(int argc, char **argv)
{
    int i;

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        unsigned nr, arg = 0, bits = 0, error;
        if (strcmp(argv[i], "listener") == 0) {
            struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
            install(code, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER);
        } else if (sscanf(argv[i], "%u:%u:%u:%u", &nr, &arg, &bits, &error) == 4) {
            refuse(nr, arg, bits, error);
        } else if (sscanf(argv[i], "%u:%u", &nr, &error) == 2) {
            refuse(nr, 0, 0, error);
        } else {
            fprintf(stderr, "outer_filter: what is '%s'?\n", argv[i]);
            return 99;
        }
    }
    execvp(argv[i + 1], argv + i + 1);
    perror("outer_filter: execvp");
    return 99;
}
