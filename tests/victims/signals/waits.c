// Waiting for signals: sigsuspend, ppoll, pselect, epoll_pwait with masks of their own, sigwait, signalfd.
// SIGSYS is a signal like the others there.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <time.h>

#include "exact.h"

static volatile int handled, last;
static unsigned long inside;

static void on_signal(int number)
{
    handled++;
    last = number;
    call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &inside, 8);
}

static unsigned long mask_now(void)
{
    unsigned long mask;

    call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    return mask;
}

#define BIT(number) (1ul << ((number) - 1))
static const unsigned long all = ~(BIT(SIGKILL) | BIT(SIGSTOP));

// With everything blocked, a pending signal ends the call that unblocks just it; afterwards all is blocked
// again.
#define ENDS(number, ...)                                                                                    \
    do {                                                                                                     \
        unsigned long open = all & ~BIT(number);                                                             \
        (void)open;                                                                                          \
        handled = 0;                                                                                         \
        raise(number);                                                                                       \
        same(handled, 0);                                                                                    \
        same(call(__VA_ARGS__), -EINTR);                                                                     \
        same(handled, 1);                                                                                    \
        same(last, number);                                                                                  \
        same(inside, all);                                                                                   \
        same(mask_now(), all);                                                                               \
    } while (0)

int main(void)
{
    static const int numbers[] = {SIGUSR1, SIGSYS, 34, 64, SIGALRM};
    struct timespec zero = {0, 0}, minute = {60, 0};
    struct epoll_event event;
    int queue = epoll_create1(0);
    unsigned long everything = all;

    for (int i = 0; i < 5; i++)
        signal(numbers[i], on_signal);
    call(SYS_rt_sigprocmask, SIG_SETMASK, &everything, NULL, 8);
    for (int round = 0; round < HOT; round++) {
        int number = numbers[round % 5];
        unsigned long pending, only = BIT(number);
        siginfo_t info;

        ENDS(number, SYS_rt_sigsuspend, &open, 8);
        ENDS(number, SYS_ppoll, NULL, 0, NULL, &open, 8);
        ENDS(number, SYS_ppoll, NULL, 0, &minute, &open, 8);
        ENDS(number, SYS_pselect6, 0, NULL, NULL, NULL, NULL, (&(struct {
                 const void *set;
                 size_t size;
             }){&open, 8}));
        ENDS(number, SYS_epoll_pwait, queue, &event, 1, -1, &open, 8);
        ENDS(number, 441 /* epoll_pwait2 */, queue, &event, 1, &minute, &open, 8);
        minute = (struct timespec){60, 0};
        // Nothing pending: the mask of the call is gone when it returns.
        handled = 0;
        unsigned long none = 0;
        same(call(SYS_ppoll, NULL, 0, &zero, &none, 8), 0);
        same(call(SYS_epoll_pwait, queue, &event, 1, 0, &none, 8), 0);
        same(mask_now(), all);
        same(handled, 0);
        // With a null mask it stays as it is.
        raise(number);
        same(call(SYS_ppoll, NULL, 0, &zero, NULL, 8), 0);
        same(call(SYS_epoll_pwait, queue, &event, 1, 0, NULL, 8), 0);
        same(handled, 0);
        // sigwait takes it without a handler.
        memset(&info, 0, sizeof info);
        same(call(SYS_rt_sigtimedwait, &only, &info, &minute, 8), number);
        same(info.si_signo, number);
        same(info.si_code, SI_TKILL);
        same(handled, 0);
        same(call(SYS_rt_sigtimedwait, &only, &info, &zero, 8), -EAGAIN);
        same(call(SYS_rt_sigtimedwait, &only, &info, &zero, 16), -EINVAL);
        // So does a descriptor; of SIGSYS it never hears where that drives the calls.
        if (number == SIGSYS)
            continue;
        struct signalfd_siginfo from_fd;
        int fd = signalfd(-1, (sigset_t *)&only, SFD_NONBLOCK);
        raise(number);
        struct pollfd readable = {fd, POLLIN, 0};
        same(poll(&readable, 1, 0), 1);
        same(read(fd, &from_fd, sizeof from_fd), sizeof from_fd);
        same(from_fd.ssi_signo, number);
        same(read(fd, &from_fd, sizeof from_fd), -1);
        close(fd);
        call(SYS_rt_sigpending, &pending, 8);
        same(pending, 0);
        same(call(SYS_rt_sigsuspend, &pending, 4), -EINVAL);
        same(call(SYS_rt_sigsuspend, 8, 8), -EFAULT);
        same(call(SYS_ppoll, NULL, 0, &zero, 8, 8), -EFAULT);
        same(call(SYS_ppoll, NULL, 0, &zero, &none, 7), -EINVAL);
        same(mask_now(), all);
    }
    // A signal that comes while it waits, from another process.
    for (int round = 0; round < 20; round++) {
        unsigned long open = all & ~BIT(SIGUSR1);
        pid_t child = fork();
        if (child == 0) {
            kill(getppid(), SIGUSR1);
            _exit(0);
        }
        handled = 0;
        same(call(SYS_rt_sigsuspend, &open, 8), -EINTR);
        same(handled, 1);
        same(inside, all);
        same(mask_now(), all);
        same(ended(child), 0);
    }
    return finish();
}
