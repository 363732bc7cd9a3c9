// Prints what getppid returns: a rule for it shows whether anybody looks. With arguments, executes them
// behind that.
//
//   parent WORD...    execvp
//   parent +WORD...   in a child, and again prints it when that has ended

#include "exact.h"

int main(int argc, char **argv)
{
    printf("%ld\n", (long)syscall(SYS_getppid));
    fflush(stdout);
    if (argc > 1 && argv[1][0] == '+') {
        pid_t child = fork();
        if (child == 0) {
            argv[1]++;
            execvp(argv[1], argv + 1);
            _exit(127);
        }
        int status = ended(child);
        printf("%d %ld\n", status, (long)syscall(SYS_getppid));
        return 0;
    }
    if (argc > 1) {
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        return 127;
    }
    return 0;
}
