// What comes with a signal: codes, senders, values, queues in order, timers, children, faults, descriptors.

#include <fcntl.h>
#include <time.h>

#include "exact.h"

static siginfo_t infos[64];
static volatile int count, told;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    if (count < 64)
        infos[count++] = *info;
    same(call(SYS_getppid), getppid());
}

static void block(int how, int from, int to)
{
    sigset_t set;

    sigemptyset(&set);
    for (int number = from; number <= to; number++)
        sigaddset(&set, number);
    sigprocmask(how, &set, NULL);
}

static void queues(void)
{
    static const int order[] = {40, 36, 40, 38, 36, 40, SIGUSR1, 36, SIGSYS, SIGUSR1};
    int at = 0;

    count = 0;
    block(SIG_BLOCK, 1, 64);
    for (int i = 0; i < 10; i++)
        same(sigqueue(getpid(), order[i], (union sigval){.sival_int = 100 + i}), 0);
    for (int i = 0; i < 40; i++) // calls go on meanwhile
        same(call(SYS_getppid), getppid());
    sigset_t pending;
    sigpending(&pending);
    check(sigismember(&pending, 36) && sigismember(&pending, SIGSYS) && !sigismember(&pending, 37));
    block(SIG_UNBLOCK, 1, 64);
    same(count, 9);
    for (int i = 0; i < count && !told; i++)
        printf("%d=%d ", infos[i].si_signo, infos[i].si_value.sival_int);
    told = 1;
    for (int number = 64; number > 0; number--)
        for (int i = 0, values = 0; i < count; i++)
            if (infos[i].si_signo == number) {
                same(infos[i].si_code, SI_QUEUE);
                same(infos[i].si_pid, getpid());
                same(infos[i].si_uid, getuid());
                check(infos[i].si_value.sival_int > values);
                values = infos[i].si_value.sival_int;
                at++;
            }
    same(at, count);
}

static void senders(void)
{
    siginfo_t own = {.si_signo = 37, .si_code = -60};

    count = 0;
    kill(getpid(), SIGUSR1);
    same(infos[0].si_code, SI_USER);
    same(infos[0].si_pid, getpid());
    raise(SIGUSR1);
    same(infos[1].si_code, SI_TKILL);
    own.si_value.sival_ptr = (void *)0x123456789abcdef0;
    same(call(SYS_rt_sigqueueinfo, getpid(), 37, &own), 0);
    same(infos[2].si_code, -60);
    same((long)infos[2].si_value.sival_ptr, 0x123456789abcdef0);
    same(call(SYS_rt_tgsigqueueinfo, getpid(), call(SYS_gettid), 37, &own), 0);
    same(infos[3].si_code, -60);
    // SIGSYS with the codes of those who use it, by hand.
    for (int code = -3; code <= 0; code++) {
        siginfo_t like = {.si_code = code};
        count = 0;
        same(call(SYS_rt_sigqueueinfo, getpid(), SIGSYS, &like), 0);
        same(count, 1);
        same(infos[0].si_signo, SIGSYS);
        same(infos[0].si_code, code);
    }
    count = 0;
    raise(SIGSYS);
    same(infos[0].si_code, SI_TKILL);
    same(infos[0].si_pid, getpid());
}

static void timers(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 39, .sigev_value.sival_int = 4242};
    struct itimerspec soon = {.it_value.tv_nsec = 1000};
    timer_t timer;

    count = 0;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &soon, NULL);
    while (!count)
        sched_yield();
    same(infos[0].si_code, SI_TIMER);
    same(infos[0].si_value.sival_int, 4242);
    same(infos[0].si_overrun, 0);
    timer_delete(timer);
}

static void children(void)
{
    for (int kind = 0; kind < 3; kind++) {
        count = 0;
        block(SIG_BLOCK, SIGCHLD, SIGCHLD);
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_DFL);
            if (kind == 0)
                _exit(55);
            raise(kind == 1 ? SIGTERM : SIGSTOP);
            pause();
        }
        while (!count)
            sigsuspend(&(sigset_t){0});
        same(infos[0].si_signo, SIGCHLD);
        same(infos[0].si_code, kind == 0 ? CLD_EXITED : kind == 1 ? CLD_KILLED : CLD_STOPPED);
        same(infos[0].si_status, kind == 0 ? 55 : kind == 1 ? SIGTERM : SIGSTOP);
        same(infos[0].si_pid, child);
        signal(SIGCHLD, SIG_DFL);
        kill(child, SIGKILL);
        check(ended(child) != -1000);
        handle(SIGCHLD, on_signal, SA_RESTART);
        block(SIG_UNBLOCK, SIGCHLD, SIGCHLD);
    }
}

static void descriptors(void)
{
    int fds[2];

    count = 0;
    check(pipe(fds) == 0);
    fcntl(fds[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    fcntl(fds[0], F_SETOWN, getpid());
    fcntl(fds[0], F_SETSIG, 41);
    same(write(fds[1], "x", 1), 1);
    while (!count)
        sched_yield();
    same(infos[0].si_signo, 41);
    same(infos[0].si_fd, fds[0]);
    same(infos[0].si_code, POLL_IN);
    close(fds[0]);
    count = 0;
    same(write(fds[1], "x", 1), -1);
    same(errno, EPIPE);
    same(infos[0].si_signo, SIGPIPE);
    close(fds[1]);
}

int main(void)
{
    for (int number = 1; number <= 64; number++)
        if (number != 32 && number != 33)
            handle(number, on_signal, SA_RESTART);
    for (int round = 0; round < 20; round++) {
        queues();
        senders();
        timers();
        children();
        descriptors();
    }
    return finish();
}
