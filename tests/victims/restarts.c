// Makes one call with a restarting handler set; prints its result and how often the handler ran.

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t count;

static void on_signal(int number)
{
    (void)number;
    count++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigaction(SIGUSR1, &action, NULL);
    long result = syscall(SYS_getppid);
    printf("%ld %d\n", result, (int)count);
    return 0;
}
