// Executes COMMAND under the seccomp filter in FILE, an array of struct sock_filter.
// usage: filtered FILE COMMAND [ARG...]
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static struct sock_filter code[4096];
    FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;

    if (!file) {
        fprintf(stderr, "usage: %s FILE COMMAND [ARG...]\n", argv[0]);
        return 2;
    }
    struct sock_fprog program = {(unsigned short)fread(code, sizeof *code, 4096, file), code};
    fclose(file);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
        perror("seccomp");
        return 1;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
