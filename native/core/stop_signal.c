#include "stop_signal.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "machine_context.h"

extern const char tl_wait_begin[], tl_wait_end[], tl_wait_skip_to[];

static void handle(int number, siginfo_t *info, void *context)
{
    uint64_t ip = tl_context_ip(context);

    (void)number;
    (void)info;
    if (ip >= (uintptr_t)tl_wait_begin && ip < (uintptr_t)tl_wait_end)
        tl_context_set_ip(context, (uintptr_t)tl_wait_skip_to);
}

int tl_stop_signal_claim(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int claimed;

    pthread_mutex_lock(&lock);
    for (int number = SIGRTMAX - 1; !claimed && number >= SIGRTMIN; number--) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
            action.sa_handler == SIG_DFL) {
            memset(&action, 0, sizeof action);
            action.sa_sigaction = handle;
            action.sa_flags = SA_SIGINFO;
            if (sigaction(number, &action, NULL) == 0)
                claimed = number;
        }
    }
    pthread_mutex_unlock(&lock);
    return claimed;
}

void tl_stop_signal_alone(int number)
{
    sigset_t set;

    sigfillset(&set);
    if (number)
        sigdelset(&set, number);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}
