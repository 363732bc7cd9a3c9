// Stacks: deep ones, big ones, one that grows, one for signals, and jumps off them.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf back;
static char *alternate;
static volatile int on_alternate;

__attribute__((noinline)) static unsigned long deep(unsigned n)
{
    volatile char room[1000];

    room[n % 1000] = (char)n;
    return n ? deep(n - 1) + (unsigned char)room[n % 1000] : 0;
}

__attribute__((noinline)) static int endless(int n)
{
    volatile char room[4096];

    room[0] = (char)n;
    return endless(n + 1) + room[0];
}

static void overflow(int number)
{
    char here;

    (void)number;
    on_alternate = &here >= alternate && &here < alternate + 65536;
    siglongjmp(back, 1);
}

static void leave(int number)
{
    siglongjmp(back, number);
}

static void *big(void *argument)
{
    memset(__builtin_alloca(60 << 20), 1, 60 << 20);
    return argument;
}

int main(void)
{
    struct sigaction action = {.sa_handler = overflow, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_size = 65536};
    pthread_attr_t attributes;
    pthread_t thread;
    volatile int jumps = 0;
    int before = (int)syscall(SYS_gettid);

    printf("deep %lu\n", deep(6000));
    alternate = stack.ss_sp = malloc(65536);
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    for (volatile int i = 0; i < 3; i++)
        if (!sigsetjmp(back, 1))
            endless(0);
        else
            printf("overflow, handled on its own stack %d\n", on_alternate);
    signal(SIGUSR1, leave);
    for (volatile int i = 0; i < 200; i++)
        if (!sigsetjmp(back, 1))
            raise(SIGUSR1);
        else
            jumps++;
    printf("left %d handlers by a jump\n", jumps);

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 20);
    printf("big %d\n", pthread_create(&thread, &attributes, big, NULL));
    pthread_join(thread, NULL);

    char *grows =
        mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
    grows[0] = 1;
    printf("grows %d\n", grows != MAP_FAILED);
    printf("the same thread %d\n", before == (int)syscall(SYS_gettid));
    return 0;
}
