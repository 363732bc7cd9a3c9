// Threads race through call sites while these get patched: every thread runs through the same fresh code.
//
//   race THREADS SITES CALLS   calls per thread and site; prints how many calls returned what
//
// A site is a function of its own in memory made at run time, of one of four shapes and at any distance from
// the edge of a cache line; rdx tells that what is around the call was executed once.

#include <pthread.h>

#include "exact.h"

static const unsigned char shapes[4][32] = {
    // mov $110,%eax; syscall; mov $3,%edx; ret
    {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xba, 3, 0, 0, 0, 0xc3},
    // push $110; pop %rax; xor %edx,%edx; syscall; inc %edx; inc %edx; inc %edx; ret
    {0x6a, 0x6e, 0x58, 0x31, 0xd2, 0x0f, 0x05, 0xff, 0xc2, 0xff, 0xc2, 0xff, 0xc2, 0xc3},
    // mov $3,%edx; mov $110,%eax; syscall; push %rbx; pop %rbx; nop; nop; ret
    {0xba, 3, 0, 0, 0, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0x53, 0x5b, 0x90, 0x90, 0xc3},
    // mov $110,%edi; mov %edi,%eax; mov $3,%dl; movzx %dl,%edx; syscall; cld; ret
    {0xbf, 0x6e, 0, 0, 0, 0x89, 0xf8, 0xb2, 3, 0x0f, 0xb6, 0xd2, 0x0f, 0x05, 0xfc, 0xc3},
};

static unsigned char *code;
static int threads, sites, calls;
static pthread_barrier_t start;

struct worker {
    pthread_t thread;
    long parent, other, wrong_around;
};

static size_t at(int site)
{
    return 128 * (size_t)site + (size_t)site * 3 % 96;
}

static void *work(void *argument)
{
    struct worker *self = argument;
    long parent = getppid();

    pthread_barrier_wait(&start);
    for (int site = 0; site < sites; site++) {
        for (int i = 0; i < calls; i++) {
            long result, around;

            __asm__ volatile("call *%[site]"
                             : "=a"(result), "=d"(around)
                             : [site] "r"(code + at(site))
                             : "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
            if (result == parent)
                self->parent++;
            else
                self->other = result;
            self->wrong_around += around != 3;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct worker *workers;
    long parents = 0, other = 0, wrong = 0;
    size_t size;

    threads = argc > 1 ? atoi(argv[1]) : 8;
    sites = argc > 2 ? atoi(argv[2]) : 500;
    calls = argc > 3 ? atoi(argv[3]) : 50;
    size = (128 * (size_t)sites + PAGE - 1) / PAGE * PAGE;
    code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(code, 0xcc, size);
    for (int site = 0; site < sites; site++)
        memcpy(code + at(site), shapes[site % 4], 32);
    mprotect(code, size, PROT_READ | PROT_EXEC);
    workers = calloc((size_t)threads, sizeof *workers);
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            return 2;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        parents += workers[i].parent;
        wrong += workers[i].wrong_around;
        if (workers[i].other)
            other = workers[i].other;
    }
    printf("%ld returned the parent's id, others such as %ld, %ld with something wrong around\n", parents,
           other, wrong);
    same(wrong, 0);
    return argc > 4 ? 0 : finish();
}
