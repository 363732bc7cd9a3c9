// Restartable sequences: counters per processor are right although threads are interrupted by each other, by
// signals and by calls; a handler never finds itself inside a sequence.

#include <pthread.h>
#include <sys/rseq.h>
#include <sys/time.h>

#include "exact.h"

enum { THREADS = 4 };
unsigned long counters[1024][8];
extern unsigned char sequence_begin[], sequence_end[];
void count(void *area);
__asm__(".text\ncount:\n1: lea sequence(%rip), %rax\n lea counters(%rip), %rdx\n mov %rax, 8(%rdi)\n"
        "sequence_begin: mov 4(%rdi), %ecx\n shl $6, %rcx\n mov (%rdx,%rcx), %rax\n nop\n inc %rax\n"
        " mov %rax, (%rdx,%rcx)\n"
        "sequence_end: movq $0, 8(%rdi)\n ret\n"
        ".long 0x53053053\nsequence_abort: jmp 1b\n"
        ".data\n.balign 32\nsequence: .long 0, 0\n .quad sequence_begin, sequence_end - sequence_begin, "
        "sequence_abort\n"
        ".text\n");

static volatile long handled;
static long rounds;

static void on_alarm(int number, siginfo_t *info, void *context)
{
    unsigned char *at = (unsigned char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

    (void)number, (void)info;
    handled++;
    check(at <= sequence_begin || at >= sequence_end);
    same(call(SYS_getppid), getppid());
}

static void *area(void)
{
    char *self;

    __asm__("mov %%fs:0, %0" : "=r"(self));
    return self + __rseq_offset;
}

static void *work(void *unused)
{
    void *at = area();

    for (long i = 0; i < rounds; i++) {
        count(at);
        if (i % 64 == 0)
            same(call(SYS_getppid), getppid());
        if (i % 1024 == 0)
            call(SYS_sched_yield);
    }
    return unused;
}

int main(int argc, char **argv)
{
    struct itimerval often = {{0, 211}, {0, 211}}, never = {{0, 0}, {0, 0}};
    pthread_t ids[THREADS];
    unsigned long sum = 0;

    rounds = argc > 1 ? atol(argv[1]) : 100000;
    if (__rseq_size == 0) {
        puts("not registered");
        return 0;
    }
    handle(SIGALRM, on_alarm, SA_RESTART);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&ids[i], NULL, work, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < 1024; i++)
        sum += counters[i][0];
    same(sum, THREADS * (unsigned long)rounds);
    // It is the program's to take and to give back.
    same(call(SYS_rseq, (char *)area() + 32, 32, 0, 0x53053053), -EINVAL);
    same(call(SYS_rseq, area(), 32, 1, 0x1234), -EPERM);
    printf("%ld\n", call(SYS_rseq, area(), 32, 0, 0x53053053));
    same(call(SYS_rseq, area(), 32, 1, 0x53053053), 0);
    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    same(call(SYS_rseq, area(), 32, 0, 0x53053053), 0);
    return finish();
}
