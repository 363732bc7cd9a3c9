// Ignored signals and children: SIG_IGN and SA_NOCLDWAIT reap, ignored signals interrupt nothing, and what is
// ignored or default after an exec.

#include <sys/time.h>

#include "exact.h"

static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void reaped(int line)
{
    pid_t child = fork();

    if (child == 0)
        _exit(3);
    // Waits until it is gone, and then there is nobody.
    if (waitpid(child, NULL, 0) != -1 || errno != ECHILD)
        failed(line, "child", " %d was left", child);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NOCLDWAIT | SA_RESTART};

    if (argc > 1) {
        for (int number = 1; number <= 64; number++) {
            struct sigaction now;
            if (number != 32 && number != 33 && sigaction(number, NULL, &now) == 0 &&
                now.sa_handler != SIG_DFL)
                printf("%d ", number);
        }
        return argv[1][0] != 'a';
    }
    for (int round = 0; round < 20; round++) {
        signal(SIGCHLD, SIG_IGN);
        reaped(__LINE__);
        sigaction(SIGCHLD, &action, NULL);
        reaped(__LINE__);
        signal(SIGCHLD, SIG_DFL);
        pid_t child = fork();
        if (child == 0)
            _exit(4);
        same(ended(child), 4);
    }
    check(handled >= 0);
    // An ignored signal, and one with a default that does nothing, end no call.
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int round = 0; round < 20; round++)
        same(usleep(2000), 0);
    setitimer(ITIMER_REAL, &never, NULL);
    for (int round = 0; round < 20; round++) {
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            for (int i = 0; i < 10; i++)
                kill(parent, SIGURG);
            _exit(0);
        }
        same(usleep(2000), 0);
        same(ended(child), 0);
    }
    // A pending signal that becomes ignored is gone.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGSYS);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    raise(SIGSYS);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGSYS, SIG_IGN);
    signal(SIGUSR1, on_signal);
    signal(SIGSYS, on_signal);
    handled = 0;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    same(handled, 0);
    raise(SIGSYS);
    same(handled, 1);
    for (int number = 1; number <= 64; number++)
        signal(number, number % 3 == 0 ? SIG_IGN : number % 3 == 1 ? on_signal : SIG_DFL);
    signal(SIGSYS, SIG_IGN);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        execl("/proc/self/exe", "ignored", "after", NULL);
    signal(SIGCHLD, SIG_DFL);
    int status = ended(child);
    check(status == 0 || status == -1000);
    return finish();
}
