// Makes one system call COUNT times in each of THREADS threads, by an instruction of its own and without a
// libc's function round it, and prints nanoseconds per call as loop.c does. usage: calls getppid|invalid
// COUNT [THREADS [native|allowed|handled]]
//   native   nothing else
//   allowed  Syscall User Dispatch is on, exclusively, and all code of this program is in the allowed range:
//            what every engine that builds on it has to pay at least
//   handled  it is on, and a SIGSYS handler of a few lines makes each call: what catching one costs at least
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "stretches.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif
// Not a call, and below 512, where peers that jump by the number end.
#define INVALID 511
#define ALLOWED __attribute__((section("allowed"), noinline))

enum { off, on, most_threads = 64 };

extern char __executable_start[], etext[], __start_allowed[], __stop_allowed[];
static const char *range_start;
static long range_length;
static int invalid;
static long count;

ALLOWED static long allowed_call(long nr, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0;

    __asm__ volatile("syscall"
                     : "+a"(nr)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return nr;
}

ALLOWED static void handle(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)signal;
    registers[REG_RAX] = allowed_call(info->si_syscall, registers[REG_RDI], registers[REG_RSI],
                                      registers[REG_RDX], registers[REG_R10]);
}

// libc's would be caught in its turn.
__asm__(".pushsection allowed, \"ax\", @progbits\n"
        "restore: mov $15, %eax\n"
        "syscall\n"
        ".popsection\n");
extern char restore[] __attribute__((visibility("hidden")));

static void install_handler(void)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {handle, SA_SIGINFO | SA_NODEFER | SA_RESTORER, restore, 0};

    allowed_call(SYS_rt_sigaction, SIGSYS, (long)&action, 0, sizeof action.mask);
}

static long dispatch(int mode)
{
    return allowed_call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, mode, mode == on ? (long)range_start : 0,
                        mode == on ? range_length : 0);
}

static void repeat(long times)
{
    long result;

    if (range_length)
        dispatch(on);
    if (invalid)
        for (long i = 0; i < times; i++)
            __asm__ volatile("mov %1, %%eax\n\tsyscall"
                             : "=&a"(result)
                             : "i"(INVALID)
                             : "rcx", "r11", "memory");
    else
        for (long i = 0; i < times; i++)
            __asm__ volatile("mov %1, %%eax\n\tsyscall"
                             : "=&a"(result)
                             : "i"(SYS_getppid)
                             : "rcx", "r11", "memory");
    if (range_length)
        dispatch(off);
}

static void *thread_main(void *barrier)
{
    pthread_barrier_wait(barrier);
    repeat(count);
    return NULL;
}

static double several(int threads)
{
    pthread_t thread[most_threads];
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, thread_main, &barrier);
    pthread_barrier_wait(&barrier);
    double start = now();
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    return (now() - start) / (double)count / threads;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 4 ? argv[4] : "native";
    int threads = argc > 3 ? atoi(argv[3]) : 1;

    if (argc < 3 || (strcmp(argv[1], "getppid") && strcmp(argv[1], "invalid")) || threads < 1 ||
        threads > most_threads || (count = atol(argv[2])) < 1) {
        fprintf(stderr, "usage: %s getppid|invalid COUNT [THREADS [native|allowed|handled]]\n", argv[0]);
        return 2;
    }
    invalid = !strcmp(argv[1], "invalid");
    if (!strcmp(mode, "allowed")) {
        range_start = __executable_start;
        range_length = etext - __executable_start;
    } else if (!strcmp(mode, "handled")) {
        range_start = __start_allowed;
        range_length = __stop_allowed - __start_allowed;
        install_handler();
    }
    if (range_length && (dispatch(on) || dispatch(off))) {
        fprintf(stderr, "%s: Syscall User Dispatch is not to be had here\n", argv[0]);
        return 1;
    }
    printf("%.2f\n", threads > 1 ? several(threads) : by_stretches(repeat, count));
    return 0;
}
