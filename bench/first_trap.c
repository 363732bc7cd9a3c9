// Goes through two hundred `syscall` instructions again and again and prints what all of it took, per
// instruction, above as many passes of the usual length: nanoseconds until an instruction is as fast as it
// gets, whatever was done about it and however often it had to be caught before that. usage: first_trap
// [PASSES]
#include <stdio.h>

#include "stretches.h"

#define SITES     200
#define TEXT(x)   #x
#define NUMBER(x) TEXT(x)

void pass(void);
__asm__(".pushsection .text\n"
        "pass:\n"
        ".rept " NUMBER(SITES) "\n"
                               "mov $110, %eax\n" // getppid
                               "syscall\n"
                               ".endr\n"
                               "ret\n"
                               ".popsection\n");

int main(int argc, char **argv)
{
    enum { most = 1000 };
    static double took[most];
    int passes = argc > 1 ? atoi(argv[1]) : 30;
    double sum = 0;

    if (passes < 1 || passes > most) {
        fprintf(stderr, "usage: %s [PASSES, at most %d]\n", argv[0], most);
        return 2;
    }
    for (int i = 0; i < passes; i++) {
        double start = now();
        pass();
        took[i] = now() - start;
    }
    qsort(took, (size_t)passes, sizeof *took, by_size);
    for (int i = 0; i < passes; i++)
        if (took[i] > took[passes / 2])
            sum += took[i] - took[passes / 2];
    printf("%.1f\n", sum / SITES);
    return 0;
}
