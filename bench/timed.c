// Runs COMMAND without its output and prints the nanoseconds that it took.
// usage: timed [-w] [-e NAME=VALUE]... COMMAND [ARG...]
//   -w  wall time, from before it is started to its end; else CPU time, user and system
//   -e  something for its environment alone
//
// Run under a supervisor this leaves the supervisor's own start-up out. CPU time is for what a filter costs:
// that is CPU time, and other people's programs are not in it. A supervisor's share of the work is only in
// wall time.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stretches.h"

static double ns(struct timeval t)
{
    return (double)t.tv_sec * 1e9 + (double)t.tv_usec * 1e3;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    int status, option, wall = 0;
    char *given[64];
    size_t count = 0;

    while ((option = getopt(argc, argv, "+we:")) != -1) {
        if (option == 'e' && count < sizeof given / sizeof *given)
            given[count++] = optarg;
        else if (option == 'w')
            wall = 1;
        else
            return 2;
    }
    if (optind == argc) {
        fprintf(stderr, "usage: %s [-w] [-e NAME=VALUE]... COMMAND [ARG...]\n", argv[0]);
        return 2;
    }
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < count; i++)
            putenv(given[i]);
        dup2(open("/dev/null", O_WRONLY), 1);
        execvp(argv[optind], argv + optind);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) != pid || status) {
        fprintf(stderr, "'%s' ended with %s %d\n", argv[optind], WIFSIGNALED(status) ? "signal" : "status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        return 1;
    }
    printf("%.0f\n", wall ? now() - start : ns(usage.ru_utime) + ns(usage.ru_stime));
    return 0;
}
