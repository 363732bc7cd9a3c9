// Every signal is blocked and sent by another process; each comes when it is unblocked, once and not before.

#include "exact.h"

static volatile int got[65];

static void on_signal(int number)
{
    got[number]++;
}

static bool is_meant(int number)
{
    return number != SIGKILL && number != SIGSTOP && number != SIGCHLD && number != SIGCONT && number != 32 &&
           number != 33;
}

static void send_all(pid_t pid)
{
    for (int number = 1; number <= 64; number++)
        if (is_meant(number))
            kill(pid, number);
}

static void change(int how, int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(how, &set, NULL);
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    pid_t self = getpid();

    for (int number = 1; number <= 64; number++) {
        if (!is_meant(number))
            continue;
        sigaction(number, &action, NULL);
        change(SIG_BLOCK, number);
    }
    pid_t child = fork();
    if (!child) {
        send_all(self);
        _exit(0);
    }
    same(waitpid(child, NULL, 0), child);
    // Calls that the agent has to do something for itself.
    sigaction(SIGUSR1, NULL, &action);
    child = fork();
    if (!child)
        _exit(0);
    same(waitpid(child, NULL, 0), child);
    for (int number = 1; number <= 64; number++) {
        if (!is_meant(number))
            continue;
        same(got[number], 0);
        change(SIG_UNBLOCK, number);
        same(got[number], 1);
    }
    // All at once, into one call.
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);
    child = fork();
    if (!child) {
        send_all(self);
        _exit(0);
    }
    same(waitpid(child, NULL, 0), child);
    sigprocmask(SIG_SETMASK, &none, NULL);
    getppid();
    for (int number = 1; number <= 64; number++)
        if (is_meant(number))
            same(got[number], 2);
    puts("ok");
    return failures != 0;
}
