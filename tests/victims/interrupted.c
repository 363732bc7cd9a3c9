// A call that a signal interrupts.
//
//   interrupted eintr      a handler without SA_RESTART: the call fails
//   interrupted restart    one with it, which also sees to it that the call can end the second time
//   interrupted stop       stopped and continued while it sleeps: restart_syscall goes on with it
//   interrupted ignored    a signal that nobody handles
//
// Prints result and errno of the call, and how often the handler ran.

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int pair[2], handled;
static const char *how;

static void handler(int number)
{
    (void)number;
    handled++;
    if (strcmp(how, "restart") == 0 && write(pair[1], "x", 1) != 1)
        _exit(3);
}

// In what state is a process? A tracer's tracee that has been stopped is in 't'.
static char state(pid_t pid)
{
    char path[64], text[512];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    size_t got = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[got] = 0;
    return got ? strrchr(text, ')')[2] : 0;
}

// Waits until PID sleeps in its call, and disturbs it there.
static void disturb(pid_t pid, int number)
{
    for (int turn = 0; turn < 3; turn++) {
        while (state(pid) != 'S')
            sched_yield();
        kill(pid, number);
        if (number != SIGSTOP)
            return;
        while (state(pid) != 'T' && state(pid) != 't')
            sched_yield();
        kill(pid, SIGCONT);
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = handler};
    struct timespec time = {0, 300000000};
    char byte;
    long result;

    if (argc < 2 || pipe(pair))
        return 2;
    how = argv[1];
    int number = strcmp(how, "stop") == 0 ? SIGSTOP : strcmp(how, "ignored") == 0 ? SIGWINCH : SIGUSR1;
    action.sa_flags = strcmp(how, "restart") == 0 ? SA_RESTART : 0;
    sigaction(SIGUSR1, &action, NULL);
    pid_t helper = fork();
    if (helper == 0) {
        disturb(getppid(), number);
        _exit(0);
    }
    if (number == SIGUSR1)
        result = syscall(SYS_read, pair[0], &byte, 1);
    else
        result = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL);
    int error = result < 0 ? errno : 0;
    waitpid(helper, NULL, 0);
    printf("%ld %d %d\n", result, error, handled);
    return 0;
}
