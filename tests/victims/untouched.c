// Makes a call with known values in every register that carries an argument, and looks what is left in them.
//
//   untouched write     write(1, "hello\n", 6)
//   untouched fork      fork(), and the child looks as well
//
// Prints "kept" for each that found all as it was, or what it found.

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { nr_write = 1, nr_fork = 57 };
typedef unsigned long word;

static long make(long nr, word a[6])
{
    register word r10 __asm__("r10") = a[3];
    register word r8 __asm__("r8") = a[4];
    register word r9 __asm__("r9") = a[5];
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result), "+D"(a[0]), "+S"(a[1]), "+d"(a[2]), "+r"(r10), "+r"(r8), "+r"(r9)
                     : "a"(nr)
                     : "rcx", "r11", "memory");
    a[3] = r10;
    a[4] = r8;
    a[5] = r9;
    return result;
}
#else
enum { nr_write = 4, nr_fork = 2 };
typedef unsigned word;

static long make(long nr, word a[6])
{
    long result;

    // ebp is the compiler's own here, so that the sixth is left out.
    __asm__ volatile("int $0x80"
                     : "=a"(result), "+b"(a[0]), "+c"(a[1]), "+d"(a[2]), "+S"(a[3]), "+D"(a[4])
                     : "a"(nr)
                     : "memory");
    return result;
}
#endif

int main(int argc, char **argv)
{
    static char text[] = "hello\n";
    int forks = argc > 1 && strcmp(argv[1], "fork") == 0;
    word a[6] = {1, (word)text, sizeof text - 1, 0x44, 0x55, 0x66}, before[6];

    memcpy(before, a, sizeof a);
    long result = make(forks ? nr_fork : nr_write, a);
    if (forks && result > 0)
        waitpid((pid_t)result, NULL, 0);
    if (memcmp(a, before, sizeof a) == 0 && strcmp(text, "hello\n") == 0)
        puts("kept");
    else
        printf("%#lx %#lx %#lx %#lx %#lx %#lx\n", (long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4],
               (long)a[5]);
    return 0;
}
