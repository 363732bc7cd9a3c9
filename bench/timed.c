// Runs COMMAND without its output and prints the nanoseconds of CPU time, user and system, that it took.
// usage: timed COMMAND [ARG...]
//
// Run under a supervisor this leaves the supervisor's own start-up out. CPU time and not wall time, because a
// filter's cost is CPU time and other people's programs are not.
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static double ns(struct timeval t)
{
    return (double)t.tv_sec * 1e9 + (double)t.tv_usec * 1e3;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    int status;

    if (argc < 2) {
        fprintf(stderr, "usage: %s COMMAND [ARG...]\n", argv[0]);
        return 2;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), 1);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) != pid || status) {
        fprintf(stderr, "%s: '%s' failed\n", argv[0], argv[1]);
        return 1;
    }
    printf("%.0f\n", ns(usage.ru_utime) + ns(usage.ru_stime));
    return 0;
}
